"""Begins the trace of every request, and decides where it goes when the request has ended.

Knows neither the HTTP server nor the exporters. Spans are never made current: in streaming code a current span would
leak into whatever else the task's context reaches. With tracing off nothing is taken down and the SDK is not imported.
"""

import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, propagate
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes
from outrider.telemetry.inference_trace import TraceSettings
from outrider.telemetry.options import TraceOptions, capture_of_environment, profile_of_environment, variable
from outrider.telemetry.recent import RecentTraces
from outrider.telemetry.request_trace import RANDOM, SAMPLED, RequestTrace, ServerSpan
from outrider.telemetry.spans import RemoteSpan

if TYPE_CHECKING:
    from outrider.telemetry.span_pipeline import SpanPipeline

_log = logging.getLogger(__name__)


class Tracing:
    """Makes the traces of all requests. One per process, made after any fork; the owner calls `close`.

    Attributes:
        settings: How spans are written.
        captures_content: Whether anybody wants the texts of requests and answers.
    """

    def __init__(
        self,
        options: TraceOptions | None = None,
        pipeline: "SpanPipeline | None" = None,
        settings: TraceSettings | None = None,
        *,
        content_in_events: bool = False,
    ) -> None:
        self._options = options or TraceOptions()
        self._pipeline = pipeline
        self._recent = RecentTraces(self._options.recent) if self._options.recent else None
        self._content_in_events = content_in_events
        self.settings = settings or TraceSettings()
        self.captures_content = content_in_events or self.settings.content_on_spans

    def __repr__(self) -> str:
        return f"Tracing({self._pipeline or self._recent or 'off'})"

    @classmethod
    def from_environment(cls, options: TraceOptions | None = None) -> "Tracing":
        """Sends to the collector of OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT, to the trace file, to both or to none.

        OTEL_SDK_DISABLED=true wins over both, OTEL_TRACES_EXPORTER=none over the collector. Neither concerns the traces
        that are kept in memory.
        """
        options = options or TraceOptions()
        capture, problem = capture_of_environment()
        if problem is not None:
            _log.warning("%s", problem)
        settings = TraceSettings(
            profile=profile_of_environment(options.profile),
            content_on_spans=capture in {"SPAN_ONLY", "SPAN_AND_EVENT"},
        )
        asked = variable("OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT")
        in_events = asked == "true" if asked else capture in {"EVENT_ONLY", "SPAN_AND_EVENT"}
        # A warning for each malformed tracestate would carry the client's text.
        quieten("opentelemetry", logging.ERROR)

        endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or variable("OTEL_EXPORTER_OTLP_ENDPOINT")
        collector = endpoint != "" and variable("OTEL_TRACES_EXPORTER") != "none"
        if not collector and options.trace_file is None:
            return cls(options, None, settings)
        if variable("OTEL_SDK_DISABLED") == "true":
            if options.trace_file is not None:
                _log.warning("OTEL_SDK_DISABLED is set: no traces are written to %s", options.trace_file)
            return cls(options, None, settings)
        protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or variable("OTEL_EXPORTER_OTLP_PROTOCOL")
        if collector and protocol not in {"", "http/protobuf"}:
            _log.warning("spans are sent as OTLP http/protobuf, not as %s: name an endpoint that takes it", protocol)

        from outrider.telemetry.span_pipeline import SpanPipeline  # noqa: PLC0415, the SDK costs when it is unused

        pipeline = SpanPipeline(
            collector=collector, trace_file=options.trace_file, settings=settings, events=in_events and collector
        )
        return cls(options, pipeline, settings, content_in_events=in_events and collector)

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
    ) -> RequestTrace:
        """Starts the server span, below the W3C parent in `headers` if it is trusted; a malformed parent is none.

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
        if self._pipeline is None and self._recent is None:
            return RequestTrace()
        known = method in names.HTTP_METHODS
        verb = method if known else "HTTP"
        name = f"{verb} {route}" if route is not None else verb
        attributes: Attributes = {
            names.HTTP_REQUEST_METHOD: method if known else names.OTHER,
            names.HTTP_ROUTE: route,
            names.URL_PATH: path,
            names.URL_SCHEME: scheme,
            names.CLIENT_ADDRESS: client_address,
            names.USER_AGENT: headers.get("user-agent"),
        }
        trust = self._options.context
        context = Context() if trust == "ignore" else propagate.get_global_textmap().extract(headers, Context())
        caller = _caller(context)
        parent = caller if trust == "trust" else None
        if trust == "trust" and context:
            for key in names.BAGGAGE_KEYS:
                value = baggage.get_baggage(key, context)
                attributes[key] = value if isinstance(value, str) else None
        trace_id = random.getrandbits(128) or 1 if parent is None else parent.trace_id
        flags = RANDOM if parent is None else parent.flags & ~SAMPLED
        if self._pipeline is not None and self._pipeline.samples(
            context if parent is not None else Context(), trace_id, name
        ):
            flags |= SAMPLED
        span = ServerSpan(
            name=name,
            trace_id=trace_id,
            flags=flags,
            attributes=attributes,
            server={
                names.SERVER_ADDRESS: server_address,
                names.SERVER_PORT: server_port if server_address is not None else None,
            },
            parent=parent,
            link=caller if trust == "link" else None,
        )
        return RequestTrace(self, span)

    def keeps(self, span: ServerSpan, *, failed: bool, seconds: float) -> bool:
        """Whether a trace is sent: errors and slow ones always, of the others a share.

        The share goes by the trace id, so that several servers agree. What a trusted caller samples is kept whole.
        """
        if self._pipeline is None or not span.flags & SAMPLED:
            return False
        options = self._options
        if failed or options.share >= 1 or seconds > options.slow_seconds:
            return True
        if span.parent is not None and span.parent.flags & SAMPLED:
            return True
        return (span.trace_id & 0xFFFFFFFF) / 2**32 < options.share

    def take(self, request: RequestTrace) -> None:
        """Takes in a request that has ended. Those without an inference are not kept in memory."""
        if self._recent is not None and request.inference.is_on:
            self._recent.add(request)
        if self._pipeline is not None and request.is_kept:
            content = request.inference.content if self._content_in_events else None
            self._pipeline.send(request.finished_trace(), content)

    def recent_json(self, *, limit: int, trace_id: str | None = None) -> dict[str, Any]:
        """What `GET /traces` answers: see `RecentTraces.as_json`."""
        return (self._recent or RecentTraces(0)).as_json(limit=limit, trace_id=trace_id)

    def close(self) -> None:
        """Sends what is queued; blocks for up to two seconds, so call it in a thread. Later requests are not sent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()


def quieten(logger_name: str, level: int) -> None:
    """Sets a library's level, unless somebody wants to see more."""
    logger = logging.getLogger(logger_name)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)


def _caller(context: Context) -> RemoteSpan | None:
    ids = get_current_span(context).get_span_context()
    return RemoteSpan(ids.trace_id, ids.span_id, int(ids.trace_flags), dict(ids.trace_state)) if ids.is_valid else None
