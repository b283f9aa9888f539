"""The draft model's proposer, on a model whose answer is a function of the cache that it finds."""

import random
from collections.abc import Sequence

import torch

from outrider.kernels.draft_chains import Chain, draft_chains
from outrider.kernels.sample import Draw, sample
from outrider.speculative.draft import READ_AT_ONCE, DraftProposer
from outrider.speculative.proposer import DraftRequest

VOCAB_SIZE = 50
BLOCK_SIZE = 4


def following(tokens: Sequence[int]) -> torch.Tensor:
    """What the model says behind a text: one likely token, one less likely, a little noise."""
    generator = torch.Generator().manual_seed(hash(tuple(tokens)) % 2**31)
    logits = torch.randn(VOCAB_SIZE, generator=generator)
    logits[torch.randint(VOCAB_SIZE, (1,), generator=generator)] += 8.0
    return logits


class CacheModel:
    """Keeps tokens where a model keeps keys and values, and reads them back from there."""

    max_model_len = 4000
    block_size = BLOCK_SIZE

    def __init__(self) -> None:
        self.cache: dict[tuple[int, int], int] = {}
        self.calls: list[int] = []  # tokens read by each forward pass

    def read(
        self, block_ids: Sequence[Sequence[int]], spans: Sequence[range], token_ids: Sequence[int]
    ) -> torch.Tensor:
        self.calls.append(len(token_ids))
        self.newest = [(blocks, span.stop) for blocks, span in zip(block_ids, spans, strict=True)]
        unread = iter(token_ids)
        logits = []
        for blocks, span in zip(block_ids, spans, strict=True):
            for place in span:
                self.cache[blocks[place // BLOCK_SIZE], place % BLOCK_SIZE] = next(unread)
            text = [self.cache[blocks[place // BLOCK_SIZE], place % BLOCK_SIZE] for place in range(span.stop)]
            logits.append(following(text))
        return torch.stack(logits)

    def draft(
        self,
        rows: Sequence[int],
        logits: torch.Tensor,
        draws: Sequence[Draw],
        most: Sequence[int],
        min_probability: float,
    ) -> list[Chain]:
        self.newest = [self.newest[row] for row in rows]
        return draft_chains(logits, draws, most, min_probability, self.read_on)

    def read_on(self, rows: Sequence[int], token_ids: Sequence[int]) -> torch.Tensor:
        going = [self.newest[row] for row in rows]
        return self.read([blocks for blocks, _ in going], [range(stop, stop + 1) for _, stop in going], token_ids)


def request(
    request_id: str, tokens: list[int], max_tokens: int = 4, *, first_block: int = 0, **options
) -> DraftRequest:
    blocks = range(first_block, first_block + -(-(len(tokens) + max_tokens) // BLOCK_SIZE))
    return DraftRequest(request_id, tokens, max_tokens, block_ids=list(blocks), **options)


def greedy(tokens: Sequence[int], count: int) -> list[int]:
    """The model's own continuation."""
    text = list(tokens)
    for _ in range(count):
        text.append(int(following(text).argmax()))
    return text[len(tokens) :]


def chain(draft) -> list[int]:
    """The tokens of a draft's first branch."""
    parents = draft.parents or tuple(range(-1, len(draft.token_ids) - 1))
    return [
        token for node, (token, parent) in enumerate(zip(draft.token_ids, parents, strict=True)) if parent == node - 1
    ]


def test_drafts_are_the_models_own_continuation_whatever_was_accepted_before() -> None:
    """The cache holds the request's own text at every step, after full, partial and no acceptance."""
    generator = random.Random(3)
    proposer = DraftProposer(CacheModel())
    text = [generator.randrange(VOCAB_SIZE) for _ in range(11)]
    for _ in range(60):
        (draft,) = proposer.propose([request("a", text)])
        mine = chain(draft)
        assert mine == greedy(text, len(mine))
        assert len(mine) >= 1
        accepted = mine[: generator.randrange(len(mine) + 1)]
        text = [*text, *accepted, generator.randrange(VOCAB_SIZE)]


def test_what_is_read_once_is_not_read_again() -> None:
    """Behind a fully accepted draft two tokens are new: the last one drafted, and the bonus token."""
    model = CacheModel()
    proposer = DraftProposer(model)
    text = list(range(20))
    (draft,) = proposer.propose([request("a", text)])
    model.calls.clear()

    proposer.propose([request("a", [*text, *chain(draft), 7])])

    assert model.calls[0] == 2


def test_a_long_prompt_is_read_in_pieces_without_a_draft() -> None:
    """No other request waits for it longer than for one piece."""
    model = CacheModel()
    proposer = DraftProposer(model)
    long, short = [1] * (READ_AT_ONCE + 500), [2, 3]
    requests = [request("short", short), request("long", long, first_block=100)]

    first, second = proposer.propose(requests), proposer.propose(requests)

    assert [bool(draft.token_ids) for draft in first] == [True, False]
    assert [draft.is_pending for draft in (*first, *second)] == [False, True, False, False]
    assert chain(second[1]) == greedy(long, len(chain(second[1])))
    assert max(model.calls) <= READ_AT_ONCE


def test_a_new_epoch_reads_everything_anew() -> None:
    """After a preemption the blocks are others, or hold what others wrote."""
    model = CacheModel()
    proposer = DraftProposer(model)
    text = list(range(10))
    proposer.propose([request("a", text)])
    model.cache = dict.fromkeys(model.cache, 49)

    (draft,) = proposer.propose([request("a", text, epoch=1)])

    assert chain(draft) == greedy(text, len(chain(draft)))


def test_blocks_that_another_request_has_filled_are_not_read_again() -> None:
    """Where their digests are the same; a block that was written to since does not count."""
    model = CacheModel()
    proposer = DraftProposer(model)
    text = list(range(14))
    digests = [b"first", b"second", b"third"]
    proposer.propose([request("a", text, digests=digests)])
    model.calls.clear()
    proposer.propose([request("b", [*text, 30], digests=digests)])
    assert model.calls[0] == 3  # 15 tokens, of which 12 lie in full blocks

    proposer.propose([request("c", [9] * 14)])  # in the same blocks, without digests
    model.calls.clear()
    (draft,) = proposer.propose([request("d", [*text, 31], digests=digests)])
    assert model.calls[0] == 15
    assert chain(draft) == greedy([*text, 31], len(chain(draft)))


def test_a_block_that_was_drafted_into_is_read_again() -> None:
    """Where it held another's text before, and was given back with the draft."""
    model = CacheModel()
    proposer = DraftProposer(model)
    text = list(range(9))
    digests = [b"first", b"second"]
    proposer.propose([request("a", text, digests=digests)])
    proposer.forget("a")
    generator = random.Random(0)
    for index in range(20):  # until a chain is long enough
        prompt = [generator.randrange(VOCAB_SIZE) for _ in range(BLOCK_SIZE)]
        short = DraftRequest(f"b{index}", prompt, 4, block_ids=[9, 1])
        proposer.propose([short])
        proposer.forget(short.request_id)
    assert [model.cache[1, place] for place in range(BLOCK_SIZE)] != text[BLOCK_SIZE : 2 * BLOCK_SIZE]

    (draft,) = proposer.propose([request("c", text, digests=digests)])
    assert chain(draft) == greedy(text, len(chain(draft)))


def test_sampled_drafts_use_the_noise_of_their_places() -> None:
    """The target, drawing from the same logits, draws the same tokens."""
    proposer = DraftProposer(CacheModel())
    text = list(range(9))
    (draft,) = proposer.propose([request("a", text, draw=Draw(5, len(text), 1.0))])
    again = DraftProposer(CacheModel())
    (moved,) = again.propose([request("a", text, draw=Draw(5, len(text) + 1, 1.0))])
    expected = sample(following(text)[None].clone(), [Draw(5, len(text), 1.0)])[0]
    assert draft.token_ids[0] == expected
    assert moved.token_ids[0] == sample(following(text)[None].clone(), [Draw(5, len(text) + 1, 1.0)])[0]


def test_a_model_of_less_context_offers_nothing_beyond_it() -> None:
    """And reads nothing."""
    model = CacheModel()
    model.max_model_len = 12
    proposer = DraftProposer(model)

    assert proposer.propose([request("a", [1] * 9)])[0].token_ids == ()
    assert model.calls == []


def test_a_model_that_gives_no_numbers_offers_nothing() -> None:
    """The engine would leave it out; here it is not asked on."""

    class NoNumbers(CacheModel):
        def read(self, block_ids, spans, token_ids):
            return torch.full_like(super().read(block_ids, spans, token_ids), torch.nan)

    assert DraftProposer(NoNumbers()).propose([request("a", [1, 2])])[0].token_ids == ()
