"""Packed linears."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from outrider.kernels.linear import (
    LinearWeights,
    PackedLinear,
    can_pack,
    multiply,
    pack_linears,
    project,
    project_heads,
)

DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_row_has_the_same_bits_among_any_number_of_rows(dtype, bias) -> None:
    """What makes verification exact: drafted rows compute what single rows would."""
    linear = nn.Linear(96, 160, bias=bias).to(dtype)
    packed = PackedLinear(linear)
    x = torch.randn(1, 64, 96).to(dtype)
    whole = packed(x)

    for start, stop in [(0, 1), (1, 3), (3, 8), (8, 37), (37, 64)]:
        assert torch.equal(packed(x[:, start:stop]), whole[:, start:stop])


@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_the_product_is_that_of_the_plain_linear(dtype) -> None:
    """Packing changes the layout, not the numbers."""
    linear = nn.Linear(64, 48).to(dtype)
    x = torch.randn(1, 5, 64).to(dtype)

    assert torch.allclose(
        linear(x).float(), PackedLinear(linear)(x).float(), atol=2e-2 if dtype != torch.float32 else 1e-5
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_outputs", [64, 48, 130])
@torch.inference_mode()
def test_each_head_is_multiplied_with_its_own_weight(dtype, num_outputs) -> None:
    """A row of heads, whatever the rows beside it."""
    weights, x = torch.randn(5, num_outputs, 32).to(dtype), torch.randn(9, 5, 32).to(dtype)
    heads = project_heads(weights)

    product = multiply(x, heads)

    expected = torch.einsum("rhi,hoi->rho", x.float(), weights.float())
    assert torch.allclose(product.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.1)
    assert torch.equal(multiply(x[3:5], heads), product[3:5])


@torch.inference_mode()
def test_no_rows_give_no_rows() -> None:
    """An expert may get no token."""
    assert PackedLinear(nn.Linear(64, 48))(torch.empty(0, 64)).shape == (0, 48)


@torch.inference_mode()
def test_every_linear_of_a_model_is_packed() -> None:
    """The count is what a loader can check."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))

    assert 2 == pack_linears(model)
    assert not any(type(module) is nn.Linear for module in model.modules())


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@torch.inference_mode()
def test_the_number_of_threads_holds_on_every_thread() -> None:
    """OpenMP remembers it for the thread that set it alone; an engine steps on another one."""
    code = """
import os, threading, torch
from torch import nn
torch.set_num_threads(1)
from outrider.kernels.linear import PackedLinear
packed, x = PackedLinear(nn.Linear(64, 4096)), torch.randn(64, 64)
def run():
    before = len(os.listdir("/proc/self/task"))
    packed(x)
    print(len(os.listdir("/proc/self/task")) - before)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "0", "the kernel started threads"


@pytest.mark.parametrize("num_rows", [1, 6, 13])
def test_every_number_of_the_result_is_written(num_rows, monkeypatch) -> None:
    """Of the last panel, too, which is not full; what the memory held before never shows."""
    projection = project(LinearWeights(torch.randn(130, 48)))
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype: torch.full(shape, torch.nan, dtype=dtype))

    assert multiply(torch.randn(num_rows, 48), projection).isfinite().all()
