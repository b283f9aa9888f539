"""How long a schema takes until its grammar is usable, and what its masks cost.

    python -P bench/grammar.py 32000 128256

Sixty schemas as people send them, each on the backend that is chosen for it. The vocabularies are made from the words
of the installed Python's own sources: of real lengths, but of no model. Times are CPU time of one thread, so that other
processes do not count; the pipes between gateway, worker and engine come on top.
"""

import json
import re
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import xgrammar

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from realistic_schemas import SCHEMAS

from outrider.structured.backends import Backends
from outrider.structured.grammar import Grammar, XgrammarGrammar
from outrider.structured.guidance import Vocabulary
from outrider.structured.mask import allocate_bitmask, row_of
from outrider.structured.packing import GUIDANCE, unpack, unpack_guidance

WORDS = re.compile(rb" ?[A-Za-z_]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9_]{1,6}|\s{1,16}")
NUM_STEPS = 200


def vocabulary(size: int) -> xgrammar.TokenizerInfo:
    """`size` tokens: an end token, one per byte, then the likeliest words and beginnings of words."""
    counts: Counter[bytes] = Counter()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(
        Path(sysconfig.get_path("stdlib")).glob("*/*.py")
    ):
        for word in WORDS.findall(path.read_bytes()):
            for length in range(2, min(len(word), 14) + 1):
                counts[word[:length]] += 1
    pieces = [b"\xff<end>", *(bytes([byte]) for byte in range(256))]
    pieces += [piece for piece, _ in counts.most_common(size - len(pieces))]
    return xgrammar.TokenizerInfo(pieces, xgrammar.VocabType.RAW, vocab_size=size, stop_token_ids=[0])


def masks(start: Grammar, size: int) -> list[float]:
    """Microseconds of each mask along one answer: tokens that end a part where they may, else any."""
    bitmask, generator, found = allocate_bitmask(1, size), np.random.default_rng(7), []
    for _ in range(NUM_STEPS):
        begin = time.thread_time_ns()
        start.fill_mask(bitmask, 0)
        found.append((time.thread_time_ns() - begin) / 1000)
        if start.is_done:
            break
        allowed = np.flatnonzero(np.unpackbits(bitmask.numpy().view(np.uint8), bitorder="little")[:size])
        start.accept(int(generator.choice(allowed)))
    return found


def line(name: str, values: list[float], unit: str) -> str:
    """Percentiles of some figures."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return f"  {name:24} p50 {p50:8.1f}  p90 {p90:8.1f}  p99 {p99:8.1f}  max {max(values):8.1f} {unit}\n"


def measure(size: int) -> str:
    """The figures of one vocabulary."""
    info = vocabulary(size)
    backends, words, stops = Backends(info), Vocabulary(info), row_of(info.stop_token_ids, size)
    compiles: list[float] = []
    loads: list[float] = []
    fills: dict[str, list[float]] = {"xgrammar": [], "llguidance": []}
    chosen: Counter[str] = Counter()
    for schema in SCHEMAS.values():
        text = json.dumps(schema).encode()
        begin = time.thread_time_ns()
        compiled = backends.compile("json_schema", text)
        compiles.append((time.thread_time_ns() - begin) / 1e6)
        begin = time.thread_time_ns()
        grammar: Grammar
        if compiled.backend == GUIDANCE:
            grammar = unpack_guidance(compiled.data, words)
        else:
            grammar = XgrammarGrammar(unpack(compiled.backend, compiled.data, info), stops)
        loads.append((time.thread_time_ns() - begin) / 1e6)
        backend = compiled.backend.partition("-")[0]
        chosen[backend] += 1
        fills[backend] += masks(grammar, size)
    text = f"{size} tokens: {', '.join(f'{count} schemas on {backend}' for backend, count in chosen.items())}\n"
    text += line("audit and compile", compiles, "ms") + line("load in the engine", loads, "ms")
    text += line("together", [a + b for a, b in zip(compiles, loads, strict=True)], "ms")
    for backend, values in fills.items():
        text += line(f"masks of {backend}", values, "us") if values else ""
    return text + line("masks", [value for values in fills.values() for value in values], "us")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:] or ("32000", "128256"):
        sys.stdout.write(measure(int(argument)))
