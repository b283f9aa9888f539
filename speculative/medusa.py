"""Medusa heads: one small block per future token, all reading the target's last hidden state.

Owns the module. The paper is Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding
Heads", 2024. Files are in `medusa_checkpoint.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import silu


@dataclass(frozen=True, slots=True)
class MedusaConfig:
    """The shape of the heads; `hidden_size` is the target's.

    `output_size` counts the tokens that each head's own output layer guesses; None where the target's layer serves all.
    With `has_token_map` these are some of the target's tokens, otherwise all.
    """

    hidden_size: int
    num_heads: int = 4
    num_layers: int = 1
    output_size: int | None = None
    has_token_map: bool = False


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
    """Head i guesses token t + 2 + i from the hidden state that gives the target's own token t + 1.

    `token_map` holds the target's ids of what the heads guess, (output_size,), or is None where that is all tokens.
    """

    token_map: torch.Tensor | None

    def __init__(self, config: MedusaConfig) -> None:
        super().__init__(_make_head(config) for _ in range(config.num_heads))
        self.config = config
        size = config.output_size if config.has_token_map else None
        self.register_buffer("token_map", None if size is None else torch.arange(size))

    def guesses(self, hidden: torch.Tensor, output: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Logits of each head in float32.

        Args:
            hidden: the target's hidden states behind its final norm, (num_tokens, hidden_size)
            output: the target's output layer, such hidden states to logits; unused where the heads have their own

        Returns:
            Shape (num_heads, num_tokens, output_size), or (num_heads, num_tokens, vocab_size) of the target's layer.
        """
        outputs = torch.stack([head(hidden) for head in self])
        return (output(outputs) if self.config.output_size is None else outputs).float()

    def to_target(self, choices: torch.Tensor) -> torch.Tensor:
        """The target's ids of places in `guesses`."""
        return choices if self.token_map is None else self.token_map[choices]


def _make_head(config: MedusaConfig) -> nn.Sequential:
    """Blocks, and behind them the head's own output layer if there is one: so published files number them."""
    head = nn.Sequential(*(ResBlock(config.hidden_size) for _ in range(config.num_layers)))
    if config.output_size is not None:
        head.append(nn.Linear(config.hidden_size, config.output_size, bias=False))
    return head
