"""Checks each Triton kernel on this GPU against float64, then times it beside what memory or matrix units could do.

Run by `bench/gpu.sh`. A kernel that is wrong ends the run with status 1: a fast wrong number is worth nothing.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from outrider.kernels.paged_attention import AttentionBatch, AttentionOptions, KvCache, allocate_kv, paged_attention
from outrider.kernels.rows import RotaryOptions, add_rms_norm, rotate_and_write, silu_and_multiply
from outrider.kernels.sample import Draw, sample, sample_reference
from outrider.kernels.tiles import Tiles, prefill_tile_size, tile_rows

CONSOLE = Console()
DEVICE = torch.device("cuda")
BLOCK_SIZE = 32
NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 32, 8, 128  # of Llama 8B
HIDDEN, INNER = 4096, 14336
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 2e-2}  # float32 products may run as TF32


@dataclass(frozen=True, slots=True)
class Measured:
    """One kernel at one shape: seconds, and the bytes it must move or the operations it must do."""

    name: str
    seconds: float
    num_bytes: float = 0.0
    num_operations: float = 0.0


def seconds_of(run: Callable[[], object], rounds: int = 30) -> float:
    """The median on the GPU, its second-level cache overwritten before each round."""
    scratch = torch.empty(256 * 2**20, dtype=torch.int8, device=DEVICE)
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        scratch.zero_()
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 1000)
    return float(statistics.median(times))


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of one large copy."""
    source = torch.empty(2**30, dtype=torch.int8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * len(source) / seconds_of(lambda: target.copy_(source))


def matrix_rate() -> float:
    """bfloat16 operations a second of one large product."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    return 2 * 8192**3 / seconds_of(lambda: a @ b)


def make_attention(
    contexts: list[int], new: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, KvCache, AttentionBatch]:
    """Sequences of so many tokens, whose last ones are the rows; their blocks scattered over the cache."""
    blocks_each = [-(-context // BLOCK_SIZE) for context in contexts]
    order = torch.randperm(sum(blocks_each)).int()
    table = torch.zeros(len(contexts), max(blocks_each), dtype=torch.int32)
    taken = 0
    for index, count in enumerate(blocks_each):
        table[index, :count] = order[taken : taken + count]
        taken += count
    cache = allocate_kv(taken, NUM_KV_HEADS, BLOCK_SIZE, HEAD_DIM, dtype, DEVICE)
    cache.keys.normal_()
    cache.values.normal_()
    sequence = torch.repeat_interleave(torch.arange(len(contexts)), torch.tensor(new))
    position = torch.cat([torch.arange(c - n, c) for c, n in zip(contexts, new, strict=True)])
    tiles = tile_rows(new, prefill_tile_size(NUM_HEADS, NUM_KV_HEADS) if max(new) > 1 else 1)
    batch = AttentionBatch(
        table.to(DEVICE),
        sequence.int().to(DEVICE),
        position.int().to(DEVICE),
        table[sequence, position // BLOCK_SIZE].long().to(DEVICE),
        (position % BLOCK_SIZE).to(DEVICE),
        tiles=Tiles(tiles.first_row.to(DEVICE), tiles.num_rows.to(DEVICE), tiles.max_rows),
    )
    query = torch.randn(len(position), NUM_HEADS, HEAD_DIM, device=DEVICE).to(dtype)
    return query, cache, batch


def attention_in_float64(query: torch.Tensor, cache: KvCache, batch: AttentionBatch, scale: float) -> torch.Tensor:
    """The plain definition, row by row."""
    out = torch.empty_like(query, dtype=torch.float64)
    for row in range(len(query)):
        length = int(batch.row_position[row]) + 1
        blocks = batch.block_table[int(batch.row_sequence[row])][: -(-length // BLOCK_SIZE)].long()
        k = cache.keys[blocks, ..., 0].permute(1, 0, 3, 2).flatten(1, 2)[:, :length].double()  # (kv heads, length, dim)
        v = cache.values[blocks, ..., 0].permute(1, 0, 2, 3).flatten(1, 2)[:, :length].double()
        grouped = query[row].double().unflatten(0, (NUM_KV_HEADS, -1))
        out[row] = ((grouped @ k.transpose(1, 2) * scale).softmax(-1) @ v).flatten(0, 1)
    return out


def check(name: str, actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Ends the run if a value is further off than its dtype explains."""
    error = float(((actual.double() - expected.double()).abs() / expected.double().abs().clamp(min=1.0)).max())
    if not error <= TOLERANCE[dtype]:
        sys.exit(f"bench/gpu.sh: {name} in {dtype} is wrong: relative error {error:.2e}")
    CONSOLE.print(f"{name:28} {dtype!s:16} relative error {error:.1e}")


def check_all() -> None:
    """Every kernel on fresh random inputs."""
    scale = HEAD_DIM**-0.5
    for dtype in TOLERANCE:
        for name, contexts, new in (
            ("attention, decode", [1, 31, 32, 33, 700, 4097], [1] * 6),
            ("attention, prefill", [65, 1, 900], [65, 1, 300]),
        ):
            query, cache, batch = make_attention(contexts, new, dtype)
            actual = paged_attention(query, cache, batch, AttentionOptions(scale))
            check(name, actual, attention_in_float64(query, cache, batch, scale), dtype)
        x, residual = torch.randn(7, HIDDEN, device=DEVICE).to(dtype), torch.randn(7, HIDDEN, device=DEVICE)
        weight = torch.rand(HIDDEN, device=DEVICE)
        total = residual.double() + x.double()
        expected = total * (total.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
        check("add_rms_norm", add_rms_norm(x, residual, weight, 1e-5), expected, dtype)
        gate_up = torch.randn(7, 2 * INNER, device=DEVICE).to(dtype)
        gate, up = gate_up.double().chunk(2, dim=1)
        check("silu_and_multiply", silu_and_multiply(gate_up), torch.nn.functional.silu(gate) * up, dtype)
    logits = torch.randn(16, 128_000, device=DEVICE) * 4
    draws = [Draw(seed=row, position=5, temperature=0.9, top_k=1000, top_p=0.95, min_p=1e-4) for row in range(16)]
    if sample(logits.clone(), draws) != sample_reference(logits.cpu(), draws):
        sys.exit("bench/gpu.sh: sample draws other tokens than its definition")
    CONSOLE.print(f"{'sample':28} draws what its definition draws")


def measure_all() -> list[Measured]:
    """At the shapes of Llama 8B."""
    dtype, scale = torch.bfloat16, HEAD_DIM**-0.5
    found: list[Measured] = []
    for batch_size, context in ((1, 4096), (64, 512), (64, 4096), (16, 16384)):
        inputs = make_attention([context] * batch_size, [1] * batch_size, dtype)
        seconds = seconds_of(partial(paged_attention, *inputs, AttentionOptions(scale)))
        num_bytes = 2 * batch_size * context * NUM_KV_HEADS * HEAD_DIM * dtype.itemsize
        found.append(Measured(f"decode attention, {batch_size} x {context}", seconds, num_bytes=num_bytes))
    for context in (2048, 8192):
        inputs = make_attention([context], [context], dtype)
        seconds = seconds_of(partial(paged_attention, *inputs, AttentionOptions(scale)), rounds=10)
        operations = 4 * NUM_HEADS * HEAD_DIM * context * (context + 1) / 2
        found.append(Measured(f"prefill attention, {context}", seconds, num_operations=operations))
    for num_rows in (64, 4096):
        x = torch.randn(num_rows, HIDDEN, device=DEVICE).to(dtype)
        residual, weight = torch.randn(num_rows, HIDDEN, device=DEVICE), torch.rand(HIDDEN, device=DEVICE)
        seconds = seconds_of(partial(add_rms_norm, x, residual, weight, 1e-5))
        found.append(Measured(f"add_rms_norm, {num_rows}", seconds, num_bytes=num_rows * HIDDEN * (2 + 4 + 4 + 2)))
        gate_up = torch.randn(num_rows, 2 * INNER, device=DEVICE).to(dtype)
        seconds = seconds_of(partial(silu_and_multiply, gate_up))
        found.append(Measured(f"silu_and_multiply, {num_rows}", seconds, num_bytes=num_rows * INNER * 6))
        query, cache, batch = make_attention([num_rows], [num_rows], dtype)
        heads = torch.randn(num_rows, (NUM_HEADS + 2 * NUM_KV_HEADS) * HEAD_DIM, device=DEVICE).to(dtype)
        frequency = torch.logspace(0, -4, HEAD_DIM // 2, device=DEVICE)
        seconds = seconds_of(
            partial(rotate_and_write, heads, query, cache.keys, cache.values, batch, RotaryOptions(frequency))
        )
        found.append(Measured(f"rotate_and_write, {num_rows}", seconds, num_bytes=2 * heads.numel() * 2))
    logits = torch.randn(64, 128_256, device=DEVICE)
    draws = [Draw(seed=row, position=9) for row in range(64)]
    seconds = seconds_of(partial(sample, logits, draws), rounds=10)
    found.append(Measured("sample, 64 x 128256", seconds, num_bytes=logits.nbytes))
    return found


def main() -> None:
    """Checks, then a table."""
    check_all()
    bandwidth, rate = copy_bandwidth(), matrix_rate()
    table = Table(
        title=f"{torch.cuda.get_device_name()}: copy {bandwidth / 1e9:.0f} GB/s, bf16 {rate / 1e12:.0f} TFLOP/s"
    )
    for heading in ("kernel", "microseconds", "achieved", "of what was measured"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    for one in measure_all():
        if one.num_bytes:
            achieved = one.num_bytes / one.seconds
            shown, share = f"{achieved / 1e9:.0f} GB/s", achieved / bandwidth
        else:
            achieved = one.num_operations / one.seconds
            shown, share = f"{achieved / 1e12:.0f} TFLOP/s", achieved / rate
        table.add_row(one.name, f"{one.seconds * 1e6:.1f}", shown, f"{share:.0%}")
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
