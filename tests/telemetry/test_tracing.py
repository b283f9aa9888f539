"""What the two spans of a request say."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.telemetry import names
from outrider.telemetry.figures import (
    GrammarFigures,
    InferenceResult,
    MethodFigures,
    RequestAttributes,
    SpeculationFigures,
)
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.request_trace import RequestTrace
from outrider.telemetry.tracing import Tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROUTE = "/v1/chat/completions"


class Recorder:
    """Tracing into a file that is read back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: list[RequestTrace] = []
        self.tracing = Tracing.from_environment(TraceOptions(trace_file=path))

    def start(self, method: str = "POST", route: str | None = ROUTE, path: str = ROUTE, **headers: str) -> RequestTrace:
        request = self.tracing.start_request(method=method, route=route, path=path, scheme="http", headers=headers)
        self._requests.append(request)
        return request

    def spans(self) -> list[dict[str, Any]]:
        """In the order of their ends; no span follows."""
        self.tracing.close()
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def inferences(self) -> list[dict[str, Any]]:
        """The inference spans; requests that are open end well."""
        for request in self._requests:
            request.end(200)
        return [span for span in self.spans() if span["kind"] == "INTERNAL"]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "traces.jsonl")
    yield recorder
    recorder.tracing.close()


def infer(
    request: RequestTrace, model: str = "tiny", stream: bool = False, asked: RequestAttributes | None = None
) -> InferenceTrace:
    inference = request.start_inference("chat")
    inference.describe(model=model, stream=stream, request=asked or RequestAttributes())
    return inference


def test_a_request_is_a_server_span_over_an_inference_span(recorder: Recorder) -> None:
    """HTTP wants one name and gen_ai another, so there are two spans."""
    request = recorder.start()
    infer(request).end(InferenceResult())
    request.end(200)

    inference, server = recorder.spans()

    assert (server["name"], server["kind"], server["parent_id"]) == ("POST /v1/chat/completions", "SERVER", None)
    assert ("chat tiny", "INTERNAL", server["span_id"]) == (
        inference["name"],
        inference["kind"],
        inference["parent_id"],
    )
    assert server["trace_id"] == inference["trace_id"] == request.trace_id


def test_the_server_span_speaks_of_http_alone(recorder: Recorder) -> None:
    """A gen_ai attribute on it would make backends count the request twice."""
    request = recorder.tracing.start_request(
        method="POST",
        route=ROUTE,
        path=ROUTE,
        scheme="https",
        headers={"user-agent": "curl/8"},
        client_address="192.0.2.7",
        server_address="outrider.test",
        server_port=8000,
    )
    infer(request).end(InferenceResult())
    request.end(200)

    inference, server = recorder.spans()

    assert server["attributes"] == {
        "http.request.method": "POST",
        "http.route": ROUTE,
        "url.path": ROUTE,
        "url.scheme": "https",
        "client.address": "192.0.2.7",
        "user_agent.original": "curl/8",
        "server.address": "outrider.test",
        "server.port": 8000,
        "http.response.status_code": 200,
    }
    assert (
        inference["attributes"]["server.address"],
        inference["attributes"]["server.port"],
    ) == ("outrider.test", 8000)


def test_names_do_not_grow_with_what_clients_send(recorder: Recorder) -> None:
    """A span name is a dimension: neither an unknown path nor an unknown method enters it."""
    recorder.start(route=None, path="/wp-login.php").end(404)
    recorder.start(method="BREW", route="/v1/models").end(405)

    unmatched, strange = recorder.spans()

    assert unmatched["name"] == "POST"
    assert "http.route" not in unmatched["attributes"]
    assert (strange["name"], strange["attributes"]["http.request.method"]) == ("HTTP /v1/models", "_OTHER")


