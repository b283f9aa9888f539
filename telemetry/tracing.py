"""The two spans of a request: the HTTP server span and, below it, the one span with `gen_ai.*` attributes.

Owns what a span says and when it is an error. Knows neither the HTTP server nor the exporters. With tracing off the
same objects do nothing and the SDK is not imported. Spans are started with an explicit parent and never made current:
in streaming code a current span would leak into whatever else the task's context reaches.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, Tracer, set_span_in_context

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes, sendable, sendable_text
from outrider.telemetry.figures import InferenceResult, Operation, RequestAttributes

if TYPE_CHECKING:
    from outrider.telemetry.span_pipeline import SpanPipeline

_log = logging.getLogger(__name__)


class Tracing:
    """Makes the spans of every request. One per process, made after any fork; the owner calls `close`."""

    def __init__(self, pipeline: "SpanPipeline | None" = None) -> None:
        self._pipeline = pipeline

    def __repr__(self) -> str:
        return f"Tracing({self._pipeline or 'off'})"

    @classmethod
    def from_environment(cls, trace_file: Path | None = None) -> "Tracing":
        """Sends to the collector that OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT names, to `trace_file`, to both or to none.

        OTEL_SDK_DISABLED=true wins over both, OTEL_TRACES_EXPORTER=none over the collector.
        """
        endpoint = _variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _variable("OTEL_EXPORTER_OTLP_ENDPOINT")
        collector = endpoint != "" and _variable("OTEL_TRACES_EXPORTER") != "none"
        if not collector and trace_file is None:
            return cls()
        if _variable("OTEL_SDK_DISABLED") == "true":
            if trace_file is not None:
                _log.warning("OTEL_SDK_DISABLED is set: no traces are written to %s", trace_file)
            return cls()
        protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or _variable("OTEL_EXPORTER_OTLP_PROTOCOL")
        if collector and protocol not in {"", "http/protobuf"}:
            _log.warning("spans are sent as OTLP http/protobuf, not as %s: name an endpoint that takes it", protocol)

        from outrider.telemetry.span_pipeline import SpanPipeline  # noqa: PLC0415, the SDK costs when it is unused

        return cls(SpanPipeline(collector=collector, trace_file=trace_file))

    def start_request(
        self,
        *,
        method: str,
        route: str | None,
        path: str,
        scheme: str,
        headers: Mapping[str, str],
        client_address: str | None = None,
        server_address: str | None = None,
        server_port: int | None = None,
    ) -> "RequestTrace":
        """Starts the server span, as a child of the W3C parent in `headers`; a malformed parent is no parent.

        Args:
            method: As the client sent it.
            route: The matched pattern ("/v1/models/{model}"), None when nothing matched.
            path: Without the query, which may hold secrets.
            scheme: "http" or "https".
            headers: Looked up by lower-case names.
            client_address: The client's, behind a trusted proxy the forwarded one.
            server_address: The host that the client named, without the port.
            server_port: Recorded only with `server_address`.
        """
        if self._pipeline is None:
            return RequestTrace()
        known = method in names.HTTP_METHODS
        verb = method if known else "HTTP"
        server: Attributes = {
            names.SERVER_ADDRESS: server_address,
            names.SERVER_PORT: server_port if server_address is not None else None,
        }
        attributes: Attributes = {
            names.HTTP_REQUEST_METHOD: method if known else names.OTHER,
            names.HTTP_ROUTE: route,
            names.URL_PATH: path,
            names.URL_SCHEME: scheme,
            names.CLIENT_ADDRESS: client_address,
            names.USER_AGENT: headers.get("user-agent"),
            **server,
        }
        tracer = self._pipeline.tracer
        span = tracer.start_span(
            f"{verb} {route}" if route is not None else verb,
            context=self._pipeline.propagator.extract(headers, Context()),
            kind=SpanKind.SERVER,
            attributes=sendable(attributes),
        )
        return RequestTrace(tracer, span, server)

    def close(self) -> None:
        """Sends what is queued; blocks for up to two seconds, so call it in a thread. Later requests are not traced."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()


