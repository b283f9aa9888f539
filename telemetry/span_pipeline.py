"""From a finished span to the places it goes to: the SDK's provider, its processors and the exporters.

Owns their threads and their end. Knows nothing of what a span says. Imported only where spans are wanted: the SDK and
the exporter cost about 70 ms of CPU to import.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind

from outrider.telemetry import names
from outrider.telemetry.content import Content
from outrider.telemetry.details import DetailsEvents
from outrider.telemetry.inference_trace import TraceSettings
from outrider.telemetry.sdk_spans import SdkSpans
from outrider.telemetry.spans import FinishedTrace
from outrider.telemetry.trace_file import TraceFile
from outrider.telemetry.tracing import quieten

CLOSE_SECONDS = 2.0
_EXPORT_SECONDS = 2.5  # one batch, retries included; the SDK's 10 s would fill the queue behind a dead collector
_FILE_DELAY_MS = 200  # someone is watching the file

_log = logging.getLogger(__name__)


class SpanPipeline:
    """Each exporter has its own queue and thread, so that a slow one costs nobody else a span.

    Every standard OTEL_* variable is honoured; they are read here, by the SDK.
    """

    def __init__(
        self, *, collector: bool, trace_file: Path | None, settings: TraceSettings, events: bool = False
    ) -> None:
        # Without the SDK's exit hook, which waits 30 s for a dead collector: `close` is the owner's duty.
        provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
        self._sampler = provider.sampler  # as OTEL_TRACES_SAMPLER says
        self._sdk_spans = SdkSpans(provider.resource, settings.profile)
        self._exporters: list[SpanExporter] = []
        self._processors: list[BatchSpanProcessor] = []
        if trace_file is not None:
            self._add(TraceFile(trace_file), delay_ms=_FILE_DELAY_MS)
        if collector:
            self._add(_Collector())
        self._events = DetailsEvents(provider.resource, settings.profile) if events else None
        quieten("opentelemetry.exporter", logging.CRITICAL)  # an error for each batch; `_Collector` says it once

    def __repr__(self) -> str:
        return f"SpanPipeline({', '.join(map(repr, self._exporters))})"

    def samples(self, parent: Context, trace_id: int, name: str) -> bool:
        """Whether OTEL_TRACES_SAMPLER would record the trace of a request that begins."""
        decision = self._sampler.should_sample(parent, trace_id, name, SpanKind.SERVER).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def send(self, trace: FinishedTrace, content: Content | None = None) -> None:
        """Queues a trace, and the event of its details with it if there is something to tell."""
        for span in self._sdk_spans.of(trace):
            for processor in self._processors:
                processor.on_end(span)
        if self._events is not None and content is not None:
            self._events.emit(trace, content)

    def close(self) -> None:
        """Sends what is queued and stops; returns after CLOSE_SECONDS at the latest, with what could be sent."""
        # `shutdown` joins the processor's thread for up to 30 s, hence in a thread that may be left behind.
        closers = [threading.Thread(target=processor.shutdown, daemon=True) for processor in self._processors]
        others = [] if self._events is None else [threading.Thread(target=self._events.close, daemon=True)]
        deadline = time.monotonic() + CLOSE_SECONDS
        for closer in (*closers, *others):
            closer.start()
        for closer in (*closers, *others):
            closer.join(max(0.0, deadline - time.monotonic()))
        for closer, exporter in zip(closers, self._exporters, strict=True):
            if closer.is_alive():
                _log.warning("%r did not take the last spans within %s s: they are lost", exporter, CLOSE_SECONDS)
                exporter.shutdown()  # cuts a retry's wait short

    def _add(self, exporter: SpanExporter, delay_ms: float | None = None) -> None:
        processor = BatchSpanProcessor(exporter, schedule_delay_millis=delay_ms)
        self._exporters.append(exporter)
        self._processors.append(processor)


class _Collector(SpanExporter):
    """OTLP over HTTP, with one warning for a collector that does not answer where the SDK gives several per batch."""

    def __init__(self) -> None:
        timeouts = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
        self._exporter = OTLPSpanExporter(timeout=None if any(map(os.environ.get, timeouts)) else _EXPORT_SECONDS)
        self._warned = False

    def __repr__(self) -> str:
        return "OTLP"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.FAILURE and not self._warned:
            self._warned = True
            _log.warning(
                "the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no spans: they are dropped until it does "
                "(said once; the logger opentelemetry.exporter tells more at level WARNING)"
            )
        return result

    def shutdown(self) -> None:
        self._warned = True  # a thread that was left behind says nothing more
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the package does not annotate it


def resource() -> Resource:
    """What this service calls itself; the standard variables win."""
    return Resource.create(
        {
            names.SERVICE_NAME: "outrider",
            names.SERVICE_VERSION: metadata.version("outrider"),
            **OTELResourceDetector().detect().attributes,  # else the arguments would win over the variables
        }
    )
