"""One request's trace: its server span, and below it the span of its inference.

Owns what the server span says and when it is an error. The spans are made when the request has ended, by whoever wants
them, so that a trace that nobody keeps costs next to nothing. With tracing off the same objects do nothing.
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes, sendable
from outrider.telemetry.figures import Operation
from outrider.telemetry.inference_trace import InferenceTrace, TraceSettings, new_span_id
from outrider.telemetry.spans import FinishedSpan, FinishedTrace, RemoteSpan

if TYPE_CHECKING:
    from outrider.telemetry.tracing import Tracing

SAMPLED, RANDOM = 0x01, 0x02  # W3C trace flags


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpan:
    """What is known of a request when it arrives.

    Attributes:
        server: The attributes that the inference span has too.
        flags: W3C trace flags of ours.
        parent: The caller's span, when it is trusted.
        link: The caller's span, when it is only told.
    """

    name: str
    trace_id: int
    flags: int
    attributes: Attributes
    server: Attributes = field(default_factory=dict)
    parent: RemoteSpan | None = None
    link: RemoteSpan | None = None


class RequestTrace:
    """The server span of a request. Its ids stay readable after the end."""

    def __init__(self, tracing: "Tracing | None" = None, span: ServerSpan | None = None) -> None:
        self._tracing = tracing
        self._settings = TraceSettings() if tracing is None else tracing.settings
        self._span = span
        self.span_id = 0 if span is None else new_span_id()
        self._started = 0.0 if span is None else time.monotonic()
        self._clock_offset = 0 if span is None else time.time_ns() - time.monotonic_ns()
        self._ended: float | None = None
        self._outcome: Attributes = {}
        self._has_failed = False
        self._is_kept: bool | None = None
        self._inference = InferenceTrace()
        self._finished: FinishedTrace | None = None

    def __repr__(self) -> str:
        return f"RequestTrace({self.trace_id or 'off'}, {'open' if self._ended is None else 'ended'})"

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits for logs and error bodies; None with tracing off."""
        return None if self._span is None else f"{self._span.trace_id:032x}"

    @property
    def traceresponse(self) -> str | None:
        """The value of the `traceresponse` header; None with tracing off."""
        span = self._span
        return None if span is None else f"00-{span.trace_id:032x}-{self.span_id:016x}-{span.flags:02x}"

    @property
    def inference(self) -> InferenceTrace:
        """The span below it; off where the request was none."""
        return self._inference

    @property
    def is_kept(self) -> bool:
        """Whether the trace will be found where spans are sent: only then may an exemplar name it.

        Decided when first asked, at the end of the inference at best; a request that fails after that is kept still.
        """
        if self._is_kept is None:
            self._is_kept = self._decide(failed=self._inference.error_type is not None)
        return self._is_kept

    def start_inference(self, operation: Operation) -> InferenceTrace:
        """Starts the inference span, at most one per request: backends add up the tokens of each such span."""
        if self._span is None or self._ended is not None:
            return InferenceTrace()
        self._inference = InferenceTrace(operation)
        return self._inference

    def end(self, status: int | None, error_type: str | None = None) -> None:
        """Closes the server span, and an inference span that was left open, as failed.

        A 4xx is the client's error and leaves the status unset, whatever `error_type` says. Everything else with an
        `error_type` is an error, a stream that broke off after its 200 too, and so is a client that left.

        Args:
            status: The HTTP status that was sent, None when none was.
            error_type: One of `names.ERROR_TYPES`; the status itself if None and the status is 5xx.
        """
        if self._span is None or self._ended is not None:
            return
        if status is None:
            error_type = error_type or names.OTHER
        elif status >= 500:
            error_type = error_type or str(status)
        refused = status is not None and 400 <= status < 500 and error_type != names.CLIENT_DISCONNECTED
        self._inference.fail(error_type or names.OTHER)
        self._has_failed = error_type is not None and not refused
        self._outcome = {
            names.HTTP_RESPONSE_STATUS_CODE: status,
            names.ERROR_TYPE: error_type if self._has_failed else None,
        }
        self._ended = time.monotonic()
        if not self.is_kept and self._has_failed:
            self._is_kept = self._decide(failed=True)
        if self._tracing is not None:
            self._tracing.take(self)

    def finished_trace(self) -> FinishedTrace:
        """Its spans, once it has ended; the same ones each time."""
        assert self._span is not None, "only requests that are traced are asked"
        assert self._ended is not None, "only requests that have ended are asked"
        if self._finished is None:
            self._finished = self._finish(self._span, self._ended)
        return self._finished

    def _finish(self, span: ServerSpan, ended: float) -> FinishedTrace:
        parent = span.parent
        server = FinishedSpan(
            name=span.name,
            kind="SERVER",
            span_id=self.span_id,
            parent_id=None if parent is None else parent.span_id,
            start_ns=self._clock_offset + int(self._started * 1e9),
            end_ns=self._clock_offset + int(ended * 1e9),
            attributes=sendable(span.attributes | span.server | self._outcome),
            links=() if span.link is None else (span.link,),
            has_failed=self._has_failed,
        )
        inference = self._inference.finished_spans(self.span_id, self._clock_offset, span.server, self._settings)
        return FinishedTrace(trace_id=span.trace_id, flags=span.flags, parent=parent, spans=(*inference, server))

    def _decide(self, *, failed: bool) -> bool:
        if self._tracing is None or self._span is None:
            return False
        seconds = (self._ended or time.monotonic()) - self._started
        return self._tracing.keeps(self._span, failed=failed or self._inference.was_preempted, seconds=seconds)
