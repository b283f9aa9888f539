"""Which implementation each operation uses on this machine, how fast it is, and how fast memory would let it be.

Shapes are those of a model of about 100 million parameters; operands rotate over more memory than caches hold, as the
weights and pages of a served model do.
"""

import itertools
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from outrider.kernels.build import Build, find_build
from outrider.kernels.compiler import compiler_name, processor_flags
from outrider.kernels.linear import LinearWeights, multiply, project
from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    allocate_kv,
    paged_attention,
    paged_attention_reference,
)
from outrider.kernels.sample import Draw, sample, sample_reference

# What vectors.h and the compiler make use of, by the names of Linux.
_PROCESSOR_FLAGS: Final = ("avx512_bf16", "avx512f", "avx2", "fma", "asimd", "bf16")
_ROTATION_BYTES: Final = 2**28
_SECONDS_EACH: Final = 0.4


@dataclass(frozen=True, slots=True)
class Finding:
    """One operation at one shape."""

    operation: str
    build: str  # of its kernel, or "torch"
    seconds: float
    reference_seconds: float  # of the plain torch or numpy definition
    num_bytes: float  # that must at least be read

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.num_bytes / self.seconds


def machine() -> dict[str, str]:
    """What matters about this machine, by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {key.strip(): value.strip() for key, value in found.items()}
    flags = processor_flags()
    compiler = shutil.which(compiler_name())
    has_gpu = torch.cuda.is_available()
    return {
        "processor": f"{known.get('model name', platform.processor() or platform.machine())}, "
        f"{torch.get_num_threads()} threads",
        "vector instructions": ", ".join(flag for flag in _PROCESSOR_FLAGS if flag in flags) or "unknown",
        "compiler": compiler or "none",
        "torch": torch.__version__,
        "GPU": torch.cuda.get_device_name() if has_gpu else "none",
    }


def read_bandwidth() -> float:
    """Bytes a second that all threads together read from memory."""
    data = torch.ones(_ROTATION_BYTES // 4)
    return data.nbytes / _median_seconds([data.norm])  # torch's fastest way through memory


def builds() -> dict[str, Build]:
    """What each kernel runs as, by its name. What must be compiled first takes seconds."""
    return {source.stem: find_build(source.stem) for source in sorted(Path(__file__).parent.glob("*.c"))}


def survey() -> list[Finding]:
    """Measures each operation of the CPU, a few seconds in all."""
    return [
        *(_linear(num_rows) for num_rows in (1, 16)),
        *(_attention(batch_size, context) for batch_size, context in ((1, 512), (16, 512))),
        _sample(),
    ]


def _linear(num_rows: int) -> Finding:
    num_outputs, num_inputs = 4096, 768
    count = _ROTATION_BYTES // (num_outputs * num_inputs * 2)
    weights = [torch.randn(num_outputs, num_inputs).bfloat16() for _ in range(count)]
    x = torch.randn(num_rows, num_inputs).bfloat16()
    plain = [partial(torch.nn.functional.linear, x, weight) for weight in weights]
    reference = _median_seconds(plain)
    build = find_build("linear").name
    packed = [partial(multiply, x, project(LinearWeights(weight))) for weight in weights]
    seconds = reference if build == "torch" else _median_seconds(packed)
    return Finding(f"linear, {num_rows} rows", build, seconds, reference, weights[0].nbytes)


def _attention(batch_size: int, context: int) -> Finding:
    num_heads, num_kv_heads, head_dim, block_size = 12, 4, 64, 32
    kv_bytes = 2 * batch_size * context * num_kv_heads * head_dim * 2
    blocks = batch_size * context // block_size
    count = max(2, _ROTATION_BYTES // kv_bytes)
    batch = AttentionBatch(
        block_table=torch.randperm(blocks).int().view(batch_size, -1),
        row_sequence=torch.arange(batch_size, dtype=torch.int32),
        row_position=torch.full((batch_size,), context - 1, dtype=torch.int32),
        write_block=torch.zeros(batch_size, dtype=torch.int64),
        write_offset=torch.zeros(batch_size, dtype=torch.int64),
    )
    caches = [allocate_kv(blocks, num_kv_heads, block_size, head_dim, torch.bfloat16) for _ in range(count)]
    for cache in caches:
        cache.keys.fill_(0.5)
        cache.values.fill_(0.5)
    query = torch.randn(batch_size, num_heads, head_dim).bfloat16()
    options = AttentionOptions(head_dim**-0.5)
    ours, plain = (
        _median_seconds([partial(function, query, cache, batch, options) for cache in caches])
        for function in (paged_attention, paged_attention_reference)
    )
    name = f"attention, {batch_size} x {context}"
    return Finding(name, find_build("paged_attention").name, ours, plain, kv_bytes)


def _sample() -> Finding:
    num_rows, vocab_size = 32, 128_000
    logits = torch.randn(num_rows, vocab_size) * 4
    draws = [Draw(seed=row, position=9, temperature=0.8, top_p=0.9) for row in range(num_rows)]
    ours = _median_seconds([lambda: sample(logits.clone(), draws)])
    plain = _median_seconds([lambda: sample_reference(logits.clone(), draws)])
    return Finding(f"sample, {num_rows} x {vocab_size}", find_build("sample").name, ours, plain, logits.nbytes)


def _median_seconds(calls: Sequence[Callable[[], object]]) -> float:
    """Of one call; they are made in turn, each at least once and all for a fraction of a second."""
    times: list[float] = []
    for call in calls[:2]:
        call()
    began = time.perf_counter()
    for call in itertools.cycle(calls):
        started = time.perf_counter()
        call()
        now = time.perf_counter()
        times.append(now - started)
        if now - began > _SECONDS_EACH and len(times) >= 3:
            return statistics.median(times)
    raise AssertionError("a cycle does not end")
