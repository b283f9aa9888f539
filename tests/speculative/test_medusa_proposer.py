"""The Medusa proposer: the likeliest paths through heads that do not know of one another."""

import itertools

import pytest
import torch

from outrider.kernels.sample import Draw, sample
from outrider.speculative.growth import MIN_CHANCE
from outrider.speculative.medusa import MedusaConfig, MedusaHeads
from outrider.speculative.medusa_proposer import MedusaProposer
from outrider.speculative.proposer import DraftRequest, Features

HIDDEN_SIZE = 16
VOCAB_SIZE = 30


@pytest.fixture
def heads() -> MedusaHeads:
    torch.manual_seed(3)
    heads = MedusaHeads(MedusaConfig(hidden_size=HIDDEN_SIZE, num_heads=3))
    for weight in heads.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return heads.requires_grad_(False)


OUTPUT = torch.randn(VOCAB_SIZE, HIDDEN_SIZE, generator=torch.Generator().manual_seed(2))


def output(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ OUTPUT.T


def observed(text: list[int], hidden: torch.Tensor, name: str = "a") -> Features:
    return Features(name, 0, len(text) - 1, 0, None, hidden)


def test_the_tree_is_the_likeliest_paths(heads) -> None:
    """By the product of the heads' own chances, found among all paths."""
    hidden, text = torch.randn(HIDDEN_SIZE), [1, 2, 3]
    chances = torch.stack([output(one) for one in (head(hidden) for head in heads)]).softmax(-1)
    proposer = MedusaProposer(heads, output)
    proposer.observe([observed(text, hidden)])
    (draft,) = proposer.propose([DraftRequest("a", text, 8)])

    def chance(path: tuple[int, ...]) -> float:
        return float(torch.prod(torch.stack([chances[depth][token] for depth, token in enumerate(path)])))

    best = [level.topk(4).indices.tolist() for level in chances]
    all_paths = [path for depth in (1, 2, 3) for path in itertools.product(*best[:depth])]
    ranked = sorted(all_paths, key=lambda path: -chance(path))
    found: list[tuple[int, ...]] = []
    for token_id, parent in zip(draft.token_ids, draft.parents, strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token_id))
    likely = [path for path in ranked[:8] if chance(path) >= MIN_CHANCE]
    assert set(likely) == set(found)
    assert len(found) >= 3


def test_without_the_newest_hidden_state_nothing_is_offered(heads) -> None:
    """A state of an earlier place would guess other tokens."""
    text = [1, 2, 3]
    proposer = MedusaProposer(heads, output)
    assert not proposer.propose([DraftRequest("a", text, 8)])[0].token_ids
    proposer.observe([observed(text, torch.randn(HIDDEN_SIZE))])

    drafts = proposer.propose(
        [DraftRequest("a", [*text, 4], 8), DraftRequest("a", text, 8), DraftRequest("b", text, 8)]
    )
    assert [bool(draft.token_ids) for draft in drafts] == [False, True, False]
    proposer.forget("a")
    assert not proposer.propose([DraftRequest("a", text, 8)])[0].token_ids


def test_with_noise_each_head_uses_that_of_its_place(heads) -> None:
    """The first path is what the target would draw if it said what the heads say."""
    hidden, text = torch.randn(HIDDEN_SIZE), [1, 2, 3]
    proposer = MedusaProposer(heads, output)
    proposer.observe([observed(text, hidden)])
    (draft,) = proposer.propose([DraftRequest("a", text, 12, draw=Draw(7, 3, 1.0))])
    first = sample(output(heads[0](hidden))[None].clone(), [Draw(7, 3, 1.0)])[0]
    roots = [token for token, parent in zip(draft.token_ids, draft.parents, strict=True) if parent == -1]
    assert first in roots
    second = sample(output(heads[1](hidden))[None].clone(), [Draw(7, 4, 1.0)])[0]
    behind = [token for token, parent in zip(draft.token_ids, draft.parents, strict=True) if parent >= 0]
    assert second in behind
