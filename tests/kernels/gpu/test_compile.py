"""Kernels compile to machine code of GPUs that are not here: the interpreter knows nothing of types and registers.

Run as a script, in a process without the interpreter, this file launches the operations and compiles what they launch.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CAPABILITIES = (80, 90)
TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.bool: "i1",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint64: "u64",
    int: "i32",
    float: "fp32",
}


def launch_rows(dtype: torch.dtype) -> None:
    """Each kernel with the sizes of an 8B Llama, and with odd ones."""
    from outrider.kernels.gpu import rows
    from outrider.kernels.paged_attention import AttentionBatch
    from outrider.kernels.rows import RotaryOptions

    for size in (4096, 96):
        x, residual = torch.zeros(2, size, dtype=dtype), torch.zeros(2, size)
        rows.add_rms_norm(x, residual, torch.ones(size), 1e-5)
        rows.add_rms_norm(None, residual, torch.ones(size), 1e-5, dtype=dtype)
        rows.silu_and_multiply(x)
    slots = torch.zeros(2, dtype=torch.int64)
    batch = AttentionBatch(slots.int()[None], slots.int(), slots.int(), slots, slots)
    for head_dim, rotary_dim, norm in ((128, 128, torch.ones(128)), (80, 32, None)):
        caches = torch.zeros(2, 4, 8, 16, head_dim, dtype=dtype)
        rows.rotate_and_write(
            torch.zeros(2, 24 * head_dim, dtype=dtype),
            torch.zeros(2, 8, head_dim, dtype=dtype),
            caches[0].transpose(2, 3).unsqueeze(-1),
            caches[1].unsqueeze(-1),
            batch,
            RotaryOptions(torch.ones(rotary_dim // 2), query_norm=norm, key_norm=norm),
        )


def launch_sampling(dtype: torch.dtype) -> None:
    """Logits of a Llama's vocabulary."""
    from outrider.kernels.gpu.sample import apply_bitmask, sample_on_gpu

    logits, rows = torch.zeros(2, 128_256, dtype=dtype), torch.zeros(2, dtype=torch.int64)
    for masked in (None, rows):
        apply_bitmask(logits, torch.zeros(2, 4008, dtype=torch.int32), masked)
    sample_on_gpu(logits.float(), rows.to(torch.uint64), rows, rows.bool())


def launch_attention(dtype: torch.dtype) -> None:
    """A decode whose splits are programs, and prompts and trees at once, with all that a layer may ask for."""
    from outrider.kernels.gpu.attention import paged_attention_triton
    from outrider.kernels.paged_attention import AttentionBatch, AttentionOptions, TreeMask, allocate_kv_rows
    from outrider.kernels.tiles import tile_rows

    cache = allocate_kv_rows(1, 8, 32, 128, dtype)
    keys, values = cache.keys, cache.values
    slots = torch.zeros(32, dtype=torch.int64)
    rows = (torch.zeros(1, 32, dtype=torch.int32), slots.int(), slots.int(), slots, slots)
    query = torch.zeros(32, 32, 128, dtype=dtype)
    paged_attention_triton(query, keys, values, AttentionBatch(*rows), AttentionOptions(0.1))
    everything = AttentionOptions(0.1, window=4096, softcap=30.0, sinks=torch.zeros(32))
    batch = AttentionBatch(*rows, tree=TreeMask(slots.int(), slots), tiles=tile_rows([32], 16))
    paged_attention_triton(query, keys, values, batch, everything, workspace=0)


def compile_launch(kernel, *args, grid, warmup, **options) -> None:
    """What a launch does first, for every GPU in turn."""
    from triton import compile as compile_source
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants, signature, hints = {}, {}, {}
    named = [options.pop(parameter.name) for parameter in kernel.params[len(args) :]]
    for index, (parameter, value) in enumerate(zip(kernel.params, (*args, *named), strict=True)):
        is_tensor = isinstance(value, torch.Tensor)
        if parameter.is_constexpr or value is None:
            constants[index,] = value
            signature[parameter.name] = "constexpr"
            continue
        kind = TYPES[value.dtype if is_tensor else type(value)]
        signature[parameter.name] = f"*{kind}" if is_tensor else parameter.annotation_type or kind
        if is_tensor or (isinstance(value, int) and value % 16 == 0):
            hints[index,] = [["tt.divisibility", 16]]
    for capability in CAPABILITIES:
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=hints)
        target = GPUTarget("cuda", capability, 32)
        assert compile_source(source, target=target, options=options).asm["cubin"]
    print(kernel.fn.__name__, {name: value for name, value in signature.items() if value.startswith("*")})


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_kernels_compile_for_gpus(dtype) -> None:
    """Every kernel of rows, of sampling and of attention, for an A100 and an H100."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__)), dtype], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert len({line.split()[0] for line in done.stdout.splitlines()}) == 7


if __name__ == "__main__":
    from triton.runtime.jit import JITFunction

    JITFunction.run = compile_launch
    launch_rows(getattr(torch, sys.argv[1]))
    launch_sampling(getattr(torch, sys.argv[1]))
    launch_attention(getattr(torch, sys.argv[1]))
