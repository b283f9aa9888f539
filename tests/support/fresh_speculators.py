"""What a speculator that has seen nothing yet makes of a request: by it those are judged that keep caches and features.

Wrong features or a stale cache change no token, they only make guesses worse; so the guesses themselves are compared.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from speculated_target import TAPS

from outrider.engine.batch import make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.core import EngineCore
from outrider.engine.draft_model import ServedDraftModel
from outrider.engine.models.loader import load_model
from outrider.engine.models.served_model import ServedModel
from outrider.speculative.draft import DraftProposer
from outrider.speculative.eagle_proposer import EagleProposer
from outrider.speculative.limits import MAX_NODES
from outrider.speculative.medusa_proposer import MedusaProposer
from outrider.speculative.proposer import Draft, DraftRequest, Features
from outrider.speculative.tree import merge

BLOCKS = range(6)


class Judge:
    """Watches the speculators of an engine in every step, and keeps what they do wrong."""

    def __init__(self, core: EngineCore, draft_folder: str) -> None:
        self.core = core
        self.mistakes: list[str] = []
        self.num_judged = dict.fromkeys(("medusa", "draft", "eagle"), 0)
        self._model = _load(core.folder, core)
        self._model.tap(TAPS)
        self._draft_model = ServedDraftModel(_load(draft_folder, core), None)
        self._known: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        proposers, observers = core._drafting._proposers, core._drafting._observers
        for name in self.num_judged:
            proposers[name] = judged = _Judged(name, proposers[name], self)
            if name in observers:
                observers[name] = judged

    def features(self, text: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Taps of a text's places, and the hidden state at its last, computed anew and in one piece."""
        key = tuple(text)
        if key not in self._known:
            batch, positions = make_batch([BLOCKS], [range(len(key))], self._model.device, self._model.tile_size)
            output = self._model.forward(torch.tensor(key), positions, batch, torch.tensor([len(key) - 1]))
            assert output.taps is not None
            self._known[key] = output.taps, output.hidden[0]
        return self._known[key]

    def fresh(self, real, request: DraftRequest, base: int) -> Draft:
        """What a new proposer offers that is told all features from `base` on."""
        request = replace(request, block_ids=BLOCKS, digests=(), epoch=0)
        if isinstance(real, DraftProposer):
            return DraftProposer(self._draft_model).propose([request])[0]
        stop = len(request.token_ids) - 1
        taps, hidden = self.features(request.token_ids[:stop])
        if isinstance(real, MedusaProposer):
            proposer = MedusaProposer(real._heads, real._output)
        else:
            proposer = EagleProposer(real._head, real._embed, real._output, BLOCK_SIZE)
            proposer.allocate_cache(len(BLOCKS))
        proposer.observe([Features(request.request_id, base, stop, 0, taps[base:], hidden)])
        return proposer.propose([request])[0]


class _Judged:
    """A proposer whose every offer is compared with a fresh one's."""

    def __init__(self, name: str, real, judge: Judge) -> None:
        self._name, self._real, self._judge = name, real, judge
        self._told: dict[tuple[str, int], range] = {}  # by request and epoch, the places whose features it was given

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        drafts = self._real.propose(requests)
        for request, draft in zip(requests, drafts, strict=True):
            told = self._told.get((request.request_id, request.epoch))
            if self._name == "medusa":  # the state behind which the newest token was drawn is all it needs
                can_guess = len(request.token_ids) > request.num_prompt_tokens
            else:
                can_guess = self._name == "draft" or told is not None
            expected = self._judge.fresh(self._real, request, told.start if told else 0) if can_guess else Draft()
            self._judge.num_judged[self._name] += can_guess
            if not _is_same(draft, expected):
                self._judge.mistakes.append(
                    f"{self._name} of {request.request_id}.{request.epoch} at {len(request.token_ids)}: "
                    f"{draft} instead of {expected}"
                )
        return drafts

    def observe(self, features: Sequence[Features]) -> None:
        for one in features:
            key = one.request_id, one.epoch
            told = self._told.setdefault(key, range(one.start, one.start))
            if told.stop != one.start:
                self._judge.mistakes.append(f"{key} goes on at {one.start} behind {told.stop}")
            self._told[key] = range(told.start, one.stop)
            taps, hidden = self._judge.features(self._judge.core._sequences[one.request_id].token_ids[: one.stop])
            if not torch.equal(taps[one.start :], one.taps):
                self._judge.mistakes.append(f"taps of {key} from {one.start} to {one.stop}")
            if one.hidden is not None and not torch.equal(hidden, one.hidden):
                self._judge.mistakes.append(f"hidden state of {key} at {one.stop - 1}")
        self._real.observe(features)

    def forget(self, request_id: str) -> None:
        self._told = {key: told for key, told in self._told.items() if key[0] != request_id}
        self._real.forget(request_id)


def _is_same(draft: Draft, other: Draft) -> bool:
    """The same tokens at the same places; scores up to what torch's own functions make of other batches."""
    mine, others = _scores(draft), _scores(other)
    return mine.keys() == others.keys() and all(abs(score - others[path]) < 1e-3 for path, score in mine.items())


def _scores(draft: Draft) -> dict[tuple[int, ...], float]:
    """By the tokens that lead to each node."""
    tree = merge({"": draft}, MAX_NODES)
    return {tree.tokens_to(node): scores[0] for node, scores in enumerate(tree.scores)}


def _load(folder: str, core: EngineCore) -> ServedModel:
    model = load_model(folder, core.config.dtype, 1, "cpu").model
    model.allocate_cache(len(BLOCKS), BLOCK_SIZE)
    return model
