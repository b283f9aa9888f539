"""Drafts from an EAGLE head: one layer that goes on from the target's own features (Li et al., 2024 and 2025).

The head has a cache of its own, laid out as the target's: what it makes of the token at place t + 1 and the target's
feature at place t is kept at place t. A request that begins behind cached blocks has no features of those; its head
reads the rest alone, as if the text began there: its guesses are a little worse, and the answer is the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    KvCache,
    TreeMask,
    allocate_kv,
    kv_token_bytes,
    paged_attention,
    write_kv,
)
from outrider.speculative.eagle import EagleHead
from outrider.speculative.eagle3 import Eagle3Head
from outrider.speculative.growth import Growth, choose
from outrider.speculative.proposer import Draft, DraftRequest, Features
from outrider.speculative.tree import ROOT

READ_AT_ONCE: Final = 1024  # features of all requests; those of a long prompt are read over several steps
KEPT: Final = 2048  # places of a request whose features wait to be read; where there are more, it goes without drafts
MAX_DEPTH: Final = 8
MAX_EXPANDED: Final = 63  # the ancestors of a row are the bits of one word


@dataclass(slots=True)
class _Reading:
    """One request's place in the head's cache: features of places from `base` on, read up to `num_read`."""

    base: int  # a block's first place
    num_read: int
    epoch: int
    unread: list[torch.Tensor] = field(default_factory=list)  # taps of the places behind, (num_places, size) each
    num_unread: int = 0  # places of these

    @property
    def stop(self) -> int:
        return self.num_read + self.num_unread


@dataclass(slots=True)
class _Row:
    """One row of a pass of the head: a token and the feature before it."""

    reading: _Reading
    request: DraftRequest
    place: int  # where it is kept
    token_id: int
    position: int
    first: int  # place of the first drafted one
    ancestors: int


class EagleProposer:
    """Grows a tree for all requests at once, one pass of the head per depth."""

    def __init__(
        self,
        head: Eagle3Head | EagleHead,
        embed: Callable[[torch.Tensor], torch.Tensor],
        output: Callable[[torch.Tensor], torch.Tensor],
        block_size: int,
    ) -> None:
        """The cache must be allocated before anything is proposed.

        Args:
            head: on the target's device, in the target's dtype
            embed: the target's embeddings of token ids (n,), (n, hidden_size)
            output: the target's output layer, from hidden states (n, hidden_size) to float32 logits
            block_size: of the target's cache
        """
        self._head = head
        self._embed = embed
        self._output = output
        self._block_size = block_size
        weight = next(head.parameters())
        self._dtype, self._device = weight.dtype, weight.device
        self._target_ids: torch.Tensor | None = None
        if isinstance(head, Eagle3Head) and not head.knows_all:
            self._target_ids = head.target_ids
        self._cache: KvCache | None = None
        self._readings: dict[str, _Reading] = {}

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the head's keys and values of so many tokens take."""
        return num_tokens * kv_token_bytes(
            self._head.config.num_key_value_heads, self._head.config.head_dim, self._dtype
        )

    def allocate_cache(self, num_blocks: int) -> None:
        """Makes a new, empty cache of as many blocks as the target has."""
        config = self._head.config
        self._cache = allocate_kv(
            num_blocks, config.num_key_value_heads, self._block_size, config.head_dim, self._dtype, self._device
        )

    def observe(self, features: Sequence[Features]) -> None:
        """Takes in what the target has computed for each request."""
        for one in features:
            reading = self._readings.get(one.request_id)
            if reading is None or reading.epoch != one.epoch or reading.stop != one.start:
                base = one.start - one.start % self._block_size
                if base != one.start:  # the features before it are lost: the head can go on at the next block alone
                    base += self._block_size
                reading = self._readings[one.request_id] = _Reading(base, base, one.epoch)
            assert one.taps is not None
            skipped = max(0, reading.base - one.start) if reading.stop == reading.base else 0
            if one.stop - one.start > skipped:
                # A copy, or the taps of the whole step would live on. They are fused when they are read.
                reading.unread.append(one.taps[skipped:].to(self._dtype, copy=True))
                reading.num_unread += one.stop - one.start - skipped
            if reading.num_unread > KEPT:
                del self._readings[one.request_id]

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The likeliest branches; none for a request whose features are not all read."""
        growths = [Growth(request) for request in requests]
        features, ready = self._catch_up(growths)
        expanded: dict[int, list[int]] = {index: [] for index in range(len(ready))}  # nodes, as they lie in the cache
        parents = [(index, ROOT) for index in range(len(ready))]
        outputs: dict[tuple[int, int], torch.Tensor] = {}
        for depth in range(MAX_DEPTH):
            if not parents:
                break
            outputs.update(zip(parents, features, strict=True))
            logits = self._head.guesses(features, self._output)
            growing = [ready[index] for index, _ in parents]
            children = choose(logits, growing, [depth] * len(parents), self._target_ids)
            for (index, node), found in zip(parents, children, strict=True):
                ready[index].add(node, found)
            parents, rows, before = self._grow(ready, expanded, outputs, is_last=depth == MAX_DEPTH - 1)
            if parents:
                features = self._run(rows, torch.stack(before))
        return [growth.draft() for growth in growths]

    def forget(self, request_id: str) -> None:
        """Drops what is kept for a request."""
        self._readings.pop(request_id, None)

    def _catch_up(self, growths: Sequence[Growth]) -> tuple[torch.Tensor, list[Growth]]:
        """Reads what is new; returns the features behind the newest tokens, and the trees that grow from there."""
        left = READ_AT_ONCE
        rows: list[_Row] = []
        before: list[torch.Tensor] = []
        ends: list[int] = []
        ready: list[Growth] = []
        for growth in growths:
            request = growth.request
            reading = self._readings.get(request.request_id)
            length = len(request.token_ids)
            if reading is None or reading.epoch != request.epoch or not reading.unread or reading.stop != length - 1:
                continue
            unread = torch.cat(reading.unread) if len(reading.unread) > 1 else reading.unread[0]
            count = min(len(unread), left)
            if not count:
                continue
            left -= count
            places = range(reading.num_read, reading.num_read + count)
            rows += [self._row(reading, request, place) for place in places]
            before.append(unread[:count])
            reading.num_read += count
            reading.unread = [unread[count:]] if count < len(unread) else []
            reading.num_unread -= count
            if not reading.unread:
                ends.append(len(rows) - 1)
                ready.append(growth)
        if not rows:
            return torch.empty(0), []
        return self._run(rows, self._head.fuse(torch.cat(before)))[ends], ready

    @staticmethod
    def _row(reading: _Reading, request: DraftRequest, place: int) -> _Row:
        position = place - reading.base
        return _Row(reading, request, place, request.token_ids[place + 1], position, position, 1)

    def _grow(
        self,
        growths: Sequence[Growth],
        expanded: dict[int, list[int]],
        outputs: dict[tuple[int, int], torch.Tensor],
        *,
        is_last: bool,
    ) -> tuple[list[tuple[int, int]], list[_Row], list[torch.Tensor]]:
        """The nodes to look behind next, their rows, and the features before them."""
        parents: list[tuple[int, int]] = []
        rows: list[_Row] = []
        before: list[torch.Tensor] = []
        for index, growth in enumerate(growths):
            request, mine = growth.request, expanded[index]
            room = 0 if is_last else min(request.max_tokens, MAX_EXPANDED) - len(mine)
            for node in growth.grow(room):
                if growth.depths[node] + 1 >= request.max_tokens:
                    continue
                mine.append(node)
                reading = self._readings[request.request_id]
                first = len(request.token_ids) - 1
                ancestors, above = 0, node
                while above != ROOT:
                    ancestors |= 1 << mine.index(above)
                    above = growth.parents[above]
                parents.append((index, node))
                before.append(outputs[index, growth.parents[node]])
                rows.append(
                    _Row(
                        reading,
                        request,
                        first + len(mine) - 1,
                        growth.token_ids[node],
                        first + growth.depths[node] - reading.base,
                        first - reading.base,
                        ancestors,
                    )
                )
        return parents, rows, before

    def _run(self, rows: Sequence[_Row], features: torch.Tensor) -> torch.Tensor:
        """One pass: the next features, (num_rows, hidden_size)."""
        batch = self._batch(rows)
        token_ids = torch.tensor([row.token_id for row in rows], device=self._device)
        options = AttentionOptions(self._head.config.head_dim**-0.5)
        cache = self._cache
        assert cache is not None

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            write_kv(k, v, cache, batch)
            return paged_attention(q.contiguous(), cache, batch, options)

        embeds = self._embed(token_ids).to(self._dtype)
        following: torch.Tensor = self._head(embeds, features, batch.row_position, attend)
        return following

    def _batch(self, rows: Sequence[_Row]) -> AttentionBatch:
        size = self._block_size
        sequences: dict[str, int] = {}
        tables: list[list[int]] = []
        for row in rows:
            if row.request.request_id not in sequences:
                sequences[row.request.request_id] = len(tables)
                tables.append(list(row.request.block_ids[row.reading.base // size :]))
        width = max(map(len, tables))
        is_tree = any(row.first != row.position or row.ancestors != 1 for row in rows)
        first, ancestors = [row.first for row in rows], [row.ancestors for row in rows]
        return AttentionBatch(
            block_table=self._int32([table + [0] * (width - len(table)) for table in tables]),
            row_sequence=self._int32([sequences[row.request.request_id] for row in rows]),
            row_position=self._int32([row.position for row in rows]),
            write_block=torch.tensor([row.request.block_ids[row.place // size] for row in rows], device=self._device),
            write_offset=torch.tensor([row.place % size for row in rows], device=self._device),
            tree=TreeMask(self._int32(first), torch.tensor(ancestors, device=self._device)) if is_tree else None,
        )

    def _int32(self, values: list[int] | list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)
