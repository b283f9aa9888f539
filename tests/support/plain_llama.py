"""A Llama layer written a second time, one head and one token after the other, to compare modules with."""

import math
from collections.abc import Mapping

import torch

Tensors = Mapping[str, torch.Tensor]


def rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def project(x: torch.Tensor, tensors: Tensors, name: str) -> torch.Tensor:
    out = x @ tensors[f"{name}.weight"].float().T
    return out + tensors[f"{name}.bias"].float() if f"{name}.bias" in tensors else out


def turn(x: torch.Tensor, position: int, theta: float) -> torch.Tensor:
    """One head's vector, as complex numbers whose imaginary parts are its second half."""
    half = len(x) // 2
    angles = torch.tensor([position / theta ** (2 * index / len(x)) for index in range(half)])
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat((turned.real, turned.imag))


def attention(
    x: torch.Tensor, tensors: Tensors, prefix: str, head_dim: int, theta: float = 10_000.0, first: int = 0
) -> torch.Tensor:
    """Causal, of tokens (num_tokens, input size) at positions from `first` on."""
    q, k, v = (project(x, tensors, f"{prefix}.{name}_proj").unflatten(-1, (-1, head_dim)) for name in "qkv")
    groups = q.shape[1] // k.shape[1]
    out = torch.zeros_like(q)
    for token in range(len(x)):
        for head in range(q.shape[1]):
            query = turn(q[token, head], first + token, theta)
            keys = [turn(k[past, head // groups], first + past, theta) for past in range(token + 1)]
            weights = torch.softmax(torch.stack([query @ key for key in keys]) / math.sqrt(head_dim), 0)
            out[token, head] = weights @ v[: token + 1, head // groups]
    return project(out.flatten(1), tensors, f"{prefix}.o_proj")


def mlp(x: torch.Tensor, tensors: Tensors, prefix: str) -> torch.Tensor:
    gate = project(x, tensors, f"{prefix}.gate_proj")
    return project(
        gate * torch.sigmoid(gate) * project(x, tensors, f"{prefix}.up_proj"), tensors, f"{prefix}.down_proj"
    )


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """What a head is given to attend with: all tokens (num_tokens, heads, head_dim) of one text at once."""
    groups = q.shape[1] // k.shape[1]
    scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(groups, 1)) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(torch.ones(len(q), len(q), dtype=torch.bool).triu(1), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.repeat_interleave(groups, 1))


def assert_near(expected: torch.Tensor, actual: torch.Tensor) -> None:
    """Equal but for the order in which float32 sums are taken."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Norms around one, all else small."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.3 * torch.randn(shape, generator=generator) + (1.0 if "norm" in name else 0.0)
        for name, shape in shapes.items()
    }


def layer_shapes(prefix: str, input_size: int, hidden: int = 32) -> dict[str, tuple[int, ...]]:
    """Four heads of 8, two for keys and values, and an MLP of 48."""
    return {
        f"{prefix}.self_attn.q_proj.weight": (32, input_size),
        f"{prefix}.self_attn.k_proj.weight": (16, input_size),
        f"{prefix}.self_attn.v_proj.weight": (16, input_size),
        f"{prefix}.self_attn.o_proj.weight": (hidden, 32),
        f"{prefix}.mlp.gate_proj.weight": (48, hidden),
        f"{prefix}.mlp.up_proj.weight": (48, hidden),
        f"{prefix}.mlp.down_proj.weight": (hidden, 48),
        f"{prefix}.post_attention_layernorm.weight": (hidden,),
    }
