"""What a real backend, Arize Phoenix, makes of our traces. Runs where OUTRIDER_PHOENIX names a Python that has it:
`make phoenix`."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server

PYTHON = os.environ.get("OUTRIDER_PHOENIX", "")
START_SECONDS, ARRIVE_SECONDS = 120, 60
MODEL = "outrider-demo"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}

pytestmark = pytest.mark.skipif(not PYTHON, reason="Phoenix is not installed: `make phoenix` installs and runs it")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory) -> Iterator[str]:
    """Its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("phoenix")
    settings = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_ENABLE_PROMETHEUS": "false",
        "PHOENIX_AGENTS_DISABLE_WEB_ACCESS": "true",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "phoenix.server.main", "serve"],
            env={**os.environ, **settings},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(url, process)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "Phoenix ended"
        try:
            urllib.request.urlopen(f"{url}/healthz").close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("Phoenix does not answer")


class Caller:
    """Sends each request as the child of a span of its own, and knows the traces by name."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.traces: dict[str, str] = {}

    def ask(self, name: str, body: dict | bytes, *, leave: bool = False) -> int:
        trace_id = f"{len(self.traces) + 1:032x}"
        self.traces[name] = trace_id
        data = body if isinstance(body, bytes) else json.dumps({"model": MODEL, "temperature": 0, **body}).encode()
        headers = {"Content-Type": "application/json", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        request = urllib.request.Request(f"{self._url}/v1/chat/completions", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                response.readline() if leave else response.read()
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def say(text: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 32, **more}


@pytest.fixture(scope="module")
def told(phoenix: str) -> dict[str, list[dict]]:
    """The spans that Phoenix has of each request, once all have arrived."""
    server = Server(
        *("--threads", "1", "--requests-per-minute", "12"),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": phoenix, "OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_METRICS_EXPORTER": "none"},
    )
    caller = Caller(server.url)
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    try:
        caller.ask("plain", say("hello"))
        caller.ask("streamed", say("hello", stream=True))
        caller.ask("constrained", say("The a is 5.", response_format=response_format))
        caller.ask("speculated", say("1 2 3 4 1 2 3 4 1 2 3 4", speculation="ngram"))
        caller.ask(
            "failing",
            say("x", response_format={**response_format, "json_schema": {"name": "x", "schema": {"type": "no"}}}),
        )
        caller.ask("disconnected", say("tell me", stream=True, max_tokens=2000, ignore_eos=True), leave=True)
        for _ in range(20):
            if caller.ask("rate limited", b"{") == 429:
                break
    finally:
        server.stop(signal.SIGTERM)
    return {name: _spans(phoenix, trace_id) for name, trace_id in caller.traces.items()}


def _spans(phoenix: str, trace_id: str) -> list[dict]:
    """Of one trace, once its root is there; Phoenix takes spans in after it has answered."""
    url = f"{phoenix}/v1/projects/default/spans?limit=100&trace_id={trace_id}"
    deadline = time.monotonic() + ARRIVE_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url) as response:
                spans = json.load(response)["data"]
        except urllib.error.HTTPError as error:
            error.close()
            spans = []
        if any(span["name"].startswith("POST") for span in spans):
            return spans
        time.sleep(0.3)
    raise AssertionError(f"Phoenix has no trace {trace_id}")


def of(spans: list[dict], name: str) -> dict:
    (found,) = [span for span in spans if span["name"] == name]
    return found


PHASES = {"outrider.admission", "outrider.queue", "outrider.prefill", "outrider.decode"}


@pytest.mark.parametrize("name", ["plain", "streamed", "constrained", "speculated"])
def test_the_tree_is_whole(told: dict[str, list[dict]], name: str) -> None:
    """The caller's span above the server's, that above the inference, that above the phases."""
    spans = told[name]
    server, inference = of(spans, "POST /v1/chat/completions"), of(spans, f"chat {MODEL}")

    assert "00f067aa0ba902b7" == server["parent_id"]
    assert server["context"]["span_id"] == inference["parent_id"]
    extra = {"outrider.grammar.compile"} if name == "constrained" else set()
    below = {span["name"] for span in spans if span["parent_id"] == inference["context"]["span_id"]}
    assert PHASES | extra == below


def test_phoenix_reads_tokens_model_and_finish_reasons(told: dict[str, list[dict]]) -> None:
    """By the conventions' names alone, with the cached tokens."""
    span = of(told["plain"], f"chat {MODEL}")
    attributes = span["attributes"]

    assert "LLM" == span["span_kind"]
    assert MODEL == attributes["llm.model_name"]
    assert attributes["llm.token_count.prompt"] > 0 < attributes["llm.token_count.completion"]
    assert attributes["gen_ai.response.finish_reasons"][0] in {"stop", "length"}


def test_the_figures_of_speculation_arrive(told: dict[str, list[dict]]) -> None:
    """Of the method that was asked for."""
    decode = of(told["speculated"], "outrider.decode")["attributes"]

    assert decode["outrider.spec.ngram.steps"] > 0


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("rate limited", "rate_limit_exceeded"),
        ("failing", "grammar_compile_failed"),
        ("disconnected", "client_disconnected"),
    ],
)
def test_errors_are_errors(told: dict[str, list[dict]], name: str, error_type: str) -> None:
    """With their type; a client that left has cost tokens all the same."""
    inference = next(span for span in told[name] if span["name"].startswith("chat"))

    assert ("ERROR", error_type) == (inference["status_code"], inference["attributes"]["error.type"])
    if name == "disconnected":
        assert inference["attributes"]["gen_ai.usage.output_tokens"] > 0


def test_a_picture_of_a_trace(phoenix: str, told: dict[str, list[dict]]) -> None:
    """Into the file that OUTRIDER_PICTURE names, by chromium."""
    picture = os.environ.get("OUTRIDER_PICTURE")
    if not picture:
        pytest.skip("OUTRIDER_PICTURE names no file")
    query = json.dumps({"query": "{projects{edges{node{id name}}}}"}).encode()
    request = urllib.request.Request(f"{phoenix}/graphql", query, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        projects = [edge["node"] for edge in json.load(response)["data"]["projects"]["edges"]]
    project = next(project["id"] for project in projects if project["name"] == "default")
    trace_id = told["constrained"][0]["context"]["trace_id"]
    subprocess.run(
        [
            *(
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ),
            *(
                "--window-size=1500,950",
                "--force-prefers-reduced-motion",
                "--virtual-time-budget=60000",
                f"--screenshot={picture}",
            ),
            f"{phoenix}/projects/{project}/traces/{trace_id}",
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )

    assert Path(picture).stat().st_size > 10_000
