"""Turns a step's rows into tensors, runs the model on them, and returns the logits that the step needs."""

from collections.abc import Sequence as SequenceOf

import torch

from outrider.engine.batch import make_batch
from outrider.engine.models.served_model import ServedModel
from outrider.engine.scheduler import StepRow


class ModelRunner:
    """Runs steps on one model whose cache is allocated."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def run(self, rows: SequenceOf[StepRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the rows' tokens and drafts.

        Returns:
            two tensors of float32 logits, (num_logit_rows, vocab_size). The first: for each row that reaches its end,
            in order, one behind the sequence's newest token and one behind each drafted token. The second: those of
            the rows' `prompt_places`, in order.
        """
        token_ids: list[int] = []
        spans: list[range] = []
        logit_rows: list[int] = []
        prompt_rows: list[int] = []
        for row in rows:
            sequence, start = row.sequence, row.sequence.num_computed
            spans.append(range(start, start + row.num_tokens + len(row.draft)))
            prompt_rows += [len(token_ids) + place - start for place in row.prompt_places]
            token_ids += sequence.token_ids[start : start + row.num_tokens]
            token_ids += row.draft
            if row.reaches_end:
                logit_rows += range(len(token_ids) - 1 - len(row.draft), len(token_ids))
        device = self._model.device
        batch, positions = make_batch([row.sequence.block_ids for row in rows], spans, device, self._model.tile_size)
        wanted = torch.tensor([*logit_rows, *prompt_rows] or [0]).to(device)
        logits = self._model.forward(torch.tensor(token_ids).to(device), positions, batch, wanted)
        return logits[: len(logit_rows)], logits[len(logit_rows) :][: len(prompt_rows)]
