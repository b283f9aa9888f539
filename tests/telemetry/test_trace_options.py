"""What an operator decides: which traces are kept, whose context counts, whose names are sent, what they may hold."""

import json
from pathlib import Path

import pytest

from outrider.telemetry.content import Content
from outrider.telemetry.figures import InferenceResult, RequestAttributes
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.request_trace import RequestTrace
from outrider.telemetry.tracing import Tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAID = Content(messages=(("user", "hi \ud800"),), system=("be kind",), answers=(("hello", "stop"),))


@pytest.fixture
def opened(tmp_path: Path):
    """Opens tracing into a file, and reads back what was sent."""
    path = tmp_path / "traces.jsonl"
    made: list[Tracing] = []

    def open_tracing(**options) -> Tracing:
        made.append(Tracing.from_environment(TraceOptions(trace_file=path, **options)))
        return made[-1]

    def read() -> list[dict]:
        made[-1].close()
        return [json.loads(line) for line in path.read_text().splitlines()]

    yield open_tracing, read
    made[-1].close()


def trace_one(
    tracing: Tracing,
    result: InferenceResult | None = None,
    error_type: str | None = None,
    status: int = 200,
    content: Content | None = None,
    **headers: str,
) -> RequestTrace:
    request = tracing.start_request(method="POST", route="/r", path="/r", scheme="http", headers=headers)
    inference = request.start_inference("chat")
    inference.describe(model="tiny", stream=False, request=RequestAttributes(top_k=4))
    if content is not None:
        inference.say(content)
    if error_type is None:
        inference.end(result or InferenceResult())
    else:
        inference.fail(error_type)
    assert request.is_kept is not None
    request.end(status, error_type)
    return request


def test_a_share_of_the_ordinary_is_kept_and_all_that_failed(opened) -> None:
    """By the trace id, so that the next server keeps the same; who was preempted counts as slow."""
    open_tracing, read = opened
    tracing = open_tracing(share=0.2)
    ordinary = [trace_one(tracing) for _ in range(300)]
    special = [
        trace_one(tracing, error_type="engine_error", status=500),
        trace_one(tracing, error_type="invalid_request", status=400),
        trace_one(tracing, InferenceResult(preemptions=1)),
        trace_one(tracing, status=503),
    ]
    sent = {span["trace_id"] for span in read()}

    assert {request.trace_id for request in special} <= sent
    assert 20 < len(sent) - len(special) < 120
    assert sent == {request.trace_id for request in (*ordinary, *special) if request.is_kept}
    assert all(int(trace_id[-8:], 16) / 2**32 < 0.2 for trace_id in sent - {one.trace_id for one in special})


def test_slow_requests_are_kept(opened) -> None:
    """Whatever the share."""
    open_tracing, read = opened
    tracing = open_tracing(share=0.0, slow_seconds=1e-9)
    trace_one(tracing)

    assert 2 == len(read())


def test_what_a_trusted_caller_samples_is_kept(opened) -> None:
    """Else its trace would have a hole."""
    open_tracing, read = opened
    trace_one(open_tracing(share=0.0), traceparent=PARENT)

    assert 2 == len(read())


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_caller_that_is_only_linked_cannot_decide(opened, flags: str) -> None:
    """Neither silence us nor make us keep everything; its ids are told all the same."""
    open_tracing, read = opened
    request = trace_one(open_tracing(context="link"), traceparent=PARENT[:-2] + flags, baggage="user.id=7")
    server = next(span for span in read() if span["kind"] == "SERVER")

    assert (None, [PARENT[3:52].replace("-", "/")]) == (
        server["parent_id"],
        [f"{link['trace_id']}/{link['span_id']}" for link in server["links"]],
    )
    assert request.trace_id != PARENT[3:35]
    assert "user.id" not in server["attributes"]


def test_a_caller_that_is_ignored_leaves_nothing(opened) -> None:
    """A trace of our own without a link."""
    open_tracing, read = opened
    trace_one(open_tracing(context="ignore"), traceparent=PARENT, baggage="user.id=7")
    server = next(span for span in read() if span["kind"] == "SERVER")

    assert (None, []) == (server["parent_id"], server["links"])


