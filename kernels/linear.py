"""Linear layers for inference: `y = x @ weight.T + bias`, with weights packed once for the CPU.

The product is that of `matmul.h`: every output is one sum in the order of its inputs, so a row's bits do not depend on
how many rows there are.
"""

import ctypes
import functools
from dataclasses import dataclass

import torch
from torch import nn

from outrider.kernels.build import load_library
from outrider.kernels.paged_attention import DTYPES

PANEL = 64


@dataclass(frozen=True, slots=True)
class LinearWeights:
    """A linear layer as a checkpoint has it: weight (num_outputs, num_inputs), bias (num_outputs,)."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear's weight (num_outputs, num_inputs), packed, and its bias (num_outputs,) float32; or one of each head."""

    panels: torch.Tensor  # (num_heads * num_panels, num_inputs / P, 64, P), P values filling 32 bits
    num_outputs: int  # of a head
    num_inputs: int  # of a head
    bias: torch.Tensor | None = None
    num_heads: int = 1


def project(linear: LinearWeights) -> Projection:
    """Packs a linear layer."""
    num_outputs, num_inputs = linear.weight.shape
    bias = None if linear.bias is None else linear.bias.float().contiguous()
    return Projection(_pack(linear.weight), num_outputs, num_inputs, bias)


def project_heads(weights: torch.Tensor) -> Projection:
    """Packs one linear layer for each head, (num_heads, num_outputs, num_inputs)."""
    num_heads, num_outputs, num_inputs = weights.shape
    return Projection(torch.cat([_pack(weight) for weight in weights]), num_outputs, num_inputs, num_heads=num_heads)


def gate_and_up(gate: torch.Tensor, up: torch.Tensor) -> Projection:
    """Packs two linears of one shape, their panels side by side."""
    panels = torch.stack((_pack(gate), _pack(up)), dim=1).flatten(0, 1)
    num_outputs, num_inputs = gate.shape
    return Projection(panels, num_outputs, num_inputs)


def multiply(x: torch.Tensor, projection: Projection) -> torch.Tensor:
    """The product of x (..., num_inputs), contiguous and of the weights' dtype, and a packed linear layer.

    With several heads, of x (..., num_heads, num_inputs), each head's part with its own weight.
    """
    y = torch.empty(*x.shape[:-1], projection.num_outputs, dtype=x.dtype)
    bias = projection.bias
    kernel = _kernel()
    assert kernel is not None
    kernel(
        x.data_ptr(),
        projection.panels.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        x.numel() // (projection.num_heads * projection.num_inputs),
        projection.num_heads,
        projection.num_inputs,
        projection.num_outputs,
        DTYPES[x.dtype],
        torch.get_num_threads(),
    )
    return y


class PackedLinear(nn.Module):
    """Takes the place of an `nn.Linear` on the CPU. Input and output: (..., num_inputs) and (..., num_outputs)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach()
        self.projection = project(LinearWeights(linear.weight.detach(), bias))
        self.dtype = linear.weight.dtype
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, in the dtype of x.

        Raises:
            ValueError: x has another dtype than the weights.
        """
        if x.dtype != self.dtype:
            raise ValueError(f"a packed linear of {self.dtype} takes no input of {x.dtype}")
        return multiply(x.contiguous(), self.projection)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether linears of this dtype can be packed on this machine."""
    return dtype in DTYPES and _kernel() is not None


def pack_linears(model: nn.Module) -> int:
    """Replaces each `nn.Linear` below `model` and returns how many there were; the unpacked weights are released."""
    num_packed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.in_features % 2 == 0:
                setattr(module, name, PackedLinear(child))
                num_packed += 1
    return num_packed


def _pack(weight: torch.Tensor) -> torch.Tensor:
    pair = 4 // weight.dtype.itemsize
    num_outputs, num_inputs = weight.shape
    padded = nn.functional.pad(weight, (0, 0, 0, -num_outputs % PANEL))
    return padded.reshape(-1, PANEL, num_inputs // pair, pair).transpose(1, 2).contiguous()


@functools.cache
def _kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("linear")
    if library is None:
        return None
    function = library.outrider_linear
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 6
    function.restype = None
    return function
