"""CPU time that tracing costs a request, in microseconds of one thread: off, every trace sent, one in a hundred sent.

Process time, so that other work on the machine does not count; the encoding that an exporter's thread does is in it.

    python bench/tracing.py [requests]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from outrider.telemetry import phases
from outrider.telemetry.figures import InferenceResult, MethodFigures, RequestAttributes, SpeculationFigures
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.span_pipeline import SpanPipeline
from outrider.telemetry.tracing import Tracing

HEADERS = {"user-agent": "bench/1", "content-type": "application/json"}
COUNTS = {"steps": 9, "drafted_tokens": 40, "accepted_tokens": 22}
ROUNDS = 7


class Encoding:
    """A span processor that encodes for OTLP, as an exporter would in its thread, and sends nothing."""

    def __init__(self) -> None:
        self._batch: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span; every 512 make a batch."""
        self._batch.append(span)
        if len(self._batch) == 512:
            encode_spans(self._batch).SerializeToString()
            self._batch.clear()

    def shutdown(self) -> None:
        """Nothing is kept."""


def trace_one(tracing: Tracing) -> None:
    """A request as the gateway traces it, with a draft and each phase once."""
    request = tracing.start_request(
        method="POST",
        route="/v1/chat/completions",
        path="/v1/chat/completions",
        scheme="http",
        headers=HEADERS,
        client_address="192.0.2.1",
        server_address="localhost",
        server_port=8000,
    )
    inference = request.start_inference("chat")
    now = time.monotonic()
    inference.describe(model="outrider-demo", stream=True, request=RequestAttributes(max_tokens=64, temperature=0.0))
    inference.phase(phases.admission(now, now, "admitted", None))
    inference.first_token()
    drafts = SpeculationFigures(
        method="ngram",
        steps=9,
        drafted_tokens=40,
        accepted_tokens=22,
        emitted_tokens=31,
        acceptance_histogram=(1, 2, 6),
    )
    method = MethodFigures(
        method="ngram", steps=9, drafted_tokens=40, accepted_tokens=22, acceptance_histogram=(1, 2, 6)
    )
    gaps = (0.004, 0.009, 0.011)
    result = InferenceResult(
        response_id="chatcmpl-0123456789abcdef",
        response_model="outrider-demo",
        finish_reasons=("stop",),
        input_tokens=100,
        output_tokens=40,
        cached_tokens=64,
        cache_writes=32,
        preemptions=0,
        queue_seconds=0.001,
        prefill_seconds=0.01,
        decode_seconds=0.2,
        speculation=drafts,
        methods=(method,),
        phases=(
            phases.queue(now, now, reason="arrival", depth=0),
            phases.prefill(now, now, tokens=100, cached_tokens=64, chunks=1),
            phases.decode(now, now, tokens=40, steps=18, gap_seconds=gaps, choice=None, parts=(method,)),
        ),
    )
    inference.end(result)
    request.end(200)


def microseconds(tracing: Tracing, count: int) -> float:
    """CPU per request."""
    started = time.process_time_ns()
    for _ in range(count):
        trace_one(tracing)
    return (time.process_time_ns() - started) / count / 1000


def main() -> None:
    """Prints the median of several rounds, the ways alternating."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        ways = {"off": Tracing(), "in memory alone": Tracing(TraceOptions(recent=100))}
        for name, share in (("100 % sent", 1.0), ("1 % sent", 0.01)):
            options = TraceOptions(trace_file=Path(folder) / "unused", recent=100, share=share)
            tracing = Tracing.from_environment(options)
            pipeline = tracing._pipeline
            assert isinstance(pipeline, SpanPipeline)
            for processor in pipeline._processors:
                processor.shutdown()
            pipeline._processors[:] = [Encoding()]  # type: ignore[list-item]
            pipeline._exporters.clear()
            ways[name] = tracing
        rounds = [{name: microseconds(tracing, count) for name, tracing in ways.items()} for _ in range(ROUNDS)]
    for name in ways:
        median = statistics.median(one[name] for one in rounds)
        print(f"{name:>16}: {median:6.1f} us of CPU per request")  # noqa: T201


if __name__ == "__main__":
    main()
