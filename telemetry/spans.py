"""A finished trace as plain records: what the exporters, the trace file and `GET /traces` are made from.

Knows nothing of OpenTelemetry, so that keeping the last requests in memory costs no import of its SDK.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from outrider.telemetry.attributes import Attributes, AttributeValue

SpanKind: TypeAlias = Literal["SERVER", "INTERNAL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of an inference. Times are seconds of this process's monotonic clock."""

    name: str
    start: float
    end: float
    attributes: Attributes = field(default_factory=dict)
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment, in nanoseconds since 1970."""

    name: str
    time_ns: int
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteSpan:
    """Another process's span, a parent or a link."""

    trace_id: int
    span_id: int
    flags: int
    state: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSpan:
    """One span; times in nanoseconds since 1970.

    Attributes:
        parent_id: None for a root; the caller's span where the tree is part of its trace.
        error_type: None leaves the status unset.
    """

    name: str
    kind: SpanKind
    span_id: int
    parent_id: int | None
    start_ns: int
    end_ns: int
    attributes: dict[str, AttributeValue]
    events: tuple[SpanEvent, ...] = ()
    links: tuple[RemoteSpan, ...] = ()
    has_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrace:
    """All spans of one request, children before their parent: the last is the server span.

    Attributes:
        parent: The caller's span, when it is trusted and there is one.
        flags: W3C trace flags.
    """

    trace_id: int
    flags: int
    parent: RemoteSpan | None
    spans: tuple[FinishedSpan, ...]