def test_baggage_is_recorded_by_its_name(opened) -> None:
    """The allowed keys alone."""
    open_tracing, read = opened
    trace_one(open_tracing(), traceparent=PARENT, baggage="session.id=s1,user.id=u1,secret=x")
    attributes = next(span for span in read() if span["kind"] == "SERVER")["attributes"]

    assert ("s1", "u1") == (attributes["session.id"], attributes["user.id"])
    assert "x" not in attributes.values()


@pytest.mark.parametrize("profile", ["v1.41", "latest", "both"])
def test_the_profile_says_whose_names_are_sent(opened, profile: str) -> None:
    """Tokens that went into the cache have two names."""
    open_tracing, read = opened
    trace_one(open_tracing(profile=profile), InferenceResult(cache_writes=3))
    sent = {name for span in read() for name in span["attributes"] if name.startswith("gen_ai.usage.cache_")}
    old, new = "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"

    assert {"v1.41": {old}, "latest": {new}, "both": {old, new}}[profile] == sent


def test_the_standard_variable_asks_for_the_latest_names(opened, monkeypatch) -> None:
    """Beside others in its list."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    open_tracing, read = opened
    trace_one(open_tracing(), InferenceResult(cache_writes=3))

    assert any("gen_ai.usage.cache_write.input_tokens" in span["attributes"] for span in read())


@pytest.mark.parametrize(
    ("value", "is_told"),
    [("", False), ("NO_CONTENT", False), ("true", True), ("SPAN_ONLY", True), ("EVENT_ONLY", False)],
)
def test_texts_are_told_only_where_asked_for(opened, monkeypatch, value: str, is_told: bool) -> None:
    """As JSON, which backends read; whatever the client wrote can be encoded."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    open_tracing, read = opened
    trace_one(open_tracing(), content=SAID)
    attributes = next(span for span in read() if span["name"] == "chat tiny")["attributes"]

    assert is_told == ("gen_ai.input.messages" in attributes)
    if is_told:
        assert [{"role": "user", "parts": [{"type": "text", "content": "hi ?"}]}] == json.loads(
            attributes["gen_ai.input.messages"]
        )
        assert "stop" == json.loads(attributes["gen_ai.output.messages"])[0]["finish_reason"]
        assert "be kind" in attributes["gen_ai.system_instructions"]


def test_an_unknown_value_tells_nothing_and_is_named(opened, monkeypatch, caplog) -> None:
    """Once, and never fatal."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "everything")
    open_tracing, _ = opened

    assert not open_tracing().captures_content
    assert ["no content is recorded"] == [message.rpartition(": ")[2] for message in caplog.messages]


def test_the_event_of_the_details_is_a_log(collector, monkeypatch) -> None:
    """In the context of the inference span, with structured texts."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    tracing = Tracing.from_environment()
    trace_one(tracing, content=SAID)
    tracing.close()
    (record,) = collector.logs[0].resource_logs[0].scope_logs[0].log_records
    inference = next(span for span in collector.spans if span.name == "chat tiny")
    told = {attribute.key: attribute.value for attribute in record.attributes}

    assert "gen_ai.client.inference.operation.details" == record.event_name
    assert (inference.trace_id, inference.span_id) == (record.trace_id, record.span_id)
    assert "tiny" == told["gen_ai.request.model"].string_value
    assert "array_value" == told["gen_ai.input.messages"].WhichOneof("value")
    assert "gen_ai.input.messages" not in collector.attributes(inference)


@pytest.mark.parametrize(
    ("option", "value"), [("share", 2.0), ("slow_seconds", 0.0), ("recent", -1), ("context", "x"), ("profile", "x")]
)
def test_a_wrong_option_is_named(option: str, value) -> None:
    """Before the server starts."""
    with pytest.raises(ValueError, match="must"):
        TraceOptions(**{option: value})
