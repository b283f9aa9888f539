"""The EAGLE proposer beside a computation without any cache, over lives full of rejection."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from outrider.kernels.sample import Draw, sample
from outrider.speculative.eagle import EagleConfig, EagleHead
from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head
from outrider.speculative.eagle_proposer import KEPT, EagleProposer
from outrider.speculative.growth import MIN_CHANCE
from outrider.speculative.proposer import Draft, DraftRequest, Features

BLOCK_SIZE = 8
HIDDEN_SIZE = 32
VOCAB_SIZE = 40
MAX_TOKENS = 6


LAYER = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB_SIZE,
}
Head = EagleHead | Eagle3Head


def make_eagle() -> EagleHead:
    head = EagleHead(EagleConfig(**LAYER))
    with torch.no_grad():
        head.fc.weight *= 6.0
    return head


def make_eagle3() -> Eagle3Head:
    head = Eagle3Head(Eagle3Config(**LAYER, target_hidden_size=HIDDEN_SIZE, draft_vocab_size=24, tap_layers=(0, 1, 2)))
    head.use_vocabulary(torch.randperm(VOCAB_SIZE)[:24].sort().values)
    head.lm_head.weight.data *= 6.0
    return head


@pytest.fixture(scope="module", params=[make_eagle, make_eagle3], ids=["eagle", "eagle3"])
def head(request) -> Head:
    torch.manual_seed(0)
    return request.param().requires_grad_(False)


EMBEDDING = torch.randn(VOCAB_SIZE, HIDDEN_SIZE, generator=torch.Generator().manual_seed(1))
OUTPUT = torch.randn(HIDDEN_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(2))  # the target's


def num_features(head: Head) -> int:
    return HIDDEN_SIZE * (len(head.config.tap_layers) or 1)


def taps(head: Head, text: Sequence[int]) -> torch.Tensor:
    """What the target gives at each place of a text, (len(text), num_features): each its own."""
    seeds = [hash(tuple(text[: place + 1])) % 2**31 for place in range(len(text))]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(num_features(head), generator=generator) for generator in generators])


def output_layer(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ OUTPUT


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[0].transpose(0, 1)


def probabilities(head: Head, text: Sequence[int], drafted: Sequence[int], base: int = 0) -> torch.Tensor:
    """What the head says behind a text and what it has drafted, all computed anew: (VOCAB_SIZE,)."""
    features = list(head.fuse(taps(head, text)[base : len(text) - 1]))
    tokens = list(text[base + 1 :])
    for token_id in [None, *drafted]:
        if token_id is not None:
            features.append(output)  # noqa: F821 - of the round before
            tokens.append(token_id)
        positions = torch.arange(len(tokens))
        output = head(EMBEDDING[tokens], torch.stack(features), positions, attend)[-1]
    guesses = head.guesses(output, output_layer).softmax(-1)
    found = torch.zeros(VOCAB_SIZE)
    found[head.to_target(torch.arange(len(guesses)))] = guesses
    return found


class Life:
    """One request as an engine leads it."""

    def __init__(self, head: Head, name: str, prompt: list[int], first_block: int = 0) -> None:
        self.head, self.name, self.text, self.num_known, self.epoch = head, name, prompt, 0, 0
        self.blocks = list(range(first_block, first_block + 16))

    def features(self, stop: int | None = None) -> Features:
        """Of the places that were not told of yet, all but the newest token's."""
        start, stop = self.num_known, len(self.text) - 1 if stop is None else stop
        self.num_known = stop
        return Features(self.name, start, stop, self.epoch, taps(self.head, self.text)[start:stop], None)

    def request(self, **options) -> DraftRequest:
        return DraftRequest(self.name, self.text, MAX_TOKENS, block_ids=self.blocks, epoch=self.epoch, **options)


def make(head: Head) -> EagleProposer:
    proposer = EagleProposer(head, lambda ids: EMBEDDING[ids], output_layer, BLOCK_SIZE)
    proposer.allocate_cache(64)
    return proposer


def paths(draft: Draft) -> list[list[int]]:
    """The tokens that lead to each node, its own last."""
    parents = draft.parents or tuple(range(-1, len(draft.token_ids) - 1))
    found: list[list[int]] = []
    for token_id, parent in zip(draft.token_ids, parents, strict=True):
        found.append([*(found[parent] if parent >= 0 else []), token_id])
    return found


def check(head: Head, text: Sequence[int], draft: Draft, base: int = 0) -> None:
    """Every node's score is the head's own word, and the first choice is among the nodes."""
    for path, score in zip(paths(draft), draft.scores, strict=True):
        assert abs(float(probabilities(head, text, path[:-1], base)[path[-1]]) - score) < 1e-3
    first = probabilities(head, text, [], base)
    if float(first.max()) > MIN_CHANCE:
        assert [int(first.argmax())] in paths(draft)


