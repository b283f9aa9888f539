"""Drafts from a smaller causal model of the same tokenizer (Leviathan et al., 2023; Chen et al., 2023).

It draws with the noise that the target will draw with, so that the two agree at every temperature as often as their
distributions allow (Daliri et al., 2024). Beside each token of its chain the second choice is offered, where it is a
likely one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch

from outrider.kernels.draft_chains import Chain
from outrider.kernels.sample import Draw
from outrider.speculative.proposer import Draft, DraftRequest
from outrider.speculative.tree import ROOT

READ_AT_ONCE: Final = 1024  # tokens of all requests; a long prompt is read over several steps, without a draft
MIN_CHAIN: Final = 0.3  # as likely as this the whole chain must be, by the model's own word, for it to go on
MIN_SIBLING: Final = 0.1  # probability of a second choice that is offered


class DraftModel(Protocol):
    """A causal model with a cache that is laid out as the target's: the same blocks hold the same places."""

    max_model_len: int
    block_size: int

    def read(
        self, block_ids: Sequence[Sequence[int]], spans: Sequence[range], token_ids: Sequence[int]
    ) -> torch.Tensor:
        """Reads the tokens of some places of several requests, one span of each.

        Returns:
            float32 logits (num_spans, vocab_size) behind the last place of each span
        """
        ...

    def draft(
        self,
        rows: Sequence[int],
        logits: torch.Tensor,
        draws: Sequence[Draw],
        most: Sequence[int],
        min_probability: float,
    ) -> list[Chain]:
        """Goes on from its own choices behind what the last call has read.

        Args:
            rows: places in that call's result, in ascending order
            logits: those rows of it; may be overwritten
            draws: of the first token of each
            most: tokens for each, at least 1
            min_probability: that a chain must have, by the model's own word, to go on
        """
        ...


@dataclass(slots=True)
class _Chain:
    """What is drafted for one request in this step."""

    request: DraftRequest
    token_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    siblings: list[tuple[int, int, float]] = field(default_factory=list)  # depth, token, score

    def add(self, choices: Sequence[tuple[int, float]]) -> None:
        """One place: the token that the chain goes on with, then others."""
        (token_id, score), *others = choices
        self.siblings += [(len(self.token_ids), *one) for one in others if one[1] >= MIN_SIBLING]
        self.token_ids.append(token_id)
        self.scores.append(score)

    def draft(self) -> Draft:
        """The chain, then as many second choices as there is room for, the shallow ones first."""
        siblings = self.siblings[: self.request.max_tokens - len(self.token_ids)]
        chain = range(ROOT, len(self.token_ids) - 1)
        return Draft(
            (*self.token_ids, *(token_id for _, token_id, _ in siblings)),
            (*chain, *(depth - 1 for depth, _, _ in siblings)) if siblings else None,
            (*self.scores, *(score for _, _, score in siblings)),
        )


@dataclass(slots=True)
class _Read:
    """The cache of one request: the tokens of its first `length` places, then those that were drafted."""

    epoch: int
    length: int
    num_whole: int  # leading blocks whose digests are noted
    drafted: Sequence[int] = ()


class DraftProposer:
    """Drafts for all requests at once, one forward pass of the model per depth."""

    def __init__(self, model: DraftModel) -> None:
        self._model = model
        self._read: dict[str, _Read] = {}
        self._block_digests: dict[int, bytes] = {}  # of the blocks whose keys and values are all there

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The model's own continuations; a pending one for a request whose text it has not read to the end yet."""
        chains = [_Chain(request) for request in requests]
        logits, reading = self._catch_up([chain for chain in chains if self._has_room(chain.request)])
        # A text that is not read to its end yet goes on in the next step.
        rows = [row for row, chain in enumerate(reading) if self._is_read(chain.request)]
        logits = logits[rows] if len(rows) < len(reading) else logits
        if rows:
            asking = [reading[row].request for row in rows]
            draws, most = [one.draw for one in asking], [one.max_tokens for one in asking]
            for row, places in zip(rows, self._model.draft(rows, logits, draws, most, MIN_CHAIN), strict=True):
                for choices in places:
                    reading[row].add(choices)
        for chain in chains:
            if chain.token_ids:  # the last one drafted was not read
                self._note_drafted(chain.request, chain.token_ids[:-1])
        return [
            chain.draft()
            if chain.token_ids or not self._has_room(chain.request) or self._is_read(chain.request)
            else Draft(is_pending=True)
            for chain in chains
        ]

    def forget(self, request_id: str) -> None:
        """Drops what is known of a request's cache."""
        self._read.pop(request_id, None)

    def _has_room(self, request: DraftRequest) -> bool:
        return len(request.token_ids) + request.max_tokens <= self._model.max_model_len

    def _is_read(self, request: DraftRequest) -> bool:
        return self._read[request.request_id].length == len(request.token_ids)

    def _catch_up(self, chains: Sequence[_Chain]) -> tuple[torch.Tensor, list[_Chain]]:
        """Reads what is new; returns the logits behind it, and whose they are."""
        left = READ_AT_ONCE
        spans: list[range] = []
        reading: list[_Chain] = []
        for chain in chains:
            length = len(chain.request.token_ids)
            start = min(self._num_read(chain.request), length - 1)
            stop = min(length, start + left)
            if stop > start:
                spans.append(range(start, stop))
                reading.append(chain)
                left -= stop - start
        if not reading:
            return torch.empty(0), []
        logits = self._model.read(
            [chain.request.block_ids for chain in reading],
            spans,
            [
                token_id
                for chain, span in zip(reading, spans, strict=True)
                for token_id in chain.request.token_ids[span.start : span.stop]
            ],
        )
        for chain, span in zip(reading, spans, strict=True):
            self._note(chain.request, span)
        return logits, reading

    def _num_read(self, request: DraftRequest) -> int:
        """How many leading places hold the keys and values of the request's own tokens."""
        read = self._read.get(request.request_id)
        if read is None or read.epoch != request.epoch:
            shared = 0
            for block, digest in zip(request.block_ids, request.digests, strict=False):
                if self._block_digests.get(block) != digest:
                    break
                shared += 1
            read = self._read[request.request_id] = _Read(request.epoch, shared * self._model.block_size, shared)
        following = request.token_ids[read.length : read.length + len(read.drafted)]
        for token_id, drafted in zip(following, read.drafted, strict=False):
            if token_id != drafted:
                break
            read.length += 1
        read.drafted = ()
        return read.length

    def _note(self, request: DraftRequest, span: range) -> None:
        """Keeps in mind what a forward pass has written, and which blocks are whole."""
        read, size = self._read[request.request_id], self._model.block_size
        for index in range(span.start // size, -(-span.stop // size)):
            self._block_digests.pop(request.block_ids[index], None)
        read.length = span.stop
        for index in range(read.num_whole, min(read.length // size, len(request.digests))):
            self._block_digests[request.block_ids[index]] = request.digests[index]
            read.num_whole = index + 1

    def _note_drafted(self, request: DraftRequest, token_ids: Sequence[int]) -> None:
        """Keeps in mind which tokens lie behind the request's own; a block that they are in holds no other's text."""
        self._read[request.request_id].drafted = token_ids
        first, size = len(request.token_ids), self._model.block_size
        for index in range(first // size, -(-(first + len(token_ids)) // size)):
            self._block_digests.pop(request.block_ids[index], None)
