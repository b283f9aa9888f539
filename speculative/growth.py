"""The tree that a drafting model grows for one request: likely branches first, as in EAGLE-2 (Li et al., 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from outrider.kernels.sample import sample_several
from outrider.speculative.proposer import Draft, DraftRequest
from outrider.speculative.tree import ROOT

NUM_CHILDREN: Final = 4  # of a node, at most
MIN_CHANCE: Final = 0.05  # of a node that is offered, by the model's own word
MIN_GROWTH: Final = 0.2  # of a node that is grown further
WIDTH: Final = 3  # nodes of one request that are grown at once


@dataclass(slots=True)
class Growth:
    """Nodes in the order in which they were found; a parent comes before its children."""

    request: DraftRequest
    token_ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)  # of the whole path
    depths: list[int] = field(default_factory=list)
    num_seen: int = 0  # nodes that have been looked at for growth

    def add(self, parent: int, children: Sequence[tuple[int, float]]) -> None:
        """Adds the likely ones of some tokens behind a node, each with its score."""
        above = 1.0 if parent == ROOT else self.chances[parent]
        depth = 0 if parent == ROOT else self.depths[parent] + 1
        for token_id, score in children:
            if above * score >= MIN_CHANCE:
                self.token_ids.append(token_id)
                self.parents.append(parent)
                self.scores.append(score)
                self.chances.append(above * score)
                self.depths.append(depth)

    def grow(self, room: int) -> list[int]:
        """The nodes to look behind next: the likeliest of the newest, as many as there is room for."""
        new = range(self.num_seen, len(self.token_ids))
        self.num_seen = len(self.token_ids)
        likely = [node for node in new if self.chances[node] >= MIN_GROWTH]
        return sorted(likely, key=lambda node: -self.chances[node])[: min(WIDTH, room)]

    def draft(self) -> Draft:
        """The likeliest nodes, as many as the request may have."""
        # A node is never likelier than its parent, which stands before it.
        kept = sorted(range(len(self.token_ids)), key=lambda node: -self.chances[node])[: self.request.max_tokens]
        kept.sort()
        place = {node: index for index, node in enumerate(kept)} | {ROOT: ROOT}
        return Draft(
            tuple(self.token_ids[node] for node in kept),
            tuple(place[self.parents[node]] for node in kept),
            tuple(self.scores[node] for node in kept),
        )


def choose(
    logits: torch.Tensor,
    growths: Sequence[Growth],
    depths: Sequence[int],
    target_ids: torch.Tensor | None,
) -> list[list[tuple[int, float]]]:
    """The tokens to offer behind each row, with their scores, the best first; none for a row that is no numbers.

    Args:
        logits: (num_rows, draft_vocab_size) float32
        growths: of each row, the tree that it belongs to
        depths: of each row, how many drafted tokens it lies behind
        target_ids: (draft_vocab_size,) the target's ids of the drafter's tokens; None where they are the same
    """
    draws = [
        replace(growth.request.draw, position=growth.request.draw.position + depth)
        for growth, depth in zip(growths, depths, strict=True)
    ]
    if target_ids is not None and any(draw.temperature > 0 for draw in draws):
        # The noise is that of the target's ids, so the choice is made among them.
        widened = logits.new_full((len(logits), max(int(target_ids.max()) + 1, 1)), -torch.inf)
        widened[:, target_ids] = logits
        return sample_several(widened, draws, NUM_CHILDREN)
    chosen = sample_several(logits, draws, NUM_CHILDREN)
    if target_ids is None:
        return chosen
    return [[(int(target_ids[token_id]), score) for token_id, score in row] for row in chosen]
