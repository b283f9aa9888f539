"""The last requests' traces in memory, as JSON: a waterfall for who has no backend."""

from collections import deque
from typing import Any, Protocol

from outrider.telemetry.spans import FinishedSpan, FinishedTrace
from outrider.telemetry.times import iso


class Finished(Protocol):
    """A request that has ended and can tell its trace. Building the spans waits until somebody asks."""

    def finished_trace(self) -> FinishedTrace:
        """Its spans."""
        ...


class RecentTraces:
    """Keeps the newest `capacity` requests, whatever is sampled."""

    def __init__(self, capacity: int) -> None:
        self._requests: deque[Finished] = deque(maxlen=capacity)

    def __repr__(self) -> str:
        return f"RecentTraces({len(self._requests)} of {self._requests.maxlen})"

    def add(self, request: Finished) -> None:
        """Takes in one that has ended; the oldest gives way."""
        self._requests.append(request)

    def as_json(self, *, limit: int, trace_id: str | None = None) -> dict[str, Any]:
        """The newest first.

        Args:
            limit: how many at most
            trace_id: 32 hexadecimal digits: only the requests of this trace
        """
        traces: list[dict[str, Any]] = []
        for request in reversed(self._requests):
            if len(traces) == limit:
                break
            trace = request.finished_trace()
            if trace_id is None or f"{trace.trace_id:032x}" == trace_id:
                traces.append(_trace(trace))
        return {"capacity": self._requests.maxlen, "traces": traces}


def _trace(trace: FinishedTrace) -> dict[str, Any]:
    server = trace.spans[-1]
    begun = server.start_ns
    # In the order of a waterfall: by start, and whoever holds others before them.
    ordered = sorted(trace.spans, key=lambda span: (span.start_ns, -span.end_ns))
    return {
        "trace_id": f"{trace.trace_id:032x}",
        "start": iso(begun),
        "duration_ms": (server.end_ns - begun) / 1e6,
        "name": server.name,
        "status": "ERROR" if any(span.has_failed for span in trace.spans) else "UNSET",
        "spans": [_span(span, begun) for span in ordered],
    }


def _span(span: FinishedSpan, begun: int) -> dict[str, Any]:
    return {
        "span_id": f"{span.span_id:016x}",
        "parent_id": None if span.parent_id is None else f"{span.parent_id:016x}",
        "name": span.name,
        "kind": span.kind,
        "start": iso(span.start_ns),
        "start_ms": (span.start_ns - begun) / 1e6,
        "duration_ms": (span.end_ns - span.start_ns) / 1e6,
        "status": "ERROR" if span.has_failed else "UNSET",
        "attributes": span.attributes,
        "events": [
            {"name": event.name, "at_ms": (event.time_ns - begun) / 1e6, "attributes": event.attributes}
            for event in span.events
        ],
    }
