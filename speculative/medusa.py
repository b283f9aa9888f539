"""Medusa heads: one small block per future token, all reading the target's last hidden state.

Owns the module and its files. The paper is Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with
Multiple Decoding Heads", 2024. Written is the "version 2" format, whose heads share the target's output layer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn.functional import silu

from outrider.speculative.files import CheckpointError, read_config, read_tensors, write_checkpoint

WEIGHTS: Final = "medusa_lm_head.safetensors"


@dataclass(frozen=True, slots=True)
class MedusaConfig:
    """The shape of the heads; `hidden_size` is the target's."""

    hidden_size: int
    num_heads: int = 4
    num_layers: int = 1


class ResBlock(nn.Module):
    """x + SiLU(linear(x)); starts as the identity."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., size) in and out."""
        return x + silu(self.linear(x))


class MedusaHeads(nn.ModuleList):
    """Head i guesses token t + 2 + i from the hidden state that gives the target's own token t + 1."""

    def __init__(self, config: MedusaConfig) -> None:
        super().__init__(
            nn.Sequential(*(ResBlock(config.hidden_size) for _ in range(config.num_layers)))
            for _ in range(config.num_heads)
        )
        self.config = config

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the target's output layer reads for each head.

        Args:
            hidden: the target's hidden states behind its final norm, (num_tokens, hidden_size)

        Returns:
            Shape (num_heads, num_tokens, hidden_size).
        """
        return torch.stack([head(hidden) for head in self])


def save_medusa(heads: MedusaHeads, folder: Path, target: str, card: str) -> None:
    """Writes config.json and medusa_lm_head.safetensors, in bfloat16."""
    config = {
        "version": "2",
        "base_model_name_or_path": target,
        "medusa_num_heads": heads.config.num_heads,
        "medusa_num_layers": heads.config.num_layers,
        "hidden_size": heads.config.hidden_size,
    }
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in heads.state_dict().items()}
    write_checkpoint(folder, config, tensors, card, WEIGHTS)


def load_medusa(folder: Path) -> MedusaHeads:
    """Heads in float32 from a "version 2" folder.

    Raises:
        CheckpointError: the folder holds other heads, or lacks something; the message names it.
    """
    written = read_config(folder)
    tensors = read_tensors(folder)
    num_heads, num_layers = written.get("medusa_num_heads"), written.get("medusa_num_layers")
    first = tensors.get("0.0.linear.weight")
    if not isinstance(num_heads, int) or not isinstance(num_layers, int) or first is None:
        raise CheckpointError(f"`{folder}` does not hold Medusa heads with a shared output layer (version 2)")
    heads = MedusaHeads(MedusaConfig(first.shape[0], num_heads, num_layers))
    wanted = heads.state_dict()
    different = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if different:
        raise CheckpointError(
            f"the Medusa heads `{folder}` lack `{different[0]}` of shape {tuple(wanted[different[0]].shape)}"
        )
    unknown = tensors.keys() - wanted.keys()
    if unknown:
        raise CheckpointError(
            f"the Medusa heads `{folder}` have the tensor `{min(unknown)}`: only heads that share the target's output "
            "layer (version 2) are supported"
        )
    heads.load_state_dict({name: tensors[name] for name in heads.state_dict()})
    return heads.float()
