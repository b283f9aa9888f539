"""The loss of every speculator: soft cross-entropy to the target's distribution, in pieces that fit in memory.

Owns how many rows of logits exist at once. With a vocabulary of 128,000 a few thousand rows of float32 logits and their
gradients are tens of gigabytes; here each piece is computed again when its gradient is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn.functional import log_softmax, softmax
from torch.utils.checkpoint import checkpoint

from outrider.speculative.training.target import Target

# Logits of one piece: 128 MB in float32.
_PIECE: Final = 2**25


@dataclass(frozen=True, slots=True)
class Distilled:
    """Sums over rows: the loss in nats, rows that counted in it, and rows whose guess is the target's own."""

    loss: torch.Tensor
    counted: torch.Tensor
    hits: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The loss by row."""
        return self.loss / self.counted.clamp(min=1)


def distil(
    target: Target,
    taught: torch.Tensor,
    student: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    vocabulary: torch.Tensor | None = None,
) -> Distilled:
    """How far a student's distributions are from the target's.

    Args:
        target: the teacher
        taught: its hidden states behind the final norm, (num_rows, hidden_size)
        student: hidden states to logits
        hidden: what the student makes its logits of, (num_rows, ...)
        vocabulary: target ids that the student can guess, ascending; all if None. Rows where the target's own best
            token is not among them do not count, and its distribution is taken over the others alone
    """

    def piece(hidden: torch.Tensor, taught: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        teacher = target.logits(taught)
        best = teacher.argmax(-1)
        logits = student(hidden).float()
        guesses = logits.argmax(-1)
        counted = torch.ones_like(best, dtype=torch.bool)
        if vocabulary is not None:
            teacher, guesses = teacher[:, vocabulary], vocabulary[guesses]
            counted = torch.isin(best, vocabulary)
        losses = -(softmax(teacher, dim=-1) * log_softmax(logits, dim=-1)).sum(-1) * counted
        return losses.sum(), counted.sum(), (guesses == best).sum()

    rows = max(1, _PIECE // target.vocab_size)
    if len(hidden) <= rows:
        return Distilled(*piece(hidden, taught))
    sums = [
        checkpoint(piece, hidden[start : start + rows], taught[start : start + rows], use_reentrant=False)
        for start in range(0, len(hidden), rows)
    ]
    loss, counted, hits = (torch.stack(parts).sum() for parts in zip(*sums, strict=True))
    return Distilled(loss, counted, hits)
