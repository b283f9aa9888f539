"""The event that tells a request's texts, for backends that take them as logs and not on spans."""

from importlib import metadata

from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from outrider.telemetry import names
from outrider.telemetry.content import Content
from outrider.telemetry.spans import FinishedTrace


class DetailsEvents:
    """Emits one event per request, in the context of its inference span."""

    def __init__(self, resource: Resource, profile: names.Profile) -> None:
        self._profile: names.Profile = profile
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        schema = names.LATEST_SCHEMA_URL if profile == "latest" else names.SCHEMA_URL
        self._logger = self._provider.get_logger(names.SCOPE, metadata.version("outrider"), schema)

    def __repr__(self) -> str:
        return "DetailsEvents()"

    def emit(self, trace: FinishedTrace, content: Content) -> None:
        """The inference span's attributes and the texts, structured."""
        inference = trace.spans[-2]  # the server span is the last
        ids = SpanContext(trace.trace_id, inference.span_id, is_remote=False, trace_flags=TraceFlags(trace.flags))
        self._logger.emit(
            LogRecord(
                timestamp=inference.end_ns,
                context=set_span_in_context(NonRecordingSpan(ids), Context()),
                event_name=names.DETAILS_EVENT,
                attributes={**inference.attributes, **content.structured(self._profile)},
            )
        )

    def close(self) -> None:
        """Sends what is queued; may block, so call it in a thread."""
        self._provider.shutdown()
