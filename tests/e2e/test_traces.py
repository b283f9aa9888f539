"""The trace of a request, from the file that needs no backend."""

import asyncio
import json
import urllib.request


async def spans_of(trace_file, trace_id: str, count: int) -> list[dict]:
    """Reads the file until the trace is whole; the exporter writes within a fraction of a second."""
    async with asyncio.timeout(20):
        while True:
            lines = trace_file.read_text().splitlines() if trace_file.exists() else []
            spans = [span for span in map(json.loads, lines) if span["trace_id"] == trace_id]
            if len(spans) >= count:
                return spans
            await asyncio.sleep(0.05)


async def test_a_request_leaves_a_server_span_and_one_inference_span(server, trace_file) -> None:
    """As children of the caller's own span, with the tokens, the speculation and the grammar told."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    body = {
        "model": "outrider-demo",
        "messages": [{"role": "user", "content": "1 2 3 1 2 3"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "speculation": "grammar",
        "temperature": 0,
        "max_tokens": 40,
    }
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        answer, traceresponse = json.load(response), response.headers["traceresponse"]

    spans = await spans_of(trace_file, trace_id, 7)

    http = next(span for span in spans if span["name"] == "POST /v1/chat/completions")
    inference = next(span for span in spans if span["name"] == "chat outrider-demo")
    assert f"00-{trace_id}-{http['span_id']}" == traceresponse.rpartition("-")[0]
    assert ("00f067aa0ba902b7", http["span_id"]) == (http["parent_id"], inference["parent_id"])
    attributes = inference["attributes"]
    assert answer["usage"]["completion_tokens"] == attributes["gen_ai.usage.output_tokens"]
    assert [answer["choices"][0]["finish_reason"]] == attributes["gen_ai.response.finish_reasons"]
    assert 0 == attributes["gen_ai.request.temperature"]
    assert "json_schema" == attributes["outrider.grammar.kind"]
    assert 8 == attributes["outrider.spec.k_max"]
    decode = next(span for span in spans if span["name"] == "outrider.decode")["attributes"]
    assert decode["outrider.spec.grammar.steps"] == attributes["outrider.spec.steps"] > 0
    assert decode["outrider.spec.grammar.accept_len_histogram"] == attributes["outrider.spec.accept_len_histogram"]
    assert not any(name.startswith("gen_ai.") for name in http["attributes"])
    phases = sorted((span["start"], span["name"]) for span in spans if span["parent_id"] == inference["span_id"])
    assert ["admission", "grammar.compile", "queue", "prefill", "decode"] == [
        name.removeprefix("outrider.") for _, name in phases
    ]


async def test_a_refused_request_is_traced_too(server, trace_file) -> None:
    """The server span stays unset on a 4xx."""
    trace_id = "5bf92f3577b34da6a3ce929d0e0e4737"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", b"{}", headers)
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        with error:
            assert 400 == error.status

    span = next(span for span in await spans_of(trace_file, trace_id, 3) if span["kind"] == "SERVER")

    assert (400, "UNSET") == (span["attributes"]["http.response.status_code"], span["status"])
