"""What the gateway itself costs: the whole of it as a process on one core, before an engine that answers at once.

The load comes from this process by a client that does next to nothing, and with the engine it shares the other cores.
Latencies are told less those of the same requests sent to the engine directly.
"""

import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from outrider.engine.protocol import SamplingParams, Submit
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.engine_link import EngineLink

OUTPUT_TOKENS = 16  # which the null engine gives in four frames
CONCURRENCY = 32  # of the run that finds the rate
LIMIT_SECONDS = 60.0  # for the processes to start

COMMAND = (sys.executable, "-P", "-m", "outrider.cli")


class BenchmarkError(Exception):
    """Nothing can be measured. The message is one clear line."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one request, in seconds from sending it."""

    first: float  # to the first token's bytes
    whole: float


@dataclass(frozen=True, slots=True)
class Overhead:
    """Medians over the rounds. Times in milliseconds, added to those of the engine alone, at half the rate."""

    is_stream: bool
    requests_per_second: float
    median: float
    percentile_99: float
    first_token: float | None  # where the answer is streamed
    processor: float  # time of the gateway's process for one request


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    """What was measured, and the process it was measured on."""

    overheads: tuple[Overhead, ...]
    resident_mebibytes: float
    imports_torch: bool
    prompt_tokens: int


async def measure_gateway(
    folder: str, *, prompt_tokens: int, seconds: float, num_rounds: int, trace_file: Path | None
) -> GatewayFigures:
    """Measures the gateway, streaming and not.

    Args:
        folder: of the checkpoint whose tokenizer is used
        prompt_tokens: of each request
        seconds: of each of a round's runs
        num_rounds: whose median counts
        trace_file: where the gateway writes traces; None with tracing off

    Raises:
        BenchmarkError: a process did not start, or a request failed.
    """
    prompts = _prompts(Tokenizer(folder), prompt_tokens)
    with tempfile.TemporaryDirectory(prefix="outrider-") as place:
        path = f"{place}/engine.sock"
        cores = sorted(os.sched_getaffinity(0))
        async with _process(("engine", folder, "--null", "--listen", f"unix:{path}"), cores[1:] or cores):
            await _until(lambda: _accepts(path))
            traced = ("--recent-traces", "0") if trace_file is None else ("--trace-file", str(trace_file))
            arguments = ("gateway", "--engine", f"unix:{path}", "--port", "0", "--served-model-name", "null", *traced)
            async with _process(arguments, cores[:1]) as process:
                port = await _port_of(process)
                os.sched_setaffinity(0, cores[1:] or cores)
                try:
                    overheads = [
                        await _overhead(
                            *(path, port, prompts),
                            pid=process.pid,
                            seconds=seconds,
                            num_rounds=num_rounds,
                            is_stream=is_stream,
                        )
                        for is_stream in (True, False)
                    ]
                finally:
                    os.sched_setaffinity(0, cores)
                status = Path(f"/proc/{process.pid}/status").read_text()  # noqa: ASYNC240, a file of the kernel
                maps = Path(f"/proc/{process.pid}/maps").read_text()  # noqa: ASYNC240
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return GatewayFigures(tuple(overheads), resident / 1024, "libtorch" in maps, prompt_tokens)


async def _overhead(
    path: str,
    port: int,
    prompts: list[tuple[str, list[int]]],
    *,
    pid: int,
    seconds: float,
    num_rounds: int,
    is_stream: bool,
) -> Overhead:
    requests = [_request(text, is_stream=is_stream) for text, _ in prompts]
    client = _Client(port, requests, is_stream=is_stream)
    link = await EngineLink.connect(path)
    direct = _Direct(link, [token_ids for _, token_ids in prompts])
    await _closed_loop(client.ask, min(1.0, seconds))  # whatever is done once is done
    rates, medians, highs, firsts, processor = [], [], [], [], []
    for _ in range(num_rounds):
        spent, num_sent = _processor_seconds(pid), client.num_sent
        rates.append(await _closed_loop(client.ask, seconds))
        processor.append((_processor_seconds(pid) - spent) / (client.num_sent - num_sent))
        rate = rates[-1] / 2
        alone, through = await _open_loop(direct.ask, rate, seconds), await _open_loop(client.ask, rate, seconds)
        medians.append(_at(through, 0.5) - _at(alone, 0.5))
        highs.append(_at(through, 0.99) - _at(alone, 0.99))
        firsts.append(statistics.median(one.first for one in through) - statistics.median(one.first for one in alone))
    client.close()
    await link.close()
    median, high, first, each = (1000 * statistics.median(found) for found in (medians, highs, firsts, processor))
    return Overhead(is_stream, statistics.median(rates), median, high, first if is_stream else None, each)