def test_what_the_client_asked_for(recorder: Recorder) -> None:
    """A temperature of zero is an answer to the question, not the lack of one."""
    asked = RequestAttributes(
        max_tokens=16,
        temperature=0,
        top_p=1,
        top_k=40,
        frequency_penalty=0,
        presence_penalty=0.5,
        seed=0,
        stop_sequences=("\n\n",),
        choice_count=2,
        output_type="json",
        conversation_id="c-1",
    )
    infer(recorder.start(), stream=True, asked=asked).end(InferenceResult())

    (span,) = recorder.inferences()

    assert span["attributes"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "outrider",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 16,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.5,
        "gen_ai.request.seed": 0,
        "gen_ai.request.stop_sequences": ["\n\n"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.conversation.id": "c-1",
    }
    assert isinstance(span["attributes"]["gen_ai.request.temperature"], float)


def test_what_was_not_asked_for_is_absent(recorder: Recorder) -> None:
    """The conventions want no default values: one choice and no streaming go without saying."""
    infer(recorder.start()).end(InferenceResult())

    (span,) = recorder.inferences()

    assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"} == span["attributes"].keys()


def test_what_came_of_it(recorder: Recorder) -> None:
    """Zero tokens from the cache are a figure too."""
    result = InferenceResult(
        response_id="chatcmpl-1",
        response_model="tiny",
        finish_reasons=("stop", "length"),
        input_tokens=9,
        output_tokens=12,
        cached_tokens=0,
        reasoning_tokens=3,
        queue_seconds=0,
        prefill_seconds=0.5,
        decode_seconds=1.5,
        speculation=SpeculationFigures(
            method="ngram+eagle",
            steps=4,
            drafted_tokens=16,
            accepted_tokens=8,
            emitted_tokens=12,
            max_tokens=6,
            acceptance_histogram=(1, 0, 2, 0, 1),
        ),
        methods=(
            MethodFigures(
                method="ngram", steps=4, drafted_tokens=10, accepted_tokens=5, acceptance_histogram=(1, 1, 2)
            ),
        ),
        grammar=GrammarFigures(kind="json_schema", compile_ms=3, cache_hit=False),
    )
    infer(recorder.start()).end(result)

    (span,) = recorder.inferences()

    assert {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "tiny",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "outrider.queue.seconds": 0.0,
        "outrider.prefill.seconds": 0.5,
        "outrider.decode.seconds": 1.5,
        "outrider.spec.method": "ngram+eagle",
        "outrider.spec.steps": 4,
        "outrider.spec.drafted_tokens": 16,
        "outrider.spec.accepted_tokens": 8,
        "outrider.spec.emitted_tokens": 12,
        "outrider.spec.acceptance_rate": 0.5,
        "outrider.spec.mean_accepted_len": 3.0,
        "outrider.spec.accept_len_histogram": [1, 0, 2, 0, 1],
        "outrider.spec.k_max": 6,
        "outrider.spec.k_mean": 4.0,
        "outrider.grammar.kind": "json_schema",
        "outrider.grammar.compile_ms": 3.0,
        "outrider.grammar.cache_hit": False,
    }.items() <= span["attributes"].items()
    assert span["status"] == "UNSET"


@pytest.mark.parametrize("error_type", [None, "engine_error"])
def test_each_proposer_that_failed_leaves_an_event(recorder: Recorder, error_type: str | None) -> None:
    """With how often it did, whatever came of the request; those that did not fail leave none."""
    methods = tuple(
        MethodFigures(method=name, steps=0, drafted_tokens=0, accepted_tokens=0, dropped_drafts=dropped)
        for name, dropped in (("eagle", 3), ("ngram", 0))
    )
    inference, result = infer(recorder.start()), InferenceResult(methods=methods)
    if error_type is None:
        inference.end(result)
    else:
        inference.fail(error_type, result)

    (span,) = recorder.inferences()

    (event,) = span["events"]
    assert event["name"] == "outrider.spec.dropped"
    assert event["attributes"] == {"outrider.spec.method": "eagle", "outrider.spec.dropped_drafts": 3}


def test_a_rate_of_nothing_is_absent(recorder: Recorder) -> None:
    """A request that drafted nothing has no acceptance rate, rather than one of zero."""
    nothing = SpeculationFigures(method="off", steps=0, drafted_tokens=0, accepted_tokens=0, emitted_tokens=0)
    infer(recorder.start()).end(InferenceResult(speculation=nothing))

    (span,) = recorder.inferences()

    assert span["attributes"]["outrider.spec.drafted_tokens"] == 0
    assert {"outrider.spec.acceptance_rate", "outrider.spec.mean_accepted_len"}.isdisjoint(span["attributes"])


def test_the_first_token_is_marked_once(recorder: Recorder) -> None:
    """The time to the first chunk exists only where there are chunks."""
    for stream in (True, False):
        inference = infer(recorder.start(), stream=stream)
        inference.first_token()
        inference.first_token()
        inference.end(InferenceResult())

    streamed, whole = recorder.inferences()

    assert [event["name"] for event in streamed["events"]] == ["outrider.first_token"]
    assert [event["name"] for event in whole["events"]] == ["outrider.first_token"]
    seconds = streamed["attributes"]["gen_ai.response.time_to_first_chunk"]
    assert 0 < seconds * 1000 <= streamed["duration_ms"]
    assert "gen_ai.response.time_to_first_chunk" not in whole["attributes"]


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (200, None, ("UNSET", None)),
        (404, None, ("UNSET", None)),
        (429, "rate_limit_exceeded", ("UNSET", None)),
        (500, None, ("ERROR", "500")),
        (503, "queue_full", ("ERROR", "queue_full")),
        (200, "engine_error", ("ERROR", "engine_error")),
        (200, "client_disconnected", ("ERROR", "client_disconnected")),
        (499, "client_disconnected", ("ERROR", "client_disconnected")),
        (None, "client_disconnected", ("ERROR", "client_disconnected")),
        (None, None, ("ERROR", "_OTHER")),
    ],
)
def test_the_status_of_the_server_span(
    recorder: Recorder, status: int | None, error_type: str | None, expected: tuple[str, str | None]
) -> None:
    """A client's mistake is no error of the server; a client that left or a stream that broke off is no success."""
    recorder.start().end(status, error_type)

    (span,) = recorder.spans()

    assert expected == (span["status"], span["attributes"].get("error.type"))
    assert status == span["attributes"].get("http.response.status_code")


