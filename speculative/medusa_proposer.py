"""Drafts from Medusa heads: one look at the target's last hidden state guesses several tokens ahead (Cai et al., 2024).

The heads do not know of one another, so a token's chance behind another is taken to be its head's alone. The tree is
the likeliest paths by that, each step's own, and not one for all.
"""

import heapq
from collections.abc import Callable, Sequence

import torch

from outrider.speculative.growth import Growth, choose
from outrider.speculative.medusa import MedusaHeads
from outrider.speculative.proposer import Draft, DraftRequest, Features
from outrider.speculative.tree import ROOT

Output = Callable[[torch.Tensor], torch.Tensor]


class MedusaProposer:
    """Guesses for all requests at once."""

    def __init__(self, heads: MedusaHeads, output: Output) -> None:
        """`output`: the target's output layer, from hidden states (num_rows, hidden_size) to float32 logits."""
        self._heads = heads
        self._output = output
        self._hidden: dict[str, tuple[int, torch.Tensor]] = {}  # by request: a place, and the hidden state there

    def observe(self, features: Sequence[Features]) -> None:
        """Keeps the newest hidden state of each request."""
        for one in features:
            if one.hidden is not None:
                self._hidden[one.request_id] = (one.stop - 1, one.hidden)

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The likeliest paths through the heads' guesses; none for a request whose hidden state is not known."""
        growths = [Growth(request) for request in requests]
        known = [growth for growth in growths if self._place(growth.request) == len(growth.request.token_ids) - 2]
        if known:
            hidden = torch.stack([self._hidden[growth.request.request_id][1] for growth in known])
            logits = self._heads.guesses(hidden, self._output)  # (num_heads, num_requests, vocab_size)
            levels = [
                choose(one, known, [depth] * len(known), self._heads.token_map) for depth, one in enumerate(logits)
            ]
            for row, growth in enumerate(known):
                _grow(growth, [level[row] for level in levels])
        return [growth.draft() for growth in growths]

    def forget(self, request_id: str) -> None:
        """Drops a request's hidden state."""
        self._hidden.pop(request_id, None)

    def _place(self, request: DraftRequest) -> int:
        return self._hidden[request.request_id][0] if request.request_id in self._hidden else -1


def _grow(growth: Growth, levels: Sequence[Sequence[tuple[int, float]]]) -> None:
    """Adds the likeliest paths, until there are as many nodes as the request may have."""
    heap: list[tuple[float, int, int, float]] = []  # minus the chance, parent, token, score

    def push(parent: int) -> None:
        depth = 0 if parent == ROOT else growth.depths[parent] + 1
        above = 1.0 if parent == ROOT else growth.chances[parent]
        for token_id, score in levels[depth] if depth < len(levels) else ():
            heapq.heappush(heap, (-above * score, parent, token_id, score))

    push(ROOT)
    while heap and len(growth.token_ids) < growth.request.max_tokens:
        _, parent, token_id, score = heapq.heappop(heap)
        count = len(growth.token_ids)
        growth.add(parent, [(token_id, score)])
        if len(growth.token_ids) == count:
            return  # too unlikely, and so is all that is left
        push(count)
