"""`make soak`: a server under load for half an hour, with clients that leave; then every block is free, no memory lost.

Not part of the normal run. Usage: python tests/e2e/soak.py [MINUTES]
"""

import asyncio
import random
import re
import sys
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from server import Server

CONCURRENCY = 32
WARM_UP = 0.2  # of the time; memory is compared with what it is then
MOST_GROWTH = 0.02
WORDS = ["the", "quiet", "fox", "saw", "a", "blue", "bird", "near", "the", "old", "mill", "and", "sang", "of", "rivers"]


def body(source: random.Random) -> dict[str, object]:
    """A request of any length, drawn in any way, drafted or not."""
    text = " ".join(source.choices(WORDS, k=source.randint(1, 300)))
    return {
        "model": "outrider-demo",
        "messages": [{"role": "user", "content": f"Repeat this text: {text}"}],
        "max_tokens": source.randint(1, 200),
        "temperature": source.choice([0, 0.7, 1.3]),
        "top_p": source.choice([1, 0.9]),
        "n": source.choice([1, 1, 1, 2]),
        "stream": True,
        "speculation": source.choice(["off", "ngram", {"methods": ["ngram", "suffix"]}]),
    }


async def client(session: aiohttp.ClientSession, source: random.Random, until: float, counts: dict[str, int]) -> None:
    """Asks again and again; leaves every fourth answer in the middle."""
    while time.monotonic() < until:
        leaves_after = source.randint(0, 20) if source.random() < 0.25 else None
        async with session.post("/v1/chat/completions", json=body(source)) as response:
            assert response.status == 200, await response.text()
            number = 0
            async for line in response.content:
                assert b'"error"' not in line, line
                number += line.startswith(b"data: ")
                if leaves_after is not None and number > leaves_after:
                    counts["left"] += 1
                    break
            else:
                counts["answered"] += 1


async def metric(session: aiohttp.ClientSession, name: str) -> float:
    """The value of a metric of the engine."""
    async with session.get("/metrics") as response:
        return float(re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", await response.text(), re.MULTILINE)[1])


async def soak(url: str, minutes: float) -> bool:
    """Whether all is as it should be; prints what was measured."""
    counts = {"answered": 0, "left": 0}
    until = time.monotonic() + 60 * minutes
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        clients = [
            asyncio.create_task(client(session, random.Random(number), until, counts)) for number in range(CONCURRENCY)
        ]
        await asyncio.sleep(60 * minutes * WARM_UP)
        before = await metric(session, "outrider_engine_resident_memory_bytes")
        await asyncio.gather(*clients)
        after = await metric(session, "outrider_engine_resident_memory_bytes")
        for _ in range(100):  # the last clients' leaving reaches the engine within a step or two
            used = await metric(session, "outrider_kv_blocks_used")
            if used == 0:
                break
            await asyncio.sleep(0.1)
    growth = after / before - 1
    print(f"{minutes:g} minutes: {counts['answered']} answered, {counts['left']} left, {used:.0f} blocks in use")
    print(f"engine memory {before / 2**20:.1f} MiB after warm-up, {after / 2**20:.1f} at the end: {growth:+.2%}")
    return used == 0 and growth < MOST_GROWTH and min(counts.values()) > 0


def main() -> None:
    """Ends with 0 if the soak holds."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    # A cache that is full after seconds: its pages are taken when first written.
    server = Server("--threads", "1", "--kv-memory", "64M")
    try:
        holds = asyncio.run(soak(server.url, minutes))
    finally:
        status, output = server.stop()
    if status:
        print(output)
    sys.exit(0 if holds and status == 0 else 1)


if __name__ == "__main__":
    main()