def test_a_failed_inference_tells_what_it_generated(recorder: Recorder) -> None:
    """A cancelled request has cost its tokens all the same."""
    request = recorder.start()
    inference = infer(request, asked=RequestAttributes(choice_count=2))
    inference.fail(
        names.CLIENT_DISCONNECTED, InferenceResult(output_tokens=7, finish_reasons=("stop",), queue_seconds=0.25)
    )
    request.end(200, names.CLIENT_DISCONNECTED)

    span, _ = recorder.spans()

    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "client_disconnected")
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error", "error"]
    assert (
        span["attributes"]["gen_ai.usage.output_tokens"],
        span["attributes"]["outrider.queue.seconds"],
    ) == (7, 0.25)


def test_a_refused_inference_is_an_error_under_an_unset_server_span(recorder: Recorder) -> None:
    """The inference did fail, even where the client is to blame."""
    request = recorder.start()
    infer(request).fail("invalid_request")
    request.end(400, "invalid_request")

    assert [span["status"] for span in recorder.spans()] == ["ERROR", "UNSET"]


def test_an_inference_left_open_ends_with_its_request(recorder: Recorder) -> None:
    """A handler that raised would otherwise leave a trace without its most telling span."""
    request = recorder.start()
    infer(request)
    request.end(500, "engine_error")

    inference, server = recorder.spans()

    assert (inference["status"], inference["attributes"]["error.type"]) == ("ERROR", "engine_error")
    assert server["span_id"] == inference["parent_id"]


def test_ending_twice_is_ending_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """A `finally` need not know what has happened before it."""
    request = recorder.start()
    inference = infer(request)
    inference.end(InferenceResult(output_tokens=1))
    inference.fail("engine_error")
    inference.first_token()
    request.end(200)
    request.end(500)
    infer(request).end(InferenceResult())

    assert [(span["name"], span["status"]) for span in recorder.spans()] == [
        ("chat tiny", "UNSET"),
        ("POST /v1/chat/completions", "UNSET"),
    ]
    assert caplog.records == []


