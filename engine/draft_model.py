"""A draft model beside the target: its own weights, its own cache, laid out as the target's, and its own tokens."""

from collections.abc import Sequence

import torch

from outrider.engine.batch import make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import ServedModel
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
        self._to_draft: torch.Tensor | None = None
        if vocabulary is not None:
            # A token that it does not know reads as its first one; what it then guesses is verified all the same.
            self._to_draft = vocabulary.to_draft.clamp(min=0).to(model.device)
            self._known = (vocabulary.to_target >= 0).nonzero()[:, 0].to(model.device)
            self._targets = vocabulary.to_target.to(model.device)[self._known]

    def forward(
        self, block_ids: Sequence[Sequence[int]], spans: Sequence[range], token_ids: Sequence[int]
    ) -> torch.Tensor:
        """Logits (num_spans, target's vocab_size), float32, behind the last place of each span."""
        device = self._model.device
        batch, positions = make_batch(block_ids, spans, device, self._model.tile_size)
        ends = torch.tensor([len(span) for span in spans]).cumsum(0) - 1
        ids = torch.tensor(token_ids).to(device)
        if self._to_draft is None:
            return self._model.forward(ids, positions, batch, ends.to(device)).logits
        logits = self._model.forward(self._to_draft[ids], positions, batch, ends.to(device)).logits
        mapped = logits.new_full((len(logits), len(self._to_draft)), -torch.inf)
        mapped[:, self._targets] = logits[:, self._known]
        return mapped
