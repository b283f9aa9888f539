"""The report as a page: what it shows, and that a browser finds nothing wrong with it."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from outrider.loadtest.chart import Axis, Line, line_chart
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.crossover import Crossover
from outrider.loadtest.findings import Findings
from outrider.loadtest.measure import Measurement, summarize
from outrider.loadtest.page import crossover_page, run_page, save_page
from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Record, Speculation
from outrider.loadtest.run import Outcome
from outrider.loadtest.sample import Sample

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def record(number: int) -> Record:
    due = number * 0.1
    chunks = tuple(Chunk(due + 0.05 + 0.01 * index, 2) for index in range(number % 7 + 1))
    outcome: Answer | Failure = Answer(
        chunks=chunks,
        ended=chunks[-1].received,
        num_prompt_tokens=5,
        num_output_tokens=2 * len(chunks),
        has_usage=True,
        num_coalesced=0,
        speculation=Speculation(8, 5, 4, (1, 1, 2)),
    )
    if number == 13:
        outcome = Failure(FailureKind.SERVER_ERROR, "500: <script>alert(1)</script>")
    return Record(due=due, dispatched=due, sent=due, ended=chunks[-1].received, outcome=outcome, index=number)


def outcome(concurrency: int) -> Outcome:
    records = tuple(record(number) for number in range(40))
    measurement = Measurement(records=records, loop_lags=(0.02,) * 5, started=0.0, stopped=4.0 + 8 / concurrency)
    summary = summarize(measurement, (50, 90, 99))
    findings = Findings(
        date="20260101-000000",
        model="org/<model>",
        variant=None,
        num_requests=40,
        measurement=measurement,
        samples=tuple(Sample.from_prompt("a", 1) for _ in records),
        summary=summary,
        num_good=None,
        validity={},
        server=[{"seconds": float(second), "running": 3.0, "kv_usage": 0.4} for second in range(5)],
        faults=("the client was too slow",),
        notes=(),
        is_partial=True,
    )
    config = LoadtestConfig(base_url="http://127.0.0.1:1", max_concurrency=concurrency)
    return Outcome(config=config, findings=findings, report="a < b", result={}, path=None)


def charts(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def titles(page: str) -> list[str | None]:
    return [chart.find("text[@class='title']").text for chart in charts(page)]


def test_a_run_has_its_charts_and_what_to_know() -> None:
    """Two distributions, two timelines, acceptance and the server; text of others is no markup."""
    page = run_page([outcome(4)])

    assert [
        "Latency distribution (failures never end)",
        "Time between tokens",
        "Latency over time",
        "Requests under way",
        "Acceptance by position",
        "The server's own figures",
    ] == titles(page)
    assert "This run is not valid: the client was too slow." in page
    assert "This run is partial." in page
    assert "org/&lt;model&gt;" in page
    assert "<script" not in page


def test_a_sweep_begins_with_the_curve_of_all_runs() -> None:
    """Throughput on one axis, latency on the other, a point for each run."""
    page = run_page([outcome(1), outcome(2), outcome(4)])
    curve = charts(page)[0]

    assert titles(page)[0] == "Throughput and latency"
    assert len(curve.findall("circle")) == 6


def test_a_page_names_nothing_outside_itself() -> None:
    """It opens from a disk without a network."""
    page = run_page([outcome(4)])

    assert [] == re.findall(r"(?:src|href)=\"(?!data:)|https?://|@import|url\(", page)


def crossover() -> Crossover:
    table = Crossover(("off", "ngram"), (1, 2, 4))
    for level in (1, 2, 4):
        for method, factor in (("off", 1), ("ngram", 3 / level)):
            found = outcome(level)
            summary = replace(found.summary, num_output_tokens=int(1000 * factor))
            table.add(method, level, False, replace(found, findings=replace(found.findings, summary=summary)))
    return table


def test_a_method_pays_until_it_is_first_slower() -> None:
    """Three times as fast, one and a half times, and then three quarters."""
    table = crossover()

    assert [3.0, 1.5, 0.75] == [table.speedup("ngram", level, False) for level in (1, 2, 4)]
    assert (2, None) == (table.pays_until("ngram", False), table.pays_until("eagle", False))


def test_a_failure_ends_the_distribution_below_all() -> None:
    """One of forty requests never ended: 97.5 % is the highest that the line reaches."""
    chart = line_chart("t", [Line("a", [(1, 0), (10, 97.5)])], Axis(label="ms", is_log=True), Axis(label="%", high=100))
    (path,) = ElementTree.fromstring(chart).findall("path")
    top = float(path.get("d").split()[-1])

    assert top > 30.0
    assert "97.5" not in chart


@pytest.mark.parametrize(
    "points", [[], [(1.0, 5.0)], [(0.0, 1.0), (-1.0, 2.0)], [(1.0, float("inf")), (2.0, float("nan"))]]
)
def test_a_chart_of_little_is_still_a_chart(points: list[tuple[float, float]]) -> None:
    """No points, one, none that a logarithm has, none that is finite."""
    axes = Axis(label="x", is_log=True), Axis(label="y")

    assert ElementTree.fromstring(line_chart("t", [Line("a", points)], *axes)).tag == "svg"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page is not opened in a browser")
def test_a_browser_opens_the_page_without_a_complaint(tmp_path: Path) -> None:
    """From disk; pages forbid themselves all that is elsewhere, so the console would tell of it."""
    save_page(tmp_path / "run.html", run_page([outcome(1), outcome(4)]))
    save_page(tmp_path / "crossover.html", crossover_page(crossover(), "off ngram"))
    frames = '<iframe src="run.html"></iframe><iframe src="crossover.html"></iframe>'
    (tmp_path / "all.html").write_text(f"<!DOCTYPE html>{frames}")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'all.png'}", "--window-size=1200,900"),
        (tmp_path / "all.html").as_uri(),
    ]
    ran = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)

    assert ran.returncode == 0, ran.stderr
    assert [] == [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    assert (tmp_path / "all.png").stat().st_size > 5_000