def test_nodes_are_what_the_head_says_in_any_life(head) -> None:
    """After full, partial and no acceptance, of two requests at once, with prompts in pieces."""
    generator = random.Random(5)
    proposer = make(head)
    lives = [Life(head, str(i), [generator.randrange(VOCAB_SIZE) for _ in range(9 + 4 * i)], 20 * i) for i in range(2)]
    proposer.observe([life.features(5) for life in lives])
    num_nodes = deepest = 0
    for _ in range(12):
        proposer.observe([life.features() for life in lives])
        for life, draft in zip(lives, proposer.propose([life.request() for life in lives]), strict=True):
            check(head, life.text, draft)
            assert len(draft.token_ids) <= MAX_TOKENS
            num_nodes += len(draft.token_ids)
            longest = max(paths(draft), key=len, default=[])
            deepest = max(deepest, len(longest))
            accepted = longest[: generator.randrange(len(longest) + 1)]
            life.text = [*life.text, *accepted, generator.randrange(VOCAB_SIZE)]
    assert num_nodes > 50
    assert deepest > 2


def test_behind_cached_blocks_the_head_begins_there(head) -> None:
    """What it reads are the features from there on, as if the text began there."""
    life = Life(head, "a", [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4])
    life.num_known = BLOCK_SIZE
    proposer = make(head)
    for _ in range(4):
        proposer.observe([life.features()])
        (draft,) = proposer.propose([life.request()])
        check(head, life.text, draft, base=BLOCK_SIZE)
        life.text = [*life.text, *draft.token_ids[:1], 7]


def test_what_was_missed_is_left_out(head) -> None:
    """It goes on at the next block, and offers nothing until then."""
    life = Life(head, "a", [1, 2, 3])
    proposer = make(head)
    proposer.observe([life.features()])
    life.text, life.num_known = [*life.text, *range(10)], 10  # places that nobody told of
    for token_id in range(20, 32):
        proposer.observe([life.features()])
        (draft,) = proposer.propose([life.request()])
        if len(life.text) - 1 <= 2 * BLOCK_SIZE:
            assert not draft.token_ids
        else:
            check(head, life.text, draft, base=2 * BLOCK_SIZE)
        life.text = [*life.text, token_id]


def test_a_preempted_request_is_read_anew(head) -> None:
    """Its blocks are others."""
    life = Life(head, "a", [1, 2, 3, 4])
    proposer = make(head)
    proposer.observe([life.features()])
    proposer.propose([life.request()])
    life.text.append(5)
    life.epoch, life.num_known, life.blocks = 1, 0, list(range(40, 56))
    assert not proposer.propose([life.request()])[0].token_ids
    proposer.observe([life.features()])

    check(head, life.text, proposer.propose([life.request()])[0])


def test_drafts_that_are_not_asked_for_can_be_asked_for_later(head) -> None:
    """Features wait to be read; too many of them are given up."""
    life = Life(head, "a", [1, 2, 3, 4])
    proposer = make(head)
    for token_id in (5, 6, 7):
        proposer.observe([life.features()])
        life.text.append(token_id)
    proposer.observe([life.features()])
    check(head, life.text, proposer.propose([life.request()])[0])

    proposer.observe([Features("b", 0, KEPT + 1, 0, torch.zeros(KEPT + 1, num_features(head)), None)])
    assert not proposer._readings.get("b")


def test_with_noise_the_first_choice_is_the_one_that_the_noise_makes(head) -> None:
    """The noise is that of the target's token, at its place."""
    for seed in range(6):
        life = Life(head, "a", [seed, 2, 3, 4])
        proposer = make(head)
        proposer.observe([life.features()])
        draw = Draw(seed=seed, position=4, temperature=1.0)
        (draft,) = proposer.propose([life.request(draw=draw)])

        expected = sample(probabilities(head, life.text, []).log()[None].float(), [draw])[0]
        assert expected in [path[0] for path in paths(draft) if len(path) == 1]


def test_a_forgotten_request_begins_anew(head) -> None:
    """An id that returns is another request."""
    proposer = make(head)
    for text in ([1, 2, 3], [7, 8, 9, 10]):
        life = Life(head, "a", text)
        proposer.observe([life.features()])
        check(head, life.text, proposer.propose([life.request()])[0])
        proposer.forget("a")
    proposer.forget("never seen")


def test_features_that_wait_keep_no_others_in_memory(head) -> None:
    """They come as rows of the whole step's, of all requests."""
    proposer, step = make(head), torch.zeros(100, num_features(head))
    proposer.observe([Features("a", 0, 1, 0, step[7:8], None)])

    (kept,) = proposer._readings["a"].unread
    assert kept.untyped_storage().nbytes() < step.untyped_storage().nbytes() / 10
