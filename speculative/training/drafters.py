"""Drafters for the evaluation: each drafts along an answer that the target has already given.

Owns how a speculator is run without a server.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache, PreTrainedModel

from outrider.speculative.eagle import EagleHead
from outrider.speculative.eagle3 import Eagle3Head
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.files import CheckpointError
from outrider.speculative.fit import check_eagle, check_medusa
from outrider.speculative.medusa import MedusaHeads
from outrider.speculative.medusa_checkpoint import load_medusa
from outrider.speculative.ngram import NgramProposer
from outrider.speculative.proposer import DraftRequest
from outrider.speculative.training.evaluation import Drafter
from outrider.speculative.training.target import Features, Target, load_model
from outrider.speculative.vocabulary import Vocabulary, map_vocabularies


def load_drafters(
    target: Target, draft: Path | None, eagle3: Path | None, medusa: Path | None, num_tokens: int
) -> tuple[dict[str, Drafter], tuple[int, ...]]:
    """N-grams and each speculator that has a folder, by what a table calls them; and the layers that they read.

    Raises:
        CheckpointError: a folder is no speculator of its kind, or does not fit the target.
    """
    drafters: dict[str, Drafter] = {f"ngram (k={num_tokens})": NgramDrafter(num_tokens)}
    taps: tuple[int, ...] = ()
    if draft is not None:
        model, tokenizer = load_model(str(draft))
        _check_draft(model, tokenizer.get_vocab(), str(draft), target)
        drafters[f"draft (k={num_tokens})"] = ModelDrafter(model, num_tokens)
    if eagle3 is not None:
        head = load_eagle(eagle3, target.num_layers)
        check_eagle(head, str(eagle3), target.shape)
        taps = head.config.tap_layers
        drafters[f"eagle3 (k={num_tokens})"] = EagleDrafter(head, target, num_tokens)
    if medusa is not None:
        heads = load_medusa(medusa)
        check_medusa(heads, str(medusa), target.shape)
        count = min(num_tokens, heads.config.num_heads)
        drafters[f"medusa (k={count})"] = MedusaDrafter(heads, target, count)
    return drafters, taps


class NgramDrafter:
    """The n-gram proposer that serves requests."""

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens
        self._proposer = NgramProposer()
        self._ids: Sequence[int] = ()

    def start(self, token_ids: Sequence[int], features: Features) -> None:  # noqa: ARG002 - reads text alone
        """Forgets the answer before."""
        self._proposer.forget("")
        self._ids = token_ids

    def draft(self, length: int) -> list[int]:
        """What followed the last occurrence of the newest tokens."""
        request = DraftRequest("", self._ids[:length], self._num_tokens)
        return list(self._proposer.propose([request])[0].token_ids)


class ModelDrafter:
    """A smaller causal model, greedy, with a cache of its own."""

    def __init__(self, model: PreTrainedModel, num_tokens: int) -> None:
        self._model = model.eval()
        self._num_tokens = num_tokens
        self._ids: Sequence[int] = ()
        self._cache = DynamicCache()

    def start(self, token_ids: Sequence[int], features: Features) -> None:  # noqa: ARG002 - reads text alone
        """Begins with an empty cache."""
        self._ids = token_ids
        self._cache = DynamicCache()

    @torch.no_grad()
    def draft(self, length: int) -> list[int]:
        """The model's own greedy continuation."""
        # What was drafted before may have been rejected; the last token accepted may not have been read yet.
        known = min(self._cache.get_seq_length(), length - 1)
        self._keep(known)
        unread = list(self._ids[known:length])
        drafted: list[int] = []
        for _ in range(self._num_tokens):
            ids = torch.tensor([unread], device=self._model.device)
            output = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True)
            drafted.append(int(output.logits[0, -1].argmax()))
            unread = drafted[-1:]
        # Only what is certain stays: drafted keys are read again once their tokens are accepted.
        self._keep(length)
        return drafted

    def _keep(self, length: int) -> None:
        surplus = self._cache.get_seq_length() - length
        if surplus > 0:
            self._cache.crop(-surplus)


