"""A whole run: report, result file, one clear line when there is nothing to measure."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from outrider.cli.main import app
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.run import Outcome, run_loadtest
from outrider.loadtest.weights import parse_weighted

from .simulated_server import Script, SimulatedServer

SPECULATION = {"num_draft_tokens": 8, "num_accepted_draft_tokens": 6, "num_spec_steps": 3}


async def run(server: SimulatedServer, folder: Path, **options: object) -> Outcome:
    config = LoadtestConfig(base_url=server.url + "/", result_dir=folder, random_input_len=4, **options)
    outcome = await asyncio.to_thread(run_loadtest, config, api_key=None, on_record=lambda _: None)
    outcome.save()
    return outcome


def saved(folder: Path) -> dict[str, object]:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


async def test_the_result_has_the_keys_of_vllm(tmp_path: Path) -> None:
    """Scripts that read the files of `vllm bench serve` read ours."""
    async with SimulatedServer([Script(speculation=SPECULATION)], models=["org/simulated"]).running() as server:
        outcome = await run(server, tmp_path, num_prompts=6, max_concurrency=2, metric_percentiles=(50, 99.9))
    result = saved(tmp_path)
    latency_keys = {
        f"{statistic}_{name}_ms"
        for statistic in ("mean", "median", "std", "p50", "p99", "p99.9")
        for name in ("ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue")
    }
    expected = {
        "backend": "openai-chat",
        "model_id": "org/simulated",
        "num_prompts": 6,
        "request_rate": "inf",
        "max_concurrency": 2,
        "completed": 6,
        "failed": 0,
        "total_input_tokens": 42,
        "total_output_tokens": 12,
        "max_concurrent_requests": 2,
        "spec_decode_acceptance_rate": 75.0,
        "spec_decode_acceptance_length": 3.0,
        "spec_decode_num_drafts": 18,
        "spec_decode_draft_tokens": 48,
        "spec_decode_accepted_tokens": 36,
        "partial": False,
    }

    assert expected == {key: result[key] for key in expected}
    assert latency_keys <= result.keys()
    assert result["request_throughput"] == pytest.approx(6 / result["duration"])
    assert result["output_throughput"] == pytest.approx(12 / result["duration"])
    assert outcome.path == tmp_path / f"openai-chat-infqps-concurrency2-simulated-{result['date']}.json"


async def test_the_report_speaks_as_vllm_does(tmp_path: Path) -> None:
    """A reader of `vllm bench serve` finds every line where it was."""
    async with SimulatedServer([Script(speculation=SPECULATION)]).running() as server:
        report = (await run(server, tmp_path, num_prompts=4, max_concurrency=2)).report
    # For some milliseconds the client and the server, which are one process here, may well use a whole core.
    lines = [line for line in report.splitlines() if not line.startswith("INVALID")]
    labels = [line.split(":")[0] for line in lines]

    assert lines[0] == "============ Serving Benchmark Result ============"
    assert lines[1].split() == ["Successful", "requests:", "4"]
    for line in (
        "---------------Time to First Token----------------",
        "-----Time per Output Token (excl. 1st token)------",
        "---------------Inter-token Latency----------------",
        "----------------End-to-end Latency----------------",
        "---------------Speculative Decoding---------------",
    ):
        assert line in lines
    for label in ("Request throughput (req/s)", "Output token throughput (tok/s)", "Mean TTFT (ms)", "P99 E2EL (ms)"):
        assert label in labels


async def test_failures_print_as_infinite(tmp_path: Path) -> None:
    """Half of the requests were refused, so P90 is infinite, in the file as text: JSON has no infinity."""
    async with SimulatedServer([Script(), Script(status=429)]).running() as server:
        outcome = await run(server, tmp_path, num_prompts=8, max_concurrency=1)
    result = saved(tmp_path)

    assert "P90 E2EL incl. Client Queue (ms):        inf" in outcome.report
    assert ("inf", 4, 4) == (result["p90_e2el_including_client_queue_ms"], result["completed"], result["failed"])
    assert result["failures"]["rate_limited"] == 4
    assert isinstance(result["p90_e2el_ms"], float)


async def test_what_was_not_observed_is_null(tmp_path: Path) -> None:
    """Answers of one token have no time per further token."""
    async with SimulatedServer([Script(chunks=[(0.0, 1)])]).running() as server:
        outcome = await run(server, tmp_path, num_prompts=2)

    assert saved(tmp_path)["mean_tpot_ms"] is None
    assert "Mean TPOT (ms):                          n/a" in outcome.report


async def test_warm_ups_are_sent_and_not_measured(tmp_path: Path) -> None:
    """They come before the measured requests."""
    async with SimulatedServer().running() as server:
        await run(server, tmp_path, num_prompts=4, num_warmups=3, max_concurrency=2)

    assert (7, 4) == (len(server.requests), saved(tmp_path)["completed"])


async def test_the_requests_name_model_and_speculation(tmp_path: Path) -> None:
    """What the command line says is what the server sees."""
    async with SimulatedServer(models=["a", "b"]).running() as server:
        await run(
            server,
            tmp_path,
            num_prompts=1,
            model="b",
            speculation=parse_weighted("--speculation", "ngram"),
            extra_body={"top_k": 3},
        )

    assert ("b", "ngram", 3) == tuple(server.requests[0][name] for name in ("model", "speculation", "top_k"))


async def command(*arguments: str, api_key: str = "", until: Awaitable[None] | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and error; interrupted, as by Ctrl-C, once `until` returns."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "outrider.cli", "loadtest", *arguments),
        env={**os.environ, "OPENAI_API_KEY": api_key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        if until is not None:
            await until
            process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_an_interrupt_saves_what_there_is(tmp_path: Path) -> None:
    """Three answers came, the others never would."""
    scripts = [*[Script()] * 3, *[Script(chunks=[(3600, 1)])] * 5]
    async with SimulatedServer(scripts).running() as server:
        arguments = (
            "--base-url",
            server.url,
            "--num-prompts",
            "8",
            "--max-concurrency",
            "2",
            "--result-dir",
            str(tmp_path),
        )
        status, output, errors = await command(*arguments, until=server.has_received(5))
    result = saved(tmp_path)

    assert (130, "") == (status, errors)
    assert "Unfinished requests:                     2" in output
    assert (True, 3, 0, 2) == tuple(result[key] for key in ("partial", "completed", "failed", "unfinished"))


async def test_the_command_prints_the_report_and_the_place_of_the_result(tmp_path: Path) -> None:
    """Without a terminal there is no progress bar."""
    async with SimulatedServer(api_key="secret").running() as server:
        arguments = (
            "--base-url",
            server.url,
            "--num-prompts",
            "4",
            "--result-dir",
            str(tmp_path),
            "--result-filename",
            "r",
        )
        status, output, errors = await command(*arguments, api_key="secret")

    assert (0, "") == (status, errors)
    assert "Serving Benchmark Result" in output
    assert output.endswith(f"Result: {tmp_path / 'r'}\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "absent"], "does not serve the model 'absent': set --model to one of simulated"),
        (["--extra-body", "[]"], "give a JSON object"),
        (["--metric-percentiles", "fifty"], "give numbers"),
        (["--num-prompts", "2"], "no request succeeded: 503: refused by script"),
        (["--num-warmups", "1"], "no warm-up request succeeded: 503: refused by script"),
    ],
)
async def test_a_run_without_a_result_ends_with_one_line(arguments: list[str], expected: str) -> None:
    """The line names what to change, and the exit status is not zero."""
    async with SimulatedServer([Script(status=503)]).running() as server:
        given = ["loadtest", "--base-url", server.url, "--no-save-result", *arguments]
        ran = await asyncio.to_thread(CliRunner().invoke, app, given)
    errors = ran.stderr

    assert ran.exit_code == 1
    assert errors.startswith("outrider loadtest: ")
    assert errors.count("\n") == 1
    assert expected in errors


async def test_a_key_that_the_server_does_not_know_ends_with_one_line() -> None:
    """The remedy is the environment variable."""
    async with SimulatedServer(api_key="secret").running() as server:
        given = ["loadtest", "--base-url", server.url]
        ran = await asyncio.to_thread(CliRunner().invoke, app, given, env={"OPENAI_API_KEY": "wrong"})

    assert (1, "") == (ran.exit_code, ran.stdout)
    assert ran.stderr == f"outrider loadtest: {server.url} refuses access (401): set OPENAI_API_KEY to a key it knows\n"


async def test_an_absent_server_ends_with_one_line() -> None:
    """Nothing listens where a server was a moment ago."""
    async with SimulatedServer().running() as server:
        pass
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["loadtest", "--base-url", server.url])

    assert (1, "", 1) == (ran.exit_code, ran.stdout, ran.stderr.count("\n"))
    assert ran.stderr.startswith(f"outrider loadtest: no server at {server.url} (")
