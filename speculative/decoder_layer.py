"""What the decoder layers of all EAGLE heads are made of, with the parameter names of published Llama checkpoints.

Owns norm, attention, rotation and MLP; how a head puts them together is in `eagle.py` and `eagle3.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import silu
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# Scalings of the rotary frequencies that do not depend on how long a text is, and the parameters that they need.
ROPE_SCALINGS: Final = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """The shape of a layer.

    `rope_scaling` is None, or transformers' parameters of one of ROPE_SCALINGS. `max_length` is the longest text in
    training; rotary positions go on behind it, so it limits nothing. `attention_bias` is that of queries, keys and
    values, `output_bias` that of the projection behind them.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: Mapping[str, Any] | None = None
    max_length: int = 2048
    attention_bias: bool = False
    output_bias: bool = False


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., size) in and out, in the dtype of `x`."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)).to(x.dtype) * self.weight


class Rotation:
    """Rotary position embedding, halves rotated as in Llama."""

    def __init__(self, config: LayerConfig) -> None:
        # Not a buffer: `to(dtype)` must not round it.
        self._frequencies, self._scale = _frequencies(config)

    def __call__(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turns x (..., num_tokens, num_heads, head_dim) by positions (..., num_tokens); in the dtype of `x`."""
        if self._frequencies.device != x.device:
            self._frequencies = self._frequencies.to(x.device)
        half = x.shape[-1] // 2
        angles = (positions.float()[..., None] * self._frequencies)[..., None, :]  # (..., num_tokens, 1, half)
        cos, sin = angles.cos() * self._scale, angles.sin() * self._scale
        first, second = x[..., :half].float(), x[..., half:].float()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """The projections around an attention that the caller computes."""

    def __init__(self, config: LayerConfig, input_size: int) -> None:
        super().__init__()
        self._head_dim = config.head_dim
        self._rotate = Rotation(config)
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(input_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(input_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(input_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Shape (..., num_tokens, input_size) to (..., num_tokens, hidden_size)."""
        heads = (-1, self._head_dim)
        q = self._rotate(self.q_proj(x).unflatten(-1, heads), positions)
        k = self._rotate(self.k_proj(x).unflatten(-1, heads), positions)
        v = self.v_proj(x).unflatten(-1, heads)
        out: torch.Tensor = self.o_proj(attend(q, k, v).flatten(-2))
        return out


class MLP(nn.Module):
    """Llama's gated MLP."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., hidden_size) in and out."""
        out: torch.Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out


def _frequencies(config: LayerConfig) -> tuple[torch.Tensor, float]:
    """Radians per position (head_dim / 2,) in float32, and the factor of cosine and sine."""
    if config.rope_scaling is None:
        half = config.head_dim // 2
        return config.rope_theta ** (-torch.arange(half, device="cpu", dtype=torch.float32) / half), 1.0
    llama = LlamaConfig(
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_length,
        rope_parameters={"rope_theta": config.rope_theta, **config.rope_scaling},
    )
    frequencies, scale = ROPE_INIT_FUNCTIONS[config.rope_scaling["rope_type"]](llama, torch.device("cpu"))
    return frequencies, float(scale)
