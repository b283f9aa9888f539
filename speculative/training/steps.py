"""What every step of learning needs: batches of samples, optimisers and their descent, a state on disk.

Owns nothing that lasts; `loop.Run` and the demo recipe put the parts together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from outrider.speculative.training.samples import Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded ids and whether each is learned, both (batch, length); padding is id 0 and not learned."""

    ids: torch.Tensor
    learned: torch.Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples side by side."""
    # Few different lengths: some libraries keep memory for every shape they have met.
    length = -(-max(len(sample.token_ids) for sample in samples) // 16) * 16
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    learned = torch.zeros(len(samples), length, dtype=torch.bool)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.token_ids)] = torch.tensor(sample.token_ids)
        learned[row, : len(sample.learned)] = torch.tensor(sample.learned)
    return Batch(ids, learned)


def grouped(lengths: Mapping[int, int], batch_tokens: int) -> list[list[int]]:
    """Indexes of like length together, each group at most `batch_tokens` with its padding; `lengths` by index."""
    groups: list[list[int]] = [[]]
    for index in sorted(lengths, key=lambda index: lengths[index]):
        if groups[-1] and (len(groups[-1]) + 1) * lengths[index] > batch_tokens:
            groups.append([])
        groups[-1].append(index)
    return groups


def optimisers(module: nn.Module, matrix_rate: float, vector_rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for hidden matrices, which learns them in about half the steps; AdamW for embeddings, outputs, vectors."""
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        is_vocabulary = "embed" in name or "lm_head" in name
        (hidden if parameter.ndim == 2 and not is_vocabulary else others).append(parameter)
    found: list[torch.optim.Optimizer] = []
    if hidden:
        found.append(torch.optim.Muon(hidden, lr=matrix_rate, weight_decay=0.01))
    if others:
        found.append(torch.optim.AdamW(others, lr=vector_rate, betas=(0.9, 0.95), weight_decay=0.0))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["top_lr"] = group["lr"]
    return tuple(found)


def descend(module: nn.Module, optimisers: Sequence[torch.optim.Optimizer], scale: float) -> None:
    """One step of all optimisers at `scale` times their rates, after the gradients are clipped to a norm of one.

    Raises:
        FloatingPointError: a gradient is not finite; no weight has changed.
    """
    norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    if not torch.isfinite(norm):
        raise FloatingPointError("a gradient is not finite")
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["top_lr"] * scale
        optimiser.step()
        optimiser.zero_grad()


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Writes a run's state whole or not at all: beside its place, then renamed."""
    scratch = path.with_name(f".{path.name}.new")
    torch.save(dict(state), scratch)
    scratch.replace(path)
