"""Spans on the wire, against a collector on a loopback socket."""

import threading
import time
from pathlib import Path

import pytest

from outrider.telemetry.figures import InferenceResult, RequestAttributes
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.span_pipeline import CLOSE_SECONDS
from outrider.telemetry.tracing import Tracing


def trace_requests(tracing: Tracing, count: int, stop: str = "END") -> None:
    for _ in range(count):
        request = tracing.start_request(method="POST", route="/r", path="/r", scheme="http", headers={})
        asked = RequestAttributes(temperature=0, stop_sequences=(stop,))
        inference = request.start_inference("chat")
        inference.describe(model="tiny", stream=False, request=asked)
        inference.end(InferenceResult(finish_reasons=("stop",), output_tokens=3))
        request.end(200)


def test_a_trace_arrives_as_otlp(collector) -> None:
    """Types and links survive the wire."""
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1)
    tracing.close()

    inference, server = collector.spans
    sent = collector.attributes(inference)

    assert (server.name, inference.name) == ("POST /r", "chat tiny")
    assert (server.span_id, server.trace_id) == (inference.parent_span_id, inference.trace_id)
    assert (server.kind, inference.kind) == (server.SPAN_KIND_SERVER, server.SPAN_KIND_INTERNAL)
    assert (
        sent["gen_ai.request.temperature"],
        sent["gen_ai.usage.output_tokens"],
        sent["gen_ai.response.finish_reasons"],
    ) == (0.0, 3, ["stop"])
    scope = collector.requests[0].resource_spans[0].scope_spans[0]
    assert (scope.scope.name, scope.schema_url) == ("outrider", "https://opentelemetry.io/schemas/1.41.1")


def test_closing_loses_no_span(collector) -> None:
    """What was queued when the server stopped is sent, over several batches."""
    tracing = Tracing.from_environment()
    trace_requests(tracing, 600)
    tracing.close()

    assert len(collector.spans) == 1200
    assert len({span.span_id for span in collector.spans}) == 1200


def test_the_service_names_itself(collector) -> None:
    """Without a variable the service is outrider, in its version."""
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1)
    tracing.close()

    assert collector.resource["service.name"] == "outrider"
    assert collector.resource["service.version"]


def test_standard_variables_win(collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators configure every service of theirs in the same way."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat-eu")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=7")
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1)
    tracing.close()

    assert (
        collector.resource["service.name"],
        collector.resource["deployment.environment.name"],
    ) == ("chat-eu", "staging")
    assert collector.headers[0]["x-tenant"] == "7"


def test_the_traces_endpoint_is_taken_as_it_is(collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The specific variable alone is enough."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.endpoint}/custom")
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1)
    tracing.close()

    assert len(collector.spans) == 2


def test_the_exporter_can_be_named_none(collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that other signals use does not force traces on it."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    assert repr(Tracing.from_environment()) == "Tracing(off)"


def test_a_protocol_that_is_not_spoken_is_named(collector, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    """Sending HTTP to a gRPC port fails without a hint otherwise."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    Tracing.from_environment().close()

    assert caplog.messages == ["spans are sent as OTLP http/protobuf, not as grpc: name an endpoint that takes it"]


def test_a_client_cannot_spoil_a_batch(collector) -> None:
    """Protobuf refuses a lone surrogate, and with it every span that travels along."""
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1, stop="\ud800")
    trace_requests(tracing, 1)
    request = tracing.start_request(
        method="GET", route=None, path="/\udcff", scheme="http", headers={"user-agent": "\udcff"}
    )
    asked = RequestAttributes(seed=2**63, max_tokens=-(2**63) - 1)
    inference = request.start_inference("chat")
    inference.describe(model="\ud800", stream=False, request=asked)
    inference.end(InferenceResult())
    request.end(404)
    tracing.close()

    assert len(collector.spans) == 6
    assert collector.attributes(collector.spans[0])["gen_ai.request.stop_sequences"] == ["?"]
    assert {"gen_ai.request.seed", "gen_ai.request.max_tokens"}.isdisjoint(collector.attributes(collector.spans[4]))


def test_collector_and_file_both_get_everything(collector, tmp_path: Path) -> None:
    """Each destination has its own queue."""
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
    trace_requests(tracing, 5)
    tracing.close()

    assert 10 == len(collector.spans) == len((tmp_path / "traces.jsonl").read_text().splitlines())


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_dead_collector_does_not_hold_up_the_end(
    port: str, request: pytest.FixtureRequest, monkeypatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a refused connection nor one without an answer, and the file is complete all the same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{request.getfixturevalue(port)}")
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
    trace_requests(tracing, 800)
    started = time.monotonic()
    tracing.close()
    seconds = time.monotonic() - started

    assert seconds < CLOSE_SECONDS + 1
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 1600
    assert caplog.messages[-1] == f"OTLP did not take the last spans within {CLOSE_SECONDS} s: they are lost"
    assert len(caplog.messages) <= 2


def test_a_refusing_collector_is_worth_one_warning(collector, caplog: pytest.LogCaptureFixture) -> None:
    """A log that fills up would be the second thing to break."""
    collector.status = 400
    tracing = Tracing.from_environment()
    trace_requests(tracing, 1500)
    tracing.close()

    assert len(collector.headers) > 1
    assert [record.name for record in caplog.records] == ["outrider.telemetry.span_pipeline"]


def test_closing_leaves_no_thread(collector, tmp_path: Path) -> None:
    """What was started is stopped, where the collector lets it."""
    before = set(threading.enumerate())
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
    tracing.close()
    tracing.close()

    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("Otel")]