def _processor_seconds(pid: int) -> float:
    """What a process has used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _at(latencies: list[Latency], share: float) -> float:
    """The latency that this share of the requests does not exceed."""
    ranked = sorted(one.whole for one in latencies)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


async def _closed_loop(ask: Callable[[int], Awaitable[Latency]], seconds: float) -> float:
    """Requests per second with as many under way as `CONCURRENCY` says."""
    stop, count = time.perf_counter() + seconds, 0

    async def worker(index: int) -> None:
        nonlocal count
        while time.perf_counter() < stop:
            await ask(index + count)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker(index) for index in range(CONCURRENCY)))
    return count / (time.perf_counter() - started)


async def _open_loop(ask: Callable[[int], Coroutine[Any, Any, Latency]], rate: float, seconds: float) -> list[Latency]:
    """Latencies of requests that arrive at random, so many a second, whether others have ended or not."""
    generator = random.Random(0)  # noqa: S311, arrivals
    tasks: list[asyncio.Task[Latency]] = []
    due = time.perf_counter()
    stop = due + seconds
    while due < stop:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(len(tasks))))
        due += generator.expovariate(rate)
    return await asyncio.gather(*tasks)


class _Client:
    """Sends HTTP requests over connections that stay, and reads no more of an answer than where it ends."""

    def __init__(self, port: int, requests: list[bytes], *, is_stream: bool) -> None:
        self._port = port
        self._requests = requests
        self._is_stream = is_stream
        self.num_sent = 0
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, index: int) -> Latency:
        self.num_sent += 1
        connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        started = time.perf_counter()
        writer.write(self._requests[index % len(self._requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise BenchmarkError(f"the gateway answered {head.splitlines()[0].decode()}")
        if self._is_stream:
            await reader.readuntil(b"data: ")
            first = time.perf_counter()
            await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        else:
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            first = time.perf_counter()
        self._idle.append(connection)
        return Latency(first - started, time.perf_counter() - started)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


class _Direct:
    """The same requests without a gateway."""

    def __init__(self, link: EngineLink, prompts: list[list[int]]) -> None:
        self._link = link
        self._prompts = prompts
        self._num_sent = 0

    async def ask(self, index: int) -> Latency:
        self._num_sent += 1
        params = SamplingParams(seed=index, max_tokens=OUTPUT_TOKENS)
        prompt_ids = self._prompts[index % len(self._prompts)]
        started = time.perf_counter()
        first = 0.0
        async for _ in self._link.generate(Submit(f"direct-{self._num_sent}", prompt_ids, params), None):
            first = first or time.perf_counter()
        return Latency(first - started, time.perf_counter() - started)


def _prompts(tokenizer: Tokenizer, num_tokens: int) -> list[tuple[str, list[int]]]:
    """Sixty-four texts of random words with about so many tokens, and their tokens."""
    generator = random.Random(1)  # noqa: S311, words
    words = [word for token in range(2000) if (word := tokenizer.decode([token]).strip()).isalpha() and word.isascii()]
    found = []
    for _ in range(64):
        token_ids = tokenizer.encode(" ".join(generator.choices(words, k=num_tokens)))[:num_tokens]
        found.append((tokenizer.decode(token_ids), token_ids))
    return found


def _request(prompt: str, *, is_stream: bool) -> bytes:
    body = msgspec.json.encode(
        {"model": "null", "prompt": prompt, "max_tokens": OUTPUT_TOKENS, "seed": 1, "stream": is_stream}
    )
    head = "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def _process(arguments: tuple[str, ...], cores: list[int]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=asyncio.subprocess.PIPE)
    os.sched_setaffinity(process.pid, cores)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _port_of(process: asyncio.subprocess.Process) -> int:
    """The port in the gateway's banner."""
    assert process.stdout is not None, "made with a pipe"
    async with asyncio.timeout(LIMIT_SECONDS):
        async for line in process.stdout:
            _, found, address = line.decode().partition("http://127.0.0.1:")
            if found:
                return int(address.split("/")[0])
    raise BenchmarkError("the gateway did not start")


async def _accepts(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not await condition():  # noqa: ASYNC110, another process makes it true
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise BenchmarkError("the null engine did not start") from error
