"""The speculators beside a target: loads those that the configuration names, and makes their proposers."""

import torch

from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.draft_model import ServedDraftModel
from outrider.engine.errors import LoadError
from outrider.engine.hub import checkpoint_folder
from outrider.engine.models.loader import load_model
from outrider.engine.models.served_model import ServedModel
from outrider.speculative.draft import DraftProposer
from outrider.speculative.proposer import Proposer


class Speculators:
    """Every speculator of one engine, with its cache: as many blocks as the target has, of the same places."""

    def __init__(self, config: EngineConfig, target: ServedModel) -> None:
        """Loads what is named.

        Raises:
            LoadError: a speculator cannot be read, or was made for another target.
        """
        self.proposers: dict[str, Proposer] = {}
        self._draft: ServedModel | None = None
        if not config.speculation:
            return
        if config.draft is not None:
            loaded = load_model(
                checkpoint_folder(config.draft, None), config.dtype, torch.get_num_threads(), str(target.device)
            )
            self._draft = loaded.model
            if self._draft.vocab_size != target.vocab_size:
                raise LoadError(
                    f"the draft model `{config.draft}` has {self._draft.vocab_size} tokens, the target "
                    f"`{config.model}` {target.vocab_size}: use a draft model of the same tokenizer"
                )
            self.proposers["draft"] = DraftProposer(ServedDraftModel(self._draft))

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the speculators' keys and values of so many tokens take."""
        return self._draft.kv_bytes(num_tokens) if self._draft is not None else 0

    def allocate_cache(self, num_blocks: int) -> None:
        """Takes the memory for as many blocks as the target has."""
        if self._draft is not None:
            self._draft.allocate_cache(num_blocks, BLOCK_SIZE)
