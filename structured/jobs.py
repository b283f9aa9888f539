"""What the gateway and its compile worker say to each other: length-prefixed msgpack frames over two pipes.

The gateway writes one Setup, then one Job at a time; the worker answers Ready, then one Compiled or Failure per job.
"""

from typing import Final, Literal

import msgspec

from outrider.structured.constraint import Kind, Whitespace

HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 256 * 2**20


class Setup(msgspec.Struct, tag=True, frozen=True):
    """The vocabulary to compile for, and what one job may use."""

    tokenizer_path: str
    vocab_size: int
    stop_token_ids: tuple[int, ...]
    cpu_seconds: float
    memory_bytes: int
    budget_seconds: float  # of a compile by xgrammar, before llguidance is taken instead


class Job(msgspec.Struct, tag=True, frozen=True):
    """One constraint: its kind and its value as JSON text."""

    kind: Kind
    text: bytes
    whitespace: Whitespace = "compact"


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker has its vocabulary."""


class Compiled(msgspec.Struct, tag=True, frozen=True):
    """A serialised grammar that has passed the canary."""

    backend: str
    data: bytes
    reason: str = ""  # why this backend


class Failure(msgspec.Struct, tag=True, frozen=True):
    """Why there is no grammar; `kind` chooses the exception that the caller gets."""

    kind: Literal["schema", "compile", "timeout"]
    message: str
    pointer: str = "#"
    keyword: str = ""


Request = Setup | Job
Reply = Ready | Compiled | Failure


def frame(message: Request | Reply) -> bytes:
    """The message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body
