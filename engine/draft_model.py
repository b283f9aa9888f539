"""A draft model beside the target: its own weights, its own cache, laid out as the target's, and its own tokens."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from outrider.engine.batch import from_list, make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.draft_chains import Chain, draft_chains
from outrider.kernels.paged_attention import AttentionBatch
from outrider.kernels.sample import Draw
from outrider.speculative.vocabulary import VocabularyMap


class ServedDraftModel:
    """As `speculative.draft.DraftModel`: the model that a draft proposer asks, in the target's tokens."""

    block_size = BLOCK_SIZE

    def __init__(self, model: ServedModel, vocabulary: VocabularyMap | None) -> None:
        """The model's cache must be allocated with as many blocks as the target's before it is asked.

        Args:
            model: loaded
            vocabulary: its tokens and the target's; None where they are the same
        """
        self.max_model_len = model.max_model_len
        self._model = model
        # Of the last pass: its requests' blocks, their newest places, and where they are found by the kernels.
        self._block_ids: list[Sequence[int]] = []
        self._places: list[int] = []
        self._batch: AttentionBatch | None = None
        self._to_draft: torch.Tensor | None = None
        if vocabulary is not None:
            # A token that it does not know reads as its first one; what it then guesses is verified all the same.
            self._to_draft = vocabulary.to_draft.clamp(min=0).to(model.device)
            self._known = (vocabulary.to_target >= 0).nonzero()[:, 0].to(model.device)
            self._targets = vocabulary.to_target.to(model.device)[self._known]

    def read(
        self, block_ids: Sequence[Sequence[int]], spans: Sequence[range], token_ids: Sequence[int]
    ) -> torch.Tensor:
        """Logits (num_spans, target's vocab_size), float32, behind the last place of each span."""
        device = self._model.device
        batch, positions = make_batch(block_ids, spans, device, self._model.tile_size)
        ends = from_list([end - 1 for end in accumulate(map(len, spans))], device)
        self._block_ids, self._places = list(block_ids), [span.stop - 1 for span in spans]
        sequences = torch.arange(len(spans), dtype=torch.int32, device=device)
        self._batch = replace(batch, row_sequence=sequences, tiles=None)
        return self._run(token_ids, positions, batch, ends)

    def draft(
        self,
        rows: Sequence[int],
        logits: torch.Tensor,
        draws: Sequence[Draw],
        most: Sequence[int],
        min_probability: float,
    ) -> list[Chain]:
        """As `speculative.draft.DraftModel.draft`."""
        batch = self._keep(rows)
        model = self._model
        if self._to_draft is None and isinstance(model, FusedModel) and model.drafts_in_one_call:
            table, newest = batch.block_table.clone(), torch.tensor(self._places, dtype=torch.int32)
            blocks, offsets = torch.empty(2, len(rows), dtype=torch.int64)
            whole = AttentionBatch(table, batch.row_sequence, newest, blocks, offsets)
            return model.draft_chains(logits, draws, most, min_probability, whole)
        return draft_chains(logits, draws, most, min_probability, self._read_on)

    def _keep(self, rows: Sequence[int]) -> AttentionBatch:
        """Goes on with some requests of the last pass."""
        batch = self._batch
        assert batch is not None
        if len(rows) < len(self._places):
            self._block_ids = [self._block_ids[row] for row in rows]
            self._places = [self._places[row] for row in rows]
            batch = replace(
                batch,
                block_table=batch.block_table[list(rows)],
                row_sequence=batch.row_sequence[: len(rows)],
            )
            self._batch = batch
        return batch

    def _read_on(self, rows: Sequence[int], token_ids: Sequence[int]) -> torch.Tensor:
        """Reads one token more of some requests of the last pass, and goes on with these: as `read`."""
        batch, device = self._keep(rows), self._model.device
        places = self._places = [place + 1 for place in self._places]
        blocks = [mine[place // BLOCK_SIZE] for mine, place in zip(self._block_ids, places, strict=True)]
        positions = from_list(places, device)
        self._batch = batch = replace(
            batch,
            row_position=positions.int(),
            write_block=from_list(blocks, device),
            write_offset=positions % BLOCK_SIZE,
        )
        return self._run(token_ids, positions, batch, batch.row_sequence.long())

    def _run(
        self, token_ids: Sequence[int], positions: torch.Tensor, batch: AttentionBatch, ends: torch.Tensor
    ) -> torch.Tensor:
        ids = from_list(token_ids, self._model.device)
        if self._to_draft is None:
            return self._model.forward(ids, positions, batch, ends).logits
        logits = self._model.forward(self._to_draft[ids], positions, batch, ends).logits
        mapped = logits.new_full((len(logits), len(self._to_draft)), -torch.inf)
        mapped[:, self._targets] = logits[:, self._known]
        return mapped
