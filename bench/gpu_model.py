"""Decode speed of a Llama of 8 billion parameters with random weights on this GPU, beside the limit of its memory.

Run by `bench/gpu.sh`. A decode step must read every weight but the embedding, and the keys and values of its batch.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from gpu_kernels import copy_bandwidth
from rich.console import Console
from rich.table import Table

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SamplingParams, Submit
from outrider.engine.random_checkpoint import write_random_checkpoint


def step_seconds(core: EngineCore, batch_size: int, context: int, num_steps: int) -> float:
    """The median time of a step in which `batch_size` sequences of about `context` tokens get one token each."""
    generator = random.Random(0)  # noqa: S311 - a workload, not a secret
    params = SamplingParams(seed=0, max_tokens=num_steps, temperature=0.0, ignore_eos=True)
    for index in range(batch_size):
        prompt = [generator.randrange(core.vocab_size) for _ in range(context)]
        core.add(Submit(request_id=str(index), prompt_ids=prompt, params=params))
    times: list[float] = []
    while core.has_work:
        started = time.perf_counter()
        deltas = core.step()
        if sum(len(delta.token_ids) for delta in deltas) == batch_size and core.stats().num_running:
            times.append(time.perf_counter() - started)
    return statistics.median(times[len(times) // 4 :])  # the first replays record their graphs


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="llama-8b")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bandwidth = copy_bandwidth()
    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        write_random_checkpoint(arguments.shape, Path(folder))
        settings = json.loads((Path(folder) / "config.json").read_text())
        num_bytes = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        core = EngineCore(EngineConfig(model=folder, device="cuda", prefix_caching=False))
    if not settings["tie_word_embeddings"]:  # else the output layer reads it
        num_bytes -= settings["vocab_size"] * settings["hidden_size"] * core.dtype.itemsize
    table = Table(title=f"{arguments.shape}, {core.dtype}, {torch.cuda.get_device_name()}, context {arguments.context}")
    for heading in ("batch", "ms per step", "tokens/s", "GB/s", "of the copy bandwidth"):
        table.add_column(heading, justify="right")
    figures = []
    for batch_size in (1, 8, 64):
        seconds = step_seconds(core, batch_size, arguments.context, num_steps=128)
        kv_bytes = core.kv_bytes / (core.blocks.num_blocks * core.blocks.block_size) * batch_size * arguments.context
        achieved = (num_bytes + kv_bytes) / seconds
        figures.append({"batch": batch_size, "step_ms": 1e3 * seconds, "share_of_bandwidth": achieved / bandwidth})
        table.add_row(
            str(batch_size),
            f"{1e3 * seconds:.2f}",
            f"{batch_size / seconds:.0f}",
            f"{achieved / 1e9:.0f}",
            f"{achieved / bandwidth:.0%}",
        )
    Console().print(table)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"device": torch.cuda.get_device_name(), "rows": figures}, indent=2))


if __name__ == "__main__":
    main()
