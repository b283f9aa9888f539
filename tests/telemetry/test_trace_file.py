"""The lines of a trace file."""

import json
import re
from pathlib import Path

import pytest

from outrider.telemetry.figures import InferenceResult, RequestAttributes
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.tracing import Tracing


def trace_one(tracing: Tracing, stop: str = "END") -> None:
    request = tracing.start_request(method="POST", route="/r", path="/r", scheme="http", headers={})
    asked = RequestAttributes(stop_sequences=(stop,))
    inference = request.start_inference("chat")
    inference.describe(model="tiny", stream=True, request=asked)
    inference.first_token()
    inference.end(InferenceResult(finish_reasons=("stop",)))
    request.end(200)


def test_the_shape_of_a_line(tmp_path: Path) -> None:
    """Other tools read it: a member may be added, none may change."""
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
    trace_one(tracing)
    tracing.close()
    span, server = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]

    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert [
        *("trace_id", "span_id", "parent_id", "name", "kind", "start", "duration_ms", "status"),
        *("attributes", "events", "links", "resource"),
    ] == list(span)
    assert re.fullmatch(r"[0-9a-f]{32}", span["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", span["span_id"])
    assert (server["span_id"], None) == (span["parent_id"], server["parent_id"])
    assert (span["name"], span["kind"], span["status"]) == ("chat tiny", "INTERNAL", "UNSET")
    assert re.fullmatch(moment, span["start"])
    assert 0 < span["duration_ms"] < 1000
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert [{name: value for name, value in event.items() if name != "time"} for event in span["events"]] == [
        {"name": "outrider.first_token", "attributes": {}}
    ]
    assert re.fullmatch(moment, span["events"][0]["time"])
    assert span["resource"]["service.name"] == "outrider"


def test_a_file_is_added_to(tmp_path: Path) -> None:
    """A restart keeps what the last run wrote."""
    for _ in range(2):
        tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
        trace_one(tracing)
        tracing.close()

    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 4


def test_any_text_is_valid_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line breaks, other scripts and lone surrogates stay inside their line."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "site=\udcff")
    tracing = Tracing.from_environment(TraceOptions(trace_file=tmp_path / "traces.jsonl"))
    trace_one(tracing, stop='"\n\u2028 zażółć 👍')
    trace_one(tracing, stop="\ud800")
    tracing.close()
    lines = (tmp_path / "traces.jsonl").read_text(encoding="utf-8").split("\n")

    assert json.loads(lines[0])["attributes"]["gen_ai.request.stop_sequences"] == ['"\n\u2028 zażółć 👍']
    assert len([json.loads(line) for line in lines if line]) == 4


@pytest.mark.parametrize("bad", ["missing/traces.jsonl", ".", "full"])
def test_a_bad_disk_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str) -> None:
    """Serving goes on without the file, and so it does when the disk is full."""
    path = Path("/dev/full") if bad == "full" else tmp_path / bad
    tracing = Tracing.from_environment(TraceOptions(trace_file=path))
    trace_one(tracing)
    tracing.close()

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"cannot write traces to {path}: ")


def test_a_file_that_was_rotated_is_made_again(tmp_path: Path) -> None:
    """No signal is needed after a rename."""
    path = tmp_path / "traces.jsonl"
    tracing = Tracing.from_environment(TraceOptions(trace_file=path))
    path.rename(tmp_path / "traces.1.jsonl")
    trace_one(tracing)
    tracing.close()

    assert len(path.read_text().splitlines()) == 2
