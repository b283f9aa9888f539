"""The trace of a request that came over HTTP: what each phase says, and what each way to fail says."""

import asyncio
import json

import aiohttp
import pytest
from scripted_gateway import answer, figures, scripted_gateway, send

from outrider.engine.protocol import FinishReason, TokenDelta
from outrider.gateway.config import GatewayConfig
from outrider.structured.errors import StructuredError, WorkerError
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.tracing import Tracing

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}


def body(**changes) -> dict:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **changes}


async def spans_of(url: str, session: aiohttp.ClientSession, count: int = 1) -> list[dict]:
    """Of the newest request, from GET /traces; a disconnect is noticed a moment after it happened."""
    async with asyncio.timeout(5):
        while True:
            async with session.get(f"{url}/traces") as response:
                traces = (await response.json())["traces"]
            if len(traces) >= count:
                return traces[0]["spans"]
            await asyncio.sleep(0.01)


def of(spans: list[dict], name: str) -> dict:
    (found,) = [span for span in spans if span["name"] == name]
    return found


async def test_every_phase_is_a_span(tmp_path) -> None:
    """With the figures that the engine told, in the order in which they happened."""
    async with (
        scripted_gateway(tmp_path, Tracing(TraceOptions(recent=9))) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        asked = body(response_format=SCHEMA, speculation="ngram", stream=True)
        async with session.post(url + CHAT, json=asked) as response:
            await response.read()
        spans = await spans_of(url, session)

    server, inference = of(spans, f"POST {CHAT}"), of(spans, "chat tiny")
    assert [
        *(f"POST {CHAT}", "chat tiny", "outrider.admission", "outrider.grammar.compile"),
        *("outrider.queue", "outrider.prefill", "outrider.queue", "outrider.decode"),
    ] == [span["name"] for span in sorted(spans, key=lambda span: (span["start_ms"], -span["duration_ms"]))]
    assert {server["span_id"]: 1, inference["span_id"]: 6} == {
        parent: sum(span["parent_id"] == parent for span in spans)
        for parent in (server["span_id"], inference["span_id"])
    }
    arrival, preempted = [span["attributes"] for span in spans if span["name"] == "outrider.queue"]
    assert {"outrider.queue.reason": "arrival", "outrider.queue.depth_at_enqueue": 3} == arrival
    assert {"outrider.queue.reason": "preempted"} == preempted
    assert "admitted" == of(spans, "outrider.admission")["attributes"]["outrider.admission.decision"]
    assert "json_schema" == of(spans, "outrider.grammar.compile")["attributes"]["outrider.grammar.kind"]
    prefill = of(spans, "outrider.prefill")["attributes"]
    assert (16, 2) == (prefill["outrider.prefill.cached_tokens"], prefill["outrider.prefill.chunks"])
    decode = of(spans, "outrider.decode")
    assert {
        "outrider.decode.tokens": 3,
        "outrider.decode.steps": 3,
        "outrider.decode.itl_ms_p50": 1.0,
        "outrider.decode.itl_ms_p99": 2.0,
        "outrider.decode.itl_ms_max": 3.0,
        "outrider.spec.ngram.accepted_tokens": 3,
        "outrider.grammar.kind": "json_schema",
    }.items() <= decode["attributes"].items()
    assert inference["attributes"]["gen_ai.usage.cache_creation.input_tokens"] == 32
    assert all("gen_ai.request.model" not in span["attributes"] for span in spans if span is not inference)
    end = inference["start_ms"] + inference["duration_ms"] + 1e-6
    assert all(inference["start_ms"] <= s["start_ms"] <= s["start_ms"] + s["duration_ms"] <= end for s in spans[1:])


async def test_each_answer_decodes_in_a_span_of_its_own(tmp_path) -> None:
    """They share one prefill."""
    async with (
        scripted_gateway(tmp_path, Tracing(TraceOptions(recent=9))) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        async with session.post(url + CHAT, json=body(n=2)) as response:
            await response.read()
        spans = await spans_of(url, session)

    decodes = [span for span in spans if span["name"] == "outrider.decode"]
    assert {0, 1} == {span["attributes"]["outrider.choice.index"] for span in decodes}
    of(spans, "outrider.prefill")


async def refuse_engine(websocket, submit) -> None:
    await send(websocket, TokenDelta(submit.request_id, [], finish_reason=FinishReason.ERROR, error="it broke"))


async def break_in_the_middle(websocket, submit) -> None:
    await begin(websocket, submit)
    await refuse_engine(websocket, submit)


async def die(websocket, submit) -> None:
    await websocket.close()


async def say_nothing(websocket, submit) -> None:
    pass


async def begin(websocket, submit) -> None:
    start = figures(token_gaps=None, decode_seconds=0.0, waits=[(0.0, 1e-5)])
    await send(websocket, TokenDelta(submit.request_id, [20], figures=start))


# name: what is asked, the engine, the gateway's settings, the compiler's problem
WAYS = {
    "rate limited": (body(), answer, GatewayConfig(requests_per_minute=1), None),
    "not json": (b"{", answer, None, None),
    "unknown field": (body(x=1), answer, None, None),
    "too large": (b"x" * 2000, answer, GatewayConfig(max_body_bytes=1000), None),
    "unknown model": (body(model="no"), answer, None, None),
    "too long": (body(max_tokens=9999), answer, None, None),
    "bad grammar": (body(response_format=SCHEMA), answer, None, StructuredError("no")),
    "no compiler": (body(response_format=SCHEMA), answer, None, WorkerError("gone")),
    "a bug": (body(response_format=SCHEMA), answer, None, KeyError("x")),
    "engine refuses": (body(), refuse_engine, None, None),
    "engine breaks": (body(), break_in_the_middle, None, None),
    "stream breaks": (body(stream=True), break_in_the_middle, None, None),
    "engine dies": (body(), die, None, None),
    "deadline": (body(max_time=1), answer, None, None),
    "wrong key": (body(), answer, GatewayConfig(api_key="k"), None),
    "unknown path": (None, answer, None, None),
}
# HTTP status, the server span's status and error.type, the inference span's error.type ("": it went well, None: there
# is no such span)
EXPECTED = {
    "rate limited": (429, "UNSET", None, "rate_limit_exceeded"),
    "not json": (400, "UNSET", None, "invalid_request"),
    "unknown field": (400, "UNSET", None, "invalid_request"),
    "too large": (413, "UNSET", None, "invalid_request"),
    "unknown model": (404, "UNSET", None, "model_not_found"),
    "too long": (400, "UNSET", None, "context_length_exceeded"),
    "bad grammar": (400, "UNSET", None, "grammar_compile_failed"),
    "no compiler": (503, "ERROR", "engine_error", "engine_error"),
    "a bug": (500, "ERROR", "_OTHER", "_OTHER"),
    "engine refuses": (500, "ERROR", "engine_error", "engine_error"),
    "engine breaks": (500, "ERROR", "engine_error", "engine_error"),
    "stream breaks": (200, "ERROR", "engine_error", "engine_error"),
    "engine dies": (503, "ERROR", "engine_error", "engine_error"),
    "deadline": (200, "UNSET", None, ""),
    "wrong key": (401, "UNSET", None, None),
    "unknown path": (404, "UNSET", None, None),
}


@pytest.mark.parametrize("name", WAYS)
async def test_every_way_to_fail_says_so(tmp_path, name: str, caplog) -> None:
    """The server span is an error on a 5xx and on a broken stream alone; the inference failed in any case."""
    asked, script, config, problem = WAYS[name]
    status, server_status, server_error, inference_error = EXPECTED[name]
    file = tmp_path / "traces.jsonl"
    tracing = Tracing.from_environment(TraceOptions(trace_file=file))
    path = CHAT if asked is not None else "/nothing"
    async with (
        scripted_gateway(tmp_path, tracing, script, config, problem) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        for _ in range(2 if name == "rate limited" else 1):
            data = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
            async with session.post(url + path, data=data) as response:
                await response.read()
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    server = spans[-1]
    inferences = [span for span in spans if span["name"].startswith("chat")][-1:]

    assert (status, status) == (response.status, server["attributes"]["http.response.status_code"])
    assert (server_status, server_error) == (server["status"], server["attributes"].get("error.type"))
    assert (inference_error is not None) == bool(inferences)
    for span in inferences:
        expected = ("ERROR", inference_error) if inference_error else ("UNSET", None)
        assert expected == (span["status"], span["attributes"].get("error.type"))
        assert "outrider.admission" in {one["name"] for one in spans if one["parent_id"] == span["span_id"]}


@pytest.mark.parametrize(
    ("script", "stream", "phases"),
    [
        (say_nothing, False, ["outrider.admission", "outrider.queue"]),
        (
            begin,
            True,
            ["outrider.admission", "outrider.queue", "outrider.prefill", "outrider.decode"],
        ),
    ],
    ids=["before its first token", "in the middle"],
)
async def test_a_client_that_left_leaves_what_there_was(tmp_path, script, stream, phases) -> None:
    """As an error of both spans, with the tokens that were generated and the phases as far as they are known."""
    async with scripted_gateway(tmp_path, Tracing(TraceOptions(recent=9)), script) as (url, gateway):
        has_begun = asyncio.Event()
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_ask(session, url + CHAT, body(stream=stream), has_begun))
            await _until(lambda: has_begun.is_set() if stream else bool(gateway.engine._running))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with aiohttp.ClientSession() as session:
            spans = await spans_of(url, session)

    server, inference = of(spans, f"POST {CHAT}"), of(spans, "chat tiny")
    assert [("ERROR", "client_disconnected")] * 2 == [
        (span["status"], span["attributes"]["error.type"]) for span in (server, inference)
    ]
    assert ["error"] == inference["attributes"]["gen_ai.response.finish_reasons"]
    assert int(stream) == inference["attributes"]["gen_ai.usage.output_tokens"]
    assert phases == [span["name"] for span in spans if span["parent_id"] == inference["span_id"]]


async def _ask(session: aiohttp.ClientSession, url: str, asked: dict, has_begun: asyncio.Event) -> None:
    async with session.post(url, json=asked) as response:
        await response.content.readline()
        has_begun.set()
        await response.read()


async def _until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
