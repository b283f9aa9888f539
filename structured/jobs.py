"""What the gateway says to its compile worker and to its checker: messages that `pipes.py` carries.

The gateway writes one Setup, then one Job at a time; the worker answers Ready, then one Compiled or Failure per job.
The checker needs no Setup; it answers an AuditJob with Audited or Failure, and a CheckJob with Checked.
"""

from typing import Literal

import msgspec

from outrider.structured.constraint import Kind, Whitespace
from outrider.structured.finding import Finding, Violation


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


class Compiled(msgspec.Struct, tag=True, frozen=True):
    """A serialised grammar that has passed the canary, and what it leaves to the validator."""

    backend: str
    data: bytes
    reason: str = ""  # why this backend
    left: tuple[Finding, ...] = ()


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker has its vocabulary; `plain` are the grammars that stand in for others, by their constraints' keys."""

    plain: dict[str, Compiled] = {}


class Failure(msgspec.Struct, tag=True, frozen=True):
    """Why there is no grammar; `kind` chooses the exception that the caller gets."""

    kind: Literal["schema", "compile", "timeout"]
    message: str
    pointer: str = "#"
    keyword: str = ""


class AuditJob(msgspec.Struct, tag=True, frozen=True):
    """A schema to audit, as JSON text."""

    schema: bytes


class Audited(msgspec.Struct, tag=True, frozen=True):
    """What becomes of the schema's keywords."""

    route: Literal["exact", "validated", "refused"]
    findings: tuple[Finding, ...]


class CheckJob(msgspec.Struct, tag=True, frozen=True):
    """A finished answer to check against its schema, which is JSON text."""

    schema: bytes
    text: str


class Checked(msgspec.Struct, tag=True, frozen=True):
    """What is wrong with the answer."""

    violations: tuple[Violation, ...]


Request = Setup | Job
Reply = Ready | Compiled | Failure
CheckerRequest = AuditJob | CheckJob
CheckerReply = Ready | Audited | Checked | Failure