def test_a_parent_is_taken_up_and_answered(recorder: Recorder) -> None:
    """The caller finds our spans in its own trace."""
    request = recorder.start(traceparent=PARENT, tracestate="vendor=1")
    request.end(200)

    (span,) = recorder.spans()

    assert request.traceresponse is not None
    version, trace_id, span_id, flags = request.traceresponse.split("-")
    assert ("00", PARENT[3:35], PARENT[36:52]) == (version, trace_id, span["parent_id"])
    assert (request.trace_id, span["span_id"]) == (trace_id, span_id)
    assert int(flags, 16) & 1
    assert request.is_kept


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        PARENT + "-extra",
        PARENT.replace("4bf", "xyz"),
        "00-" + "4" * 10_000,
        "\udcff",
    ],
)
def test_a_malformed_parent_is_no_parent(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, traceparent: str
) -> None:
    """The request gets a trace of its own, and the client cannot write into our log."""
    request = recorder.start(traceparent=traceparent)
    request.end(200)

    (span,) = recorder.spans()

    assert span["parent_id"] is None
    assert request.is_kept
    assert caplog.records == []


@pytest.mark.parametrize("tracestate", ["vendor=" + "x" * 10_240, ",".join(["a=1"] * 200), "=;\udcff,", "é=ü"])
def test_a_tracestate_cannot_hurt(recorder: Recorder, caplog: pytest.LogCaptureFixture, tracestate: str) -> None:
    """Its parent still counts, and nothing of it reaches the log."""
    request = recorder.start(traceparent=PARENT, tracestate=tracestate, baggage="=" * 10_240)
    request.end(200)

    (span,) = recorder.spans()

    assert PARENT[36:52] == span["parent_id"]
    assert caplog.records == []


def test_a_parent_that_is_not_sampled_silences_us(recorder: Recorder) -> None:
    """The ids go on through the logs although no span is written."""
    request = recorder.start(traceparent=PARENT[:-2] + "00")
    infer(request).end(InferenceResult())
    request.end(500)

    assert recorder.spans() == []
    assert PARENT[3:35] == request.trace_id
    assert not request.is_kept


def test_strings_of_clients_are_bounded(recorder: Recorder) -> None:
    """A path of any length is the client's, the queue's memory is ours."""
    recorder.start(path="/" + "x" * 100_000).end(404)

    (span,) = recorder.spans()

    assert len(span["attributes"]["url.path"]) == 1024


def test_off_is_off(tmp_path: Path) -> None:
    """Without a destination there is neither a span, nor a thread, nor an id."""
    threads = threading.enumerate()
    tracing = Tracing.from_environment()

    request = tracing.start_request(method="GET", route="/", path="/", scheme="http", headers={"traceparent": PARENT})
    inference = infer(request)
    inference.first_token()
    inference.end(InferenceResult())
    request.end(200)
    tracing.close()

    assert (request.trace_id, request.traceresponse, request.is_kept) == (None, None, False)
    assert threads == threading.enumerate()


def test_off_does_not_import_the_sdk() -> None:
    """A server without tracing does not pay for it at start either."""
    program = """
import sys
from outrider.telemetry.tracing import Tracing
Tracing.from_environment().close()
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "requests"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_the_standard_switch_turns_everything_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, value: str
) -> None:
    """Who also asked for a file is told why there is none."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))

    assert repr(tracing) == "Tracing(off)"
    assert [f"OTEL_SDK_DISABLED is set: no traces are written to {tmp_path / 'traces.jsonl'}"] == caplog.messages
    assert not (tmp_path / "traces.jsonl").exists()


def test_requests_after_the_end_are_not_traced(recorder: Recorder) -> None:
    """Closing is safe while the last requests are under way."""
    late = recorder.start()
    recorder.tracing.close()
    late.end(200)
    recorder.start().end(200)

    assert recorder.spans() == []