class EagleDrafter:
    """An EAGLE head, greedy: the target's features of the past, its own features of what it drafts."""

    def __init__(self, head: EagleHead | Eagle3Head, target: Target, num_tokens: int) -> None:
        self._head = head.to(target.device).eval()
        self._target = target
        self._num_tokens = num_tokens
        self._ids = torch.zeros(0, dtype=torch.long)
        self._features = torch.zeros(0)
        self._true: tuple[torch.Tensor, torch.Tensor] = (torch.zeros(0), torch.zeros(0))
        self._outputs = torch.zeros(0)

    @torch.no_grad()
    def start(self, token_ids: Sequence[int], features: Features) -> None:
        """Reads the true features of all places once: a draft attends to those of its past alone."""
        self._ids = torch.tensor(token_ids, device=self._target.device)
        seen = features.taps if self._head.config.tap_layers else features.last
        fused = self._head.fuse(seen[0].float())
        num_starts = len(token_ids) - 1
        remembered = _Remembered()
        self._outputs = self._head(
            self._target.embedding(self._ids[1:]).float(),
            fused[:num_starts],
            torch.arange(num_starts, device=self._ids.device),
            remembered.attend,
        )
        self._true = (remembered.keys, remembered.values)

    def draft(self, length: int) -> list[int]:
        """Depth 0 stands at the last true feature, that of token `length - 2` beside token `length - 1`."""
        drafted: list[int] = []
        for hidden in self._chain(length - 2, drafted):
            best = self._head.guesses(hidden, self._target.logits).argmax()
            drafted.append(int(self._head.to_target(best)))
        return drafted

    def outputs(self, start: int, token_ids: Sequence[int]) -> list[torch.Tensor]:
        """The head's outputs (hidden_size,) behind a start if these tokens are what it drafts."""
        return list(self._chain(start, token_ids))

    @torch.no_grad()
    def _chain(self, start: int, drafted: Sequence[int]) -> Iterator[torch.Tensor]:
        """Outputs at each depth; `drafted[i]` is read once the output of depth i is out."""
        remembered = _Remembered(self._true[0][: start + 1], self._true[1][: start + 1])
        hidden = self._outputs[start : start + 1]
        yield hidden[0]
        for depth in range(1, self._num_tokens):
            embeds = self._target.embedding(torch.tensor([drafted[depth - 1]], device=self._ids.device)).float()
            position = torch.tensor([start + depth], device=self._ids.device)
            hidden = self._head(embeds, hidden, position, remembered.attend)
            yield hidden[0]


class MedusaDrafter:
    """Medusa heads: the best token of each."""

    def __init__(self, heads: MedusaHeads, target: Target, num_tokens: int) -> None:
        self._heads = heads.to(target.device).eval()
        self._target = target
        self._num_tokens = num_tokens
        self._last = torch.zeros(0)

    def start(self, token_ids: Sequence[int], features: Features) -> None:  # noqa: ARG002 - reads features alone
        """Keeps what the heads read."""
        self._last = features.last[0]

    @torch.no_grad()
    def draft(self, length: int) -> list[int]:
        """Head i at the last token whose feature is known guesses token `length + i`."""
        guesses = self._heads.guesses(self._last[length - 2 : length - 1].float(), self._target.logits)
        best: list[int] = self._heads.to_target(guesses[:, 0].argmax(-1)).tolist()
        return best[: self._num_tokens]


class _Remembered:
    """Causal attention of one chain over remembered keys and values (num_tokens, heads, head_dim)."""

    def __init__(self, keys: torch.Tensor | None = None, values: torch.Tensor | None = None) -> None:
        self.keys = torch.zeros(0) if keys is None else keys
        self.values = torch.zeros(0) if values is None else values

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        self.keys = torch.cat((self.keys, k)) if len(self.keys) else k
        self.values = torch.cat((self.values, v)) if len(self.values) else v
        # Either all of a chain at once, or its next token alone.
        q, keys, values = (x.transpose(0, 1)[None] for x in (q, self.keys, self.values))
        out = scaled_dot_product_attention(q, keys, values, is_causal=q.shape[2] > 1, enable_gqa=True)
        return out[0].transpose(0, 1)


def _check_draft(model: PreTrainedModel, vocabulary: Mapping[str, int], folder: str, target: Target) -> None:
    """Refuses a draft model of another tokenizer.

    Raises:
        CheckpointError: names both.
    """
    size = model.config.get_text_config().vocab_size
    own = Vocabulary(target.name, target.tokenizer.get_vocab(), target.vocab_size)
    if not map_vocabularies(Vocabulary(folder, vocabulary, size), own).is_identity:
        raise CheckpointError(
            f"the tokenizer of the draft model `{folder}` differs from that of the target `{target.name}`: use a draft "
            "model of the same tokenizer"
        )
