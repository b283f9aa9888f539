"""Linear layers for inference: `y = x @ weight.T + bias`, with the fastest weight layout at hand.

On the CPU, oneDNN with weights packed once. Rows are padded to four: four rows take less time than one, and from
four rows up a row's bits do not depend on how many there are (measured in float32 and bfloat16).
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

MIN_ROWS = 4


class PackedLinear(nn.Module):
    """Takes the place of an `nn.Linear` on the CPU. Input and output: (..., num_rows, features)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 64)
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, in the dtype of x."""
        num_rows = x.shape[-2]
        if num_rows < MIN_ROWS:
            x = F.pad(x, (0, 0, 0, MIN_ROWS - num_rows))
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y[..., :num_rows, :]


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of this dtype on this machine; bfloat16 needs AVX-512 there."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and "AVX512" in torch.backends.cpu.get_cpu_capability())


def pack_linears(model: nn.Module) -> int:
    """Replaces each `nn.Linear` below `model` and returns how many there were; the unpacked weights are released."""
    num_packed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))
                num_packed += 1
    return num_packed
