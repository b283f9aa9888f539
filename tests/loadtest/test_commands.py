"""`outrider loadtest` and its sub-commands as a user runs them, in this process."""

import asyncio
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from outrider.cli.main import app
from outrider.loadtest.comparison import DetailedResult, compare
from outrider.loadtest.scrape import gauges, parse_metrics

from .simulated_server import Script, SimulatedServer

SPECULATION = {
    "num_draft_tokens": 8,
    "num_accepted_draft_tokens": 5,
    "num_spec_steps": 4,
    "acceptance_histogram": [1, 1, 2],
}
METRICS = 'a 1\noutrider_requests_running 3\noutrider_kv_blocks{engine="0"} 8\noutrider_kv_blocks_used{engine="0"} 2\n'


async def loadtest(*arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["loadtest", *map(str, arguments)])


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


async def test_one_run_writes_every_report(tmp_path: Path) -> None:
    """Console, JSON with a figure for each request, CSV and a page; the server's own figures beside ours."""
    script = Script(chunks=[(0.01, 1), (0.01, 3)], speculation=SPECULATION)
    async with SimulatedServer([script] * 3 + [Script(status=429)], metrics=METRICS).running() as server:
        ran = await loadtest(
            *("--base-url", server.url, "--num-prompts", 8, "--max-concurrency", 1, "--result-dir", tmp_path),
            *("--save-detailed", "--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html"),
            *("--goodput", "ttft:10000,e2el:20000", "--speculation", "ngram,off", "--metadata", "branch=main"),
        )
    (result,) = results(tmp_path)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))

    assert ran.exit_code == 0, ran.output
    assert (6, 2, 0.75, "main") == (result["completed"], result["failed"], result["attainment"], result["branch"])
    assert result["spec_decode_per_position_acceptance_rates"] == [0.75, 0.5]
    assert result["server_metrics"][0]["running"] == 3.0
    assert [len(result[name]) for name in ("ttfts", "itls", "errors", "due_times", "output_lens")] == [8] * 5
    assert ["", "rate_limited"] == [rows[index]["failure"] for index in (2, 3)]
    assert {"ngram", "off"} == {row["speculation"] for row in rows}
    assert "Acceptance by position" in (tmp_path / "a.html").read_text()
    for text in (
        "Goodput attainment (%):                  75.00",
        "By Speculation",
        "KV cache used (%):",
        "rate_limited",
    ):
        assert text in ran.output


async def test_several_processes_are_one_run(tmp_path: Path) -> None:
    """Each takes its share of the requests and of the users."""
    async with SimulatedServer([Script(chunks=[(0.05, 1)])]).running() as server:
        ran = await loadtest(
            *("--base-url", server.url, "--num-prompts", 11, "--max-concurrency", 3, "--processes", 2),
            *("--result-dir", tmp_path, "--num-warmups", 2),
        )
    (result,) = results(tmp_path)

    assert ran.exit_code == 0, ran.output
    assert (11, 13, 3) == (result["completed"], len(server.requests), server.peak_concurrency)


async def test_a_sweep_of_rates_ends_where_the_server_falls_behind(tmp_path: Path) -> None:
    """One slot of 50 ms answers twenty a second: 400 are too many, and 800 are not tried."""
    async with SimulatedServer([Script(chunks=[(0.05, 1)])]).running() as server:
        ran = await loadtest(
            *("--base-url", server.url, "--num-prompts", 10, "--max-concurrency", 1, "--burstiness", "inf"),
            *("--sweep-rates", "800,5,400", "--result-dir", tmp_path, "--html", tmp_path / "a.html"),
        )

    assert ran.exit_code == 0, ran.output
    assert {5.0, 400.0} == {result["request_rate"] for result in results(tmp_path)}
    assert "Throughput and latency" in (tmp_path / "a.html").read_text()


async def test_a_server_that_dies_leaves_a_partial_result(tmp_path: Path) -> None:
    """One clear line, what was measured until then, and a status that is not 0."""
    scripts = [*[Script()] * 5, Script(drop_after=0)]
    async with SimulatedServer(scripts, keeps_last=True).running() as server:
        ran = await loadtest(
            *("--base-url", server.url, "--num-prompts", 100, "--max-concurrency", 1, "--result-dir", tmp_path)
        )
    (result,) = results(tmp_path)

    assert (1, True, 5) == (ran.exit_code, result["partial"], result["completed"])
    assert ran.stderr.startswith("outrider loadtest: the server was lost after 5 answers (")
    assert ran.stderr.count("\n") == 1


