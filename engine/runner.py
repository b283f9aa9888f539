"""Turns a step's rows into tensors, runs the model on them, and returns what the step needs."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from outrider.engine.batch import from_list, make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import ServedModel
from outrider.engine.scheduler import StepRow


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Of a step's rows: float32 logits and, in the model's dtype, what speculators read.

    `logits` and `hidden` have, for each row that reaches its end, in order, one behind the sequence's newest token and
    one behind each drafted node; `prompt_logits` those of the rows' `prompt_places`, in order; `taps` those of every
    computed token and drafted node, in order.
    """

    logits: torch.Tensor  # (num_logit_rows, vocab_size)
    prompt_logits: torch.Tensor  # (num_prompt_places, vocab_size)
    hidden: torch.Tensor  # (num_logit_rows, hidden_size), as in `ModelOutput`
    taps: torch.Tensor | None  # (num_rows, num_taps * hidden_size), as in `ModelOutput`


class ModelRunner:
    """Runs steps on one model whose cache is allocated."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def run(self, rows: SequenceOf[StepRow]) -> StepOutput:
        """Computes the rows' tokens and drafts."""
        token_ids: list[int] = []
        spans: list[range] = []
        logit_rows: list[int] = []
        prompt_rows: list[int] = []
        for row in rows:
            sequence, start = row.sequence, row.sequence.num_computed
            spans.append(range(start, start + row.num_tokens + len(row.draft)))
            prompt_rows += [len(token_ids) + place - start for place in row.prompt_places]
            token_ids += sequence.token_ids[start : start + row.num_tokens]
            token_ids += row.draft.token_ids
            if row.reaches_end:
                logit_rows += range(len(token_ids) - 1 - len(row.draft), len(token_ids))
        device = self._model.device
        blocks, trees = [row.sequence.block_ids for row in rows], [row.draft for row in rows]
        batch, positions = make_batch(blocks, spans, device, self._model.tile_size, trees)
        wanted = from_list([*logit_rows, *prompt_rows] or [0], device)
        output = self._model.forward(from_list(token_ids, device), positions, batch, wanted)
        count = len(logit_rows)
        prompt_logits = output.logits[count:][: len(prompt_rows)]
        return StepOutput(output.logits[:count], prompt_logits, output.hidden[:count], output.taps)

    def move(self, moves: SequenceOf[tuple[StepRow, SequenceOf[int]]]) -> None:
        """Moves the keys and values of accepted nodes to where their tokens' places are, behind what was computed.

        Args:
            moves: rows of the last step, and the nodes of their drafts that were accepted, in order
        """
        sources: list[tuple[int, int]] = []
        targets: list[tuple[int, int]] = []
        for row, accepted in moves:
            first = row.sequence.num_computed - len(accepted)
            for depth, node in enumerate(accepted):
                if depth != node:
                    sources.append(self._slot(row, first + node))
                    targets.append(self._slot(row, first + depth))
        if sources:
            self._model.move_kv(torch.tensor(sources), torch.tensor(targets))

    def _slot(self, row: StepRow, place: int) -> tuple[int, int]:
        return row.sequence.block_ids[place // BLOCK_SIZE], place % BLOCK_SIZE
