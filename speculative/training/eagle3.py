"""What an EAGLE-3 head learns: the target's distributions, from its own guesses as it will have to draft them.

Owns training-time test (Li et al., 2025, section 3.2): depth 0 reads the target's true features; each later depth reads
the head's own output of the depth before, and attends to the true features of its past and to the guesses of its own
chain alone, as in drafting.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn.functional import softmax

from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head, default_taps
from outrider.speculative.eagle_checkpoint import save_eagle3
from outrider.speculative.training.distillation import distil
from outrider.speculative.training.loop import Outcome
from outrider.speculative.training.samples import Sample
from outrider.speculative.training.steps import Batch
from outrider.speculative.training.target import Target

DEPTH: Final = 4
_DECAY: Final = 0.8


class Eagle3Objective:
    """Soft cross-entropy to the target over the draft vocabulary, at every depth, deeper ones weighing less."""

    def __init__(self, target: Target, samples: list[Sample], draft_vocab_size: int) -> None:
        config = target.model.config.get_text_config()
        num_heads = config.num_attention_heads
        self._target = target
        self.module = Eagle3Head(
            Eagle3Config(
                hidden_size=target.hidden_size,
                intermediate_size=getattr(config, "intermediate_size", None) or 4 * target.hidden_size,
                num_attention_heads=num_heads,
                num_key_value_heads=getattr(config, "num_key_value_heads", None) or num_heads,
                head_dim=getattr(config, "head_dim", None) or target.hidden_size // num_heads,
                target_hidden_size=target.hidden_size,
                vocab_size=target.vocab_size,
                draft_vocab_size=min(draft_vocab_size, target.vocab_size),
                tap_layers=default_taps(target.num_layers),
                max_length=target.max_length,
                rms_norm_eps=getattr(config, "rms_norm_eps", 1e-5),
                rope_theta=(getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10_000.0),
            )
        )
        self.module.use_vocabulary(frequent_tokens(samples, target.vocab_size, self.module.config.draft_vocab_size))
        with torch.no_grad():
            # The target's own rows are a good start: the head's output plays the part of the target's.
            weight = target.output_layer.weight
            assert isinstance(weight, torch.Tensor)
            self.module.lm_head.weight.copy_(weight[self.module.target_ids])
        self.module.to(target.device)

    def outcome(self, batch: Batch) -> Outcome:
        """The loss over all depths; hits and trials of shape (DEPTH,)."""
        device = self._target.device
        ids, learned = batch.ids.to(device), batch.learned.to(device)
        features = self._target.observe(ids, self.module.config.tap_layers)
        first = int(learned[:, 2:].any(0).int().argmax())  # no earlier start leads to something learned
        vocabulary = None if self.module.knows_all else self.module.target_ids
        total = torch.zeros((), device=device)
        hits, trials = torch.zeros(DEPTH, device=device), torch.zeros(DEPTH, device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = unroll(self.module, self._target.embedding, ids, features.taps, first)
            for depth, (hidden, starts) in enumerate(outputs):
                # Start t guesses token t + 2 + depth, which the target guesses at the place before it.
                chosen = _shifted(learned, 2 + depth)[:, starts].nonzero(as_tuple=True)
                taught = features.last[chosen[0], starts[chosen[1]] + 1 + depth]
                distilled = distil(self._target, taught, self.module.logits, hidden[chosen], vocabulary)
                total = total + _DECAY**depth * distilled.mean
                hits[depth], trials[depth] = distilled.hits, len(taught)
        return Outcome(total / sum(_DECAY**depth for depth in range(DEPTH)), hits, trials)

    def save(self, folder: Path, card: str) -> None:
        """Writes the head."""
        save_eagle3(self.module, folder, card)


def unroll(
    head: Eagle3Head, embedding: nn.Module, ids: torch.Tensor, taps: torch.Tensor, first: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The head's outputs at each depth, with the true tokens in the place of its own guesses.

    Start t reads the true feature of token t beside token t + 1; its output at depth i guesses token t + 2 + i.

    Args:
        head: with gradients
        embedding: the target's
        ids: right-padded, (batch, length)
        taps: of the same tokens, (batch, length, num_taps * target_hidden_size)
        first: the first start wanted; depth 0 computes those before too, which later ones attend to

    Yields:
        outputs (batch, num_starts, hidden_size) and the starts (num_starts,), for DEPTH depths
    """
    starts = torch.arange(ids.shape[1] - 2, device=ids.device)
    hidden = head.fuse(taps[:, : len(starts)])
    chain = _Chain()
    for depth in range(DEPTH):
        if depth == 1:
            hidden, starts = hidden[:, first:], starts[first:]
        embeds = embedding(_shifted(ids, 1 + depth)[:, starts])
        chain.starts = starts
        hidden = head(embeds, hidden, (starts + depth).expand(len(ids), -1), chain.attend)
        yield hidden, starts


class _Chain:
    """Attention of all chains at once: to true features up to each start, and to the chain's own guesses."""

    def __init__(self) -> None:
        self.starts = torch.zeros(0)
        self._true: tuple[torch.Tensor, torch.Tensor] | None = None
        self._guessed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Shapes (batch, num_starts, heads, head_dim); the first call brings the true features of all starts."""
        groups = q.shape[2] // k.shape[2]
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
        if self._true is None:
            self._true = (k, v)
        else:
            self._guessed.append((k, v))
        true_k, true_v = self._true
        scale = 1 / math.sqrt(q.shape[-1])
        scores = torch.einsum("bqhd,bkhd->bhqk", q, true_k).float() * scale
        future = torch.arange(true_k.shape[1], device=q.device) > self.starts[:, None]
        scores = scores.masked_fill(future, float("-inf"))
        own = [(q * key).sum(-1).transpose(1, 2)[..., None].float() * scale for key, _ in self._guessed]
        weights = softmax(torch.cat([scores, *own], dim=-1), dim=-1).to(q.dtype)
        out = torch.einsum("bhqk,bkhd->bqhd", weights[..., : true_k.shape[1]], true_v)
        for index, (_, value) in enumerate(self._guessed):
            out = out + weights[..., true_k.shape[1] + index].transpose(1, 2)[..., None] * value
        return out


def frequent_tokens(samples: list[Sample], vocab_size: int, count: int) -> torch.Tensor:
    """The `count` tokens that answers use most, ascending; filled up with the lowest ids."""
    uses = torch.zeros(vocab_size, dtype=torch.long)
    for sample in samples:
        learned = [token for token, flag in zip(sample.token_ids, sample.learned, strict=True) if flag]
        uses += torch.bincount(torch.tensor(learned, dtype=torch.long), minlength=vocab_size)
    # A stable sort leaves unused tokens in ascending order, so the lowest ids fill up.
    return torch.argsort(uses, descending=True, stable=True)[:count].sort().values


def _shifted(values: torch.Tensor, by: int) -> torch.Tensor:
    """Column t holds what column t + by held, or zero."""
    shifted = torch.zeros_like(values)
    shifted[:, : max(0, values.shape[1] - by)] = values[:, by:]
    return shifted
