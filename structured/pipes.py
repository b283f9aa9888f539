"""Frames over the pipes between the gateway and its helper processes: both ends, and the CPU bound of a job.

A frame is a msgpack message with its length before it. What the messages are stands in `jobs.py`.
"""

import asyncio
import contextlib
import math
import resource
from typing import BinaryIO, Final, TypeVar

import msgspec

from outrider.structured.errors import WorkerError

HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 256 * 2**20

T = TypeVar("T")


def frame(message: msgspec.Struct) -> bytes:
    """The message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def read(stream: BinaryIO, decoder: "msgspec.msgpack.Decoder[T]") -> T | None:
    """The helper's end: the next message, None at the end of the input."""
    header = stream.read(HEADER_BYTES)
    body = stream.read(int.from_bytes(header, "big")) if len(header) == HEADER_BYTES else b""
    return decoder.decode(body) if body else None


def write(stream: BinaryIO, message: msgspec.Struct) -> None:
    """The helper's end: a message, at once."""
    stream.write(frame(message))
    stream.flush()


def limit_cpu(seconds: float) -> None:
    """Let the kernel end this process when so much more CPU time is used, rounded up to whole seconds in all."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(usage.ru_utime + usage.ru_stime + seconds), hard))


async def read_reply(process: asyncio.subprocess.Process, decoder: "msgspec.msgpack.Decoder[T]", who: str) -> T | None:
    """The gateway's end: the next message, None when the process has ended.

    Raises:
        WorkerError: what comes is no frame; the sentence names `who`.
    """
    assert process.stdout is not None, "made with pipes"
    try:
        size = int.from_bytes(await process.stdout.readexactly(HEADER_BYTES), "big")
        if size > MAX_FRAME_BYTES:
            raise WorkerError(f"{who} broke its protocol")
        return decoder.decode(await process.stdout.readexactly(size))
    except asyncio.IncompleteReadError:
        return None


async def end(process: asyncio.subprocess.Process) -> None:
    """The gateway's end: kills the process and closes its pipes."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    assert process.stdin is not None, "made with pipes"
    assert process.stdout is not None, "made with pipes"
    process.stdin.close()
    with contextlib.suppress(ConnectionError):
        await process.stdin.wait_closed()
    await process.stdout.read()  # to its end, so that the transport closes
    await process.wait()
