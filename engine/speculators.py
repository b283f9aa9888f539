"""The speculators beside a target: loads those that the configuration names, and makes their proposers."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.draft_model import ServedDraftModel
from outrider.engine.errors import LoadError
from outrider.engine.hub import checkpoint_folder
from outrider.engine.models.loader import load_model
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.linear import can_pack, pack_linears
from outrider.speculative.draft import DraftProposer
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.eagle_proposer import EagleProposer
from outrider.speculative.files import CheckpointError
from outrider.speculative.fit import TargetShape, check_eagle, check_medusa
from outrider.speculative.medusa_checkpoint import load_medusa
from outrider.speculative.medusa_proposer import MedusaProposer
from outrider.speculative.proposer import Proposer
from outrider.speculative.vocabulary import Vocabulary, VocabularyMap, map_vocabularies


class Speculators:
    """Every speculator of one engine, with its cache: as many blocks as the target has, of the same places."""

    def __init__(self, config: EngineConfig, folder: str, target: ServedModel) -> None:
        """Loads what is named, and has the target give the features that it reads.

        Args:
            config: names the speculators
            folder: of the target
            target: loaded

        Raises:
            LoadError: a speculator cannot be read, or was made for another target.
        """
        self.proposers: dict[str, Proposer] = {}
        self._draft: ServedModel | None = None
        self._eagle: EagleProposer | None = None
        self._target = target
        if not config.speculators:
            return
        hidden_size = target.embed(torch.zeros(1, dtype=torch.int64, device=target.device)).shape[-1]
        shape = TargetShape(folder, hidden_size, target.vocab_size, target.num_layers)
        try:
            if config.medusa is not None:
                self._load_medusa(Path(checkpoint_folder(config.medusa)), shape)
            if config.draft is not None:
                self._load_draft(checkpoint_folder(config.draft), config.dtype, shape)
            if config.eagle is not None:
                self._load_eagle(Path(checkpoint_folder(config.eagle)), shape)
        except CheckpointError as error:
            raise LoadError(str(error)) from error

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the speculators' keys and values of so many tokens take."""
        return sum(one.kv_bytes(num_tokens) for one in (self._draft, self._eagle) if one is not None)

    def allocate_cache(self, num_blocks: int) -> None:
        """Takes the memory for as many blocks as the target has."""
        if self._draft is not None:
            self._draft.allocate_cache(num_blocks, BLOCK_SIZE)
        if self._eagle is not None:
            self._eagle.allocate_cache(num_blocks)

    def _load_medusa(self, folder: Path, shape: TargetShape) -> None:
        heads = load_medusa(folder)
        check_medusa(heads, str(folder), shape)
        self._fit(heads)
        self.proposers["medusa"] = MedusaProposer(heads, self._output)

    def _load_draft(self, folder: str, dtype: str, shape: TargetShape) -> None:
        num_threads = torch.get_num_threads()
        loaded = load_model(folder, dtype, None, str(self._target.device))
        torch.set_num_threads(num_threads)  # the target's
        self._draft = loaded.model
        vocabulary = _map_vocabularies(folder, loaded.model.vocab_size, shape)
        self.proposers["draft"] = DraftProposer(ServedDraftModel(loaded.model, vocabulary))

    def _load_eagle(self, folder: Path, shape: TargetShape) -> None:
        head = load_eagle(folder, shape.num_layers)
        check_eagle(head, str(folder), shape)
        self._fit(head)
        # A head that taps no layer reads what is behind the final norm.
        self._target.tap(head.config.tap_layers or (self._target.num_layers,))
        self._eagle = EagleProposer(head, self._target.embed, self._output, BLOCK_SIZE)
        self.proposers["eagle"] = self._eagle

    def _output(self, hidden: torch.Tensor) -> torch.Tensor:
        """The target's output layer on hidden states (..., hidden_size)."""
        return self._target.output_logits(hidden.flatten(0, -2)).reshape(*hidden.shape[:-1], -1)

    def _fit(self, module: nn.Module) -> None:
        """Moves a head to where its target is, in the target's dtype, its linears as fast as the target's."""
        dtype = self._target.embed(torch.zeros(1, dtype=torch.int64, device=self._target.device)).dtype
        module.to(self._target.device, dtype).eval()
        if self._target.device.type == "cpu" and can_pack(dtype):
            pack_linears(module)


def _map_vocabularies(folder: str, vocab_size: int, target: TargetShape) -> VocabularyMap | None:
    """How a draft model's tokens are the target's; None where they are the same.

    Raises:
        CheckpointError: they have too little in common.
        LoadError: a tokenizer cannot be read, or is there in one only.
    """
    files = [Path(one) / "tokenizer.json" for one in (folder, target.name)]
    if not any(file.is_file() for file in files):  # both take and give ids alone
        if vocab_size != target.vocab_size:
            raise LoadError(
                f"the draft model `{folder}` has {vocab_size} tokens, the target `{target.name}` {target.vocab_size}, "
                "and neither has a tokenizer.json to compare them by: use a draft model of the same vocabulary"
            )
        return None
    draft_ids, target_ids = map(_token_ids, files)
    mapped = map_vocabularies(
        Vocabulary(folder, draft_ids, vocab_size), Vocabulary(target.name, target_ids, target.vocab_size)
    )
    return None if mapped.is_identity and vocab_size == target.vocab_size else mapped


def _token_ids(file: Path) -> dict[str, int]:
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    except Exception as error:  # a damaged tokenizer raises anything; it becomes one clear line
        raise LoadError(f"`{file}` cannot be read, by which draft model and target are compared") from error
    ids: dict[str, int] = tokenizer.get_vocab()
    return ids