class InferenceTrace:
    """The `gen_ai.*` span of a request. `end` or `fail` closes it, and whatever comes after does nothing."""

    def __init__(self, span: Span | None = None, *, stream: bool = False, choice_count: int = 1) -> None:
        self._span = span
        self._stream = stream
        self._choice_count = choice_count
        self._started = 0 if span is None else time.perf_counter_ns()
        self._has_token = False

    def __repr__(self) -> str:
        return f"InferenceTrace({'off or ended' if self._span is None else 'open'})"

    def first_token(self) -> None:
        """Marks the first token, once; when streaming, its time since the span's start is the time to first chunk."""
        if self._span is None or self._has_token:
            return
        self._has_token = True
        self._span.add_event(names.FIRST_TOKEN_EVENT)
        if self._stream:
            seconds = (time.perf_counter_ns() - self._started) / 1e9
            self._span.set_attribute(names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, seconds)

    def had_to_wait(self, seconds: float, num_ahead: int) -> None:
        """Tells how long the request waited in the gateway, and how many were before it when it came."""
        if self._span is not None:
            self._span.set_attribute(names.GATEWAY_QUEUE_SECONDS, seconds)
            self._span.set_attribute(names.GATEWAY_QUEUE_POSITION, num_ahead)

    def end(self, result: InferenceResult) -> None:
        """Closes the span of an inference that came to its end."""
        self._close(result, {}, error_type=None)

    def fail(self, error_type: str, result: InferenceResult | None = None) -> None:
        """Closes the span as an error; `result` tells what was generated until then. Every choice ends by "error"."""
        reasons = [names.FINISHED_BY_ERROR] * self._choice_count
        self._close(result or InferenceResult(), {names.GEN_AI_RESPONSE_FINISH_REASONS: reasons}, error_type=error_type)

    def _close(self, result: InferenceResult, override: Attributes, *, error_type: str | None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        span.set_attributes(sendable(result.attributes() | override))
        for method in result.methods:
            dropped = method.dropped()
            if dropped is not None:
                span.add_event(names.SPEC_DROPPED_EVENT, sendable(dropped))
        if error_type is not None:
            _set_error(span, error_type)
        span.end()


class RequestTrace:
    """The server span of a request. Its ids stay readable after the end."""

    def __init__(
        self, tracer: Tracer | None = None, span: Span | None = None, server: Attributes | None = None
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._server = server
        self._context: SpanContext | None = None if span is None else span.get_span_context()
        self._inference: InferenceTrace | None = None

    def __repr__(self) -> str:
        return f"RequestTrace({self.trace_id or 'off'}, {'ended' if self._span is None else 'open'})"

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits for logs and error bodies; None with tracing off."""
        return None if self._context is None else f"{self._context.trace_id:032x}"

    @property
    def traceresponse(self) -> str | None:
        """The value of the `traceresponse` header; None with tracing off."""
        ids = self._context
        return None if ids is None else f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"

    @property
    def is_sampled(self) -> bool:
        """Whether the trace will be found where spans are sent: only then may an exemplar name it."""
        return self._context is not None and self._context.trace_flags.sampled

    def start_inference(
        self, operation: Operation, *, model: str, stream: bool, request: RequestAttributes
    ) -> InferenceTrace:
        """Starts the inference span, at most one per request: backends add up the tokens of each such span.

        `model` names the span: a known model, not whatever the client wrote.
        """
        if self._tracer is None or self._span is None:
            return InferenceTrace()
        attributes: Attributes = {
            names.GEN_AI_OPERATION_NAME: operation,
            names.GEN_AI_PROVIDER_NAME: names.PROVIDER,
            names.GEN_AI_REQUEST_MODEL: model,
            names.GEN_AI_REQUEST_STREAM: True if stream else None,
            **request.attributes(),
            **(self._server or {}),
        }
        span = self._tracer.start_span(
            f"{operation} {sendable_text(model)}",
            context=set_span_in_context(self._span, Context()),
            kind=SpanKind.INTERNAL,
            attributes=sendable(attributes),
        )
        self._inference = InferenceTrace(span, stream=stream, choice_count=request.choice_count)
        return self._inference

    def end(self, status: int | None, error_type: str | None = None) -> None:
        """Closes the server span, and an inference span that was left open, as failed.

        A 4xx is the client's error and leaves the status unset, whatever `error_type` says. Everything else with an
        `error_type` is an error, a stream that broke off after its 200 too, and so is a client that left.

        Args:
            status: The HTTP status that was sent, None when none was.
            error_type: One of `names.ERROR_TYPES`; the status itself if None and the status is 5xx.
        """
        span, self._span = self._span, None
        if span is None:
            return
        if status is None:
            error_type = error_type or names.OTHER
        else:
            span.set_attribute(names.HTTP_RESPONSE_STATUS_CODE, status)
            if status >= 500:
                error_type = error_type or str(status)
        refused = status is not None and 400 <= status < 500 and error_type != names.CLIENT_DISCONNECTED
        if self._inference is not None:
            self._inference.fail(error_type or names.OTHER)
        if error_type is not None and not refused:
            _set_error(span, error_type)
        span.end()


def _set_error(span: Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(StatusCode.ERROR)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()
