"""A draft model beside the target: its own weights and its own cache, laid out as the target's."""

from collections.abc import Sequence

import torch

from outrider.engine.batch import make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import ServedModel


class ServedDraftModel:
    """As `speculative.draft.DraftModel`: the model that a draft proposer asks."""

    block_size = BLOCK_SIZE

    def __init__(self, model: ServedModel) -> None:
        """The model's cache must be allocated with as many blocks as the target's before it is asked."""
        self.max_model_len = model.max_model_len
        self._model = model

    def forward(
        self, block_ids: Sequence[Sequence[int]], spans: Sequence[range], token_ids: Sequence[int]
    ) -> torch.Tensor:
        """Logits (num_spans, vocab_size), float32, behind the last place of each span."""
        device = self._model.device
        batch, positions = make_batch(block_ids, spans, device, self._model.tile_size)
        ends = torch.tensor([len(span) for span in spans]).cumsum(0) - 1
        return self._model.forward(torch.tensor(token_ids).to(device), positions, batch, ends.to(device))
