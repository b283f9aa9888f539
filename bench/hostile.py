"""What running requests notice of hostile schemas: their 99th percentile of the time per token, without and with them.

    python -P bench/hostile.py [SECONDS]

Starts a server of the demo model on one thread, so that a second core is left for the compile worker. Eight streams are
answered all the while; in every second phase one client after another posts a schema that is slow, large or malformed,
each with another title, so that nothing is cached. Phases alternate, because a shared machine's speed drifts. Wants a
quiet machine of two cores or more.
"""

import asyncio
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from server import Server

MODEL = "outrider-demo"
NUM_STREAMS = 8
NUM_PHASES = 6
STRING = {"type": "string"}
HOSTILE: dict[str, Any] = {
    "wide gaps": {f"p{i}": STRING | {"pattern": f"^.{{0,{99 + i}}}x.{{0,{150 + i}}}y$"} for i in range(40)},
    "many gaps": {"p": {"anyOf": [STRING | {"pattern": f"a.{{{i + 9}}}$"} for i in range(120)]}},
    "exploding": {"p": {"anyOf": [STRING | {"pattern": f"^(a|b)*a(a|b){{{i + 10}}}$"} for i in range(60)]}},
    "numbers": {"p": {"anyOf": [{"type": "number", "minimum": i - 10**14, "maximum": 10**14 - i} for i in range(300)]}},
    "1000 optional": {f"p{i}": STRING for i in range(1000)},
    "enum of 5000": {"p": {"enum": list(range(5000))}},
    "maxLength 1000000": {"p": STRING | {"maxLength": 1_000_000}},
    "repetitions": {"p": STRING | {"pattern": "((a{0,100}){0,100}){0,100}"}},
    "1 MB": {"p": STRING | {"description": "x" * 2**20}},
}


async def stream(session: aiohttp.ClientSession, gaps: list[float], ends: asyncio.Event) -> None:
    """Asks again and again; seconds from chunk to chunk within an answer."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a long story about a fox."}],
        "max_tokens": 200,
        "temperature": 1,
        "ignore_eos": True,
        "stream": True,
        "speculation": "off",
    }
    while not ends.is_set():
        last = None
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: {"):
                    now = time.perf_counter()
                    if last is not None:
                        gaps.append(now - last)
                    last = now


async def attack(session: aiohttp.ClientSession, ends: asyncio.Event, slowest: dict[str, tuple[float, int]]) -> None:
    """Posts hostile schemas one behind the other; the slowest answer to each, and its status."""
    for number, (name, properties) in enumerate(itertools.cycle(HOSTILE.items())):
        if ends.is_set():
            return
        schema = {"type": "object", "title": f"{time.time_ns()} {number}", "properties": properties}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "x"}],
            "response_format": form,
            "max_tokens": 1,
        }
        started = time.perf_counter()
        async with session.post("/v1/chat/completions", json=body) as response:
            await response.read()
            took = time.perf_counter() - started
            slowest[name] = max(slowest.get(name, (0.0, 0)), (took, response.status))


async def measure(url: str, seconds: float) -> None:
    """Prints the figures of all phases."""
    percentiles: dict[bool, list[float]] = {False: [], True: []}
    slowest: dict[str, tuple[float, int]] = {}
    async with aiohttp.ClientSession(url) as session:
        for phase in range(NUM_PHASES + 2):
            is_hostile, gaps, ends = phase % 2 == 1, list[float](), asyncio.Event()
            running = [asyncio.create_task(stream(session, gaps, ends)) for _ in range(NUM_STREAMS)]
            if is_hostile:
                running.append(asyncio.create_task(attack(session, ends, slowest)))
            await asyncio.sleep(seconds)
            ends.set()
            await asyncio.gather(*running)
            if phase > 1:  # the first two warm up
                percentiles[is_hostile].append(1000 * statistics.quantiles(gaps, n=100)[98])
    quiet, hostile = (statistics.median(percentiles[key]) for key in (False, True))
    lines = [
        f"time per token, p99, median of phases: {quiet:.1f} ms alone, {hostile:.1f} ms among hostile schemas",
        f"ratio {hostile / quiet:.2f}, wanted at most 1.50",
        *(f"  {name:20} {status}, at most {took:.2f} s" for name, (took, status) in slowest.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    server = Server("--threads", "1")
    try:
        asyncio.run(measure(server.url.rstrip("/"), float(sys.argv[1]) if len(sys.argv) > 1 else 20.0))
    finally:
        server.stop()