async def test_the_crossover_names_where_each_method_stops_paying(tmp_path: Path) -> None:
    """A server whose answers are faster with ngram while one asks, and slower when two do."""
    times = {("off", 1): 0.05, ("ngram", 1): 0.005, ("off", 2): 0.005, ("ngram", 2): 0.05}

    class Server(SimulatedServer):
        async def _play(self, request, script):
            users = 1 if len(self.requests) <= 2 * (1 + 4) else 2
            script = Script(chunks=[(times[self.requests[-1]["speculation"], users], 4)] * 2)
            return await super()._play(request, script)

    async with Server().running() as server:
        ran = await loadtest(
            *("crossover", "--base-url", server.url, "--methods", "ngram", "--concurrency", "1,2", "--rounds", 1),
            *("--requests", 4, "--schemas", "free", "--html", tmp_path / "a.html", "--json", tmp_path / "a.json"),
        )
    cells = json.loads((tmp_path / "a.json").read_text())["cells"]
    (row,) = [line.split() for line in ran.stdout.splitlines() if "ngram" in line]

    assert ran.exit_code == 0, ran.output
    assert row[-2] == "1"
    assert [("off", 1), ("ngram", 1), ("off", 2), ("ngram", 2)] == [
        (cell["method"], cell["concurrency"]) for cell in cells
    ]
    assert cells[1]["speedup"] > 1 > cells[3]["speedup"]
    assert "Where speculation stops paying: free answers" in (tmp_path / "a.html").read_text()


def result(scale: float, count: int = 200, **fields: object) -> dict[str, object]:
    ttfts = [scale * (0.1 + 0.001 * (number * 37 % 100)) for number in range(count)]
    return {
        "duration": 10.0,
        "completed": count,
        "failed": 0,
        "request_throughput": 20.0,
        "output_throughput": 60.0,
        "input_lens": [5] * count,
        "output_lens": [3] * count,
        "ttfts": ttfts,
        "itls": [[0.02, 0.02]] * count,
        "latencies": [ttft + 0.04 for ttft in ttfts],
        "errors": [""] * count,
    } | fields


def test_a_change_is_told_from_chance() -> None:
    """A tenth slower to begin is seen in 200 requests, a thousandth is not; what did not change is not called so."""
    base = DetailedResult(**result(1.0))
    slower = {change.name: change for change in compare(base, DetailedResult(**result(1.1)))}
    same = {change.name: change for change in compare(base, DetailedResult(**result(1.001)))}
    mean = slower["mean ttft (ms)"]

    assert (mean.verdict, slower["mean tpot (ms)"].verdict) == ("worse", "no difference shown")
    assert mean.low < mean.after - mean.before < mean.high
    assert mean.after / mean.before == pytest.approx(1.1)
    assert {"no difference shown"} == {change.verdict for change in same.values()}


async def test_compare_prints_changes_with_intervals(tmp_path: Path) -> None:
    """And notes a run that cannot be trusted."""
    for name, fields in (("a.json", result(1.0)), ("b.json", result(0.5, valid=False))):
        (tmp_path / name).write_text(json.dumps(fields))
    ran = await loadtest("compare", tmp_path / "a.json", tmp_path / "b.json")
    (row,) = [line for line in ran.output.splitlines() if "p50 ttft" in line]

    assert ran.exit_code == 0
    assert "-50.0 %" in row
    assert "better" in row
    assert "Note: b.json is of a run that is not valid" in ran.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "not a result"),
        ('{"duration": 1}', "--save-detailed"),
        ('{"ttfts": "x"}', "not a result"),
    ],
)
async def test_compare_names_the_file_that_it_cannot_use(tmp_path: Path, content: str | None, message: str) -> None:
    """In one line."""
    (tmp_path / "a.json").write_text(json.dumps(result(1.0)))
    if content is not None:
        (tmp_path / "b.json").write_text(content)
    ran = await loadtest("compare", tmp_path / "a.json", tmp_path / "b.json")

    assert (1, 1) == (ran.exit_code, ran.stderr.count("\n"))
    assert "b.json" in ran.stderr
    assert message in ran.stderr


def test_server_metrics_are_read_by_the_names_of_two_servers() -> None:
    """Sums over labels; what is no sample is skipped."""
    running = 'vllm:num_requests_running{a="}"} 2\nvllm:num_requests_running{a="b"} 1.5'
    text = f"# HELP x\n{running}\nbroken\nvllm:kv_cache_usage_perc 0.5\n"

    assert gauges(parse_metrics(text)) == {"running": 3.5, "kv_usage": 0.5}
    assert gauges(parse_metrics(METRICS)) == {"running": 3.0, "kv_usage": 0.25}


def test_the_load_generator_does_not_import_torch() -> None:
    """It starts at once, and leaves the memory to the server."""
    code = """
import sys, outrider.cli.loadtest_tasks, outrider.loadtest.page, outrider.loadtest.comparison
print("torch" in sys.modules, "transformers" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, text=True)

    assert ran.stdout.split() == ["False", "False"]
