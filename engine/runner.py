"""Turns a step's rows into tensors, runs the model on them, and returns the logits that the step needs."""

from collections.abc import Sequence as SequenceOf

import torch

from outrider.engine.models.served_model import ServedModel
from outrider.engine.scheduler import StepRow
from outrider.kernels.paged_attention import AttentionBatch


class ModelRunner:
    """Runs steps on one model whose cache is allocated."""

    def __init__(self, model: ServedModel, block_size: int) -> None:
        self._model = model
        self._block_size = block_size

    def run(self, rows: SequenceOf[StepRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the rows' tokens and drafts.

        Returns:
            two tensors of float32 logits, (num_logit_rows, vocab_size). The first: for each row that reaches its end,
            in order, one behind the sequence's newest token and one behind each drafted token. The second: those of
            the rows' `prompt_places`, in order.
        """
        token_ids: list[int] = []
        positions: list[int] = []
        row_sequence: list[int] = []
        write_block: list[int] = []
        logit_rows: list[int] = []
        prompt_rows: list[int] = []
        for index, row in enumerate(rows):
            sequence = row.sequence
            start, stop = sequence.num_computed, sequence.num_computed + row.num_tokens + len(row.draft)
            prompt_rows += [len(token_ids) + place - start for place in row.prompt_places]
            token_ids += sequence.token_ids[start : start + row.num_tokens]
            token_ids += row.draft
            positions += range(start, stop)
            row_sequence += [index] * (stop - start)
            write_block += [sequence.block_ids[position // self._block_size] for position in range(start, stop)]
            if row.reaches_end:
                logit_rows += range(len(token_ids) - 1 - len(row.draft), len(token_ids))
        table = torch.zeros(len(rows), max(len(row.sequence.block_ids) for row in rows), dtype=torch.int32)
        for index, row in enumerate(rows):
            block_ids = row.sequence.block_ids
            table[index, : len(block_ids)] = torch.tensor(block_ids, dtype=torch.int32)
        position = torch.tensor(positions)
        batch = AttentionBatch(
            block_table=table,
            row_sequence=torch.tensor(row_sequence, dtype=torch.int32),
            row_position=position.int(),
            write_block=torch.tensor(write_block),
            write_offset=position % self._block_size,
        )
        wanted = torch.tensor([*logit_rows, *prompt_rows] or [0])
        logits = self._model.forward(torch.tensor(token_ids), position, batch, wanted)
        return logits[: len(logit_rows)], logits[len(logit_rows) :][: len(prompt_rows)]
