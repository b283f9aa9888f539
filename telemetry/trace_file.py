"""Writes finished spans to a file, one JSON object per line: traces without a collector.

Owns the shape of a line, which other tools may rely on. Knows nothing of who made the spans.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from outrider.telemetry.times import iso

_log = logging.getLogger(__name__)


class TraceFile(SpanExporter):
    """Appends to `path`, and opens it anew for each batch: it may be rotated, removed, or come back with its disk.

    A file that cannot be written costs its spans and one warning, which comes at start if the path is wrong then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._warned = False
        self._append([])

    def __repr__(self) -> str:
        return f"TraceFile({str(self._path)!r})"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by one thread, the span processor's."""
        return self._append([json.dumps(_line(span), ensure_ascii=False) + "\n" for span in spans])

    def _append(self, lines: list[str]) -> SpanExportResult:
        try:
            # A lone surrogate (a variable of the environment may hold one) becomes \udXXX, which is valid JSON.
            with self._path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(lines)
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warning("cannot write traces to %s: %s (said once)", self._path, error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def _line(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None, "the SDK gives every span a context"
    assert span.start_time is not None, "only ended spans are exported"
    assert span.end_time is not None, "only ended spans are exported"
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent is not None else None,
        "name": span.name,
        "kind": span.kind.name,
        "start": iso(span.start_time),
        "duration_ms": (span.end_time - span.start_time) / 1e6,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": event.name, "time": iso(event.timestamp), "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
        "links": [
            {"trace_id": f"{link.context.trace_id:032x}", "span_id": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
        "resource": dict(span.resource.attributes),
    }
