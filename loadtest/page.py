"""The report as one HTML file that needs nothing else: no script, no style sheet, no picture from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from outrider.loadtest.chart import Axis, Line, line_chart
from outrider.loadtest.crossover import Crossover
from outrider.loadtest.findings import Findings
from outrider.loadtest.measure import acceptance_by_position, token_gaps
from outrider.loadtest.record import Answer
from outrider.loadtest.result import per_second
from outrider.loadtest.run import Outcome

MOST_POINTS = 400
"""Of one line: more would not be seen, and make the file large."""

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;color:#1e293b}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}.charts{display:flex;flex-wrap:wrap;gap:1rem}
svg{border:1px solid #e2e8f0;border-radius:6px;max-width:100%}svg text{font:11px system-ui,sans-serif;fill:#334155}
svg .title{font-size:13px;font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:#e2e8f0}.mark{stroke:#64748b;stroke-dasharray:5 4}
table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid #e2e8f0;text-align:right}
td:first-child,th:first-child{text-align:left}pre{background:#f8fafc;padding:1rem;overflow-x:auto}
.invalid{background:#fee2e2;border-left:4px solid #dc2626;padding:.6rem 1rem}
"""


def run_page(outcomes: Sequence[Outcome]) -> str:
    """One run, or the runs of a sweep: the curve of all, then each with its charts and its report."""
    parts: list[str] = []
    if len(outcomes) > 1:
        parts += ["<h2>All runs</h2>", _charts([_throughput_latency(outcomes)]), _runs_table(outcomes)]
    for outcome in outcomes:
        parts += _run(outcome)
    return _page("Load test", parts)


def crossover_page(table: Crossover, text: str) -> str:
    """The chart of speedups by concurrency, and the table as printed."""
    charts = []
    for is_constrained in sorted({key[2] for key in table.cells}):
        lines = []
        for method in table.methods:
            speedups = ((level, table.speedup(method, level, is_constrained)) for level in table.levels)
            lines.append(Line(method, [(float(level), speedup) for level, speedup in speedups if speedup is not None]))
        kind = "schemas enforced" if is_constrained else "free answers"
        across = Axis(label="requests at once", is_log=True, base=2)
        up = Axis(label="times the throughput of off", low=0)
        charts.append(line_chart(f"Where speculation stops paying: {kind}", lines, across, up, mark=1.0))
    return _page("Crossover of speculation", [_charts(charts), f"<pre>{escape(text)}</pre>"])


def save_page(path: Path, page: str) -> None:
    """Raises OSError."""
    path.write_text(page, encoding="utf-8")


def _page(title: str, parts: Sequence[str]) -> str:
    # A page that would ask a network for anything is refused it by the browser.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    body = f"<h1>{escape(title)}</h1>{''.join(parts)}"
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _run(outcome: Outcome) -> Iterator[str]:
    findings = outcome.findings
    yield f"<h2>{escape(_name(outcome))}, {escape(findings.model)}, {escape(findings.date)}</h2>"
    for fault in findings.faults:
        yield f'<p class="invalid">This run is not valid: {escape(fault)}.</p>'
    if findings.is_partial:
        yield '<p class="invalid">This run is partial.</p>'
    charts = [_latency_distribution(findings), _token_distribution(findings), _timeline(findings), _progress(findings)]
    speculation = findings.summary.speculation
    if speculation is not None and speculation.histogram:
        rates = [(float(place), 100 * rate) for place, rate in enumerate(acceptance_by_position(speculation))]
        across, up = Axis(label="position in the draft"), Axis(label="% of steps", low=0, high=100)
        charts.append(line_chart("Acceptance by position", [Line("accepted", rates)], across, up))
    if findings.server:
        charts.append(_server(findings.server))
    yield _charts(charts)
    yield f"<pre>{escape(outcome.report)}</pre>"


def _latency_distribution(findings: Findings) -> str:
    ttfts, latencies = [], []
    for record in findings.measurement.measured:
        if isinstance(record.outcome, Answer) and record.outcome.chunks:
            ttfts.append((record.outcome.chunks[0].received - record.due) * 1000)
            latencies.append((record.outcome.ended - record.due) * 1000)
    total = len(findings.measurement.measured)
    lines = [Line("TTFT", _cumulated(ttfts, total)), Line("end to end", _cumulated(latencies, total))]
    across, up = Axis(label="ms from the intended start", is_log=True), Axis(label="% of requests", low=0, high=100)
    return line_chart("Latency distribution (failures never end)", lines, across, up)


def _token_distribution(findings: Findings) -> str:
    gaps = [
        gap * 1000
        for record in findings.measurement.measured
        if isinstance(record.outcome, Answer)
        for gap in token_gaps(record.outcome.chunks)
    ]
    across, up = Axis(label="ms", is_log=True), Axis(label="% of tokens", low=0, high=100)
    return line_chart("Time between tokens", [Line("ITL", _cumulated(gaps, len(gaps)))], across, up)


def _timeline(findings: Findings) -> str:
    start = findings.measurement.measured_from
    first, last = [], []
    for record in findings.measurement.measured:
        if isinstance(record.outcome, Answer) and record.outcome.chunks:
            first.append((record.due - start, (record.outcome.chunks[0].received - record.due) * 1000))
            last.append((record.due - start, (record.outcome.ended - record.due) * 1000))
    lines = [Line("TTFT", _thinned(first), is_scatter=True), Line("end to end", _thinned(last), is_scatter=True)]
    return line_chart("Latency over time", lines, Axis(label="intended start (s)"), Axis(label="ms", is_log=True))


def _progress(findings: Findings) -> str:
    start = findings.measurement.measured_from
    changes = sorted(
        change
        for record in findings.measurement.measured
        for change in ((record.sent - start, 1), (record.ended - start, -1))
    )
    current = 0
    under_way = [(at, float(current := current + change)) for at, change in changes]
    across, up = Axis(label="s"), Axis(label="requests", low=0)
    return line_chart("Requests under way", [Line("sent, not ended", _thinned(under_way), is_step=True)], across, up)


def _server(samples: Sequence[Mapping[str, float]]) -> str:
    names = {"running": ("running", 1), "waiting": ("waiting", 1), "kv_usage": ("KV cache used (%)", 100)}
    lines = [
        Line(label, _thinned([(each["seconds"], each[name] * scale) for each in samples if name in each]))
        for name, (label, scale) in names.items()
    ]
    return line_chart("The server's own figures", lines, Axis(label="s"), Axis(label="", low=0))


def _throughput_latency(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for label, name in (("TTFT", "ttft_including_client_queue"), ("end to end", "e2el_including_client_queue")):
        points = sorted((_throughput(each), each.summary.latencies[name].median * 1000) for each in outcomes)
        lines.append(Line(f"{label}, median", points))
    across, up = Axis(label="output tokens per second"), Axis(label="ms", is_log=True)
    return line_chart("Throughput and latency", lines, across, up)


def _runs_table(outcomes: Sequence[Outcome]) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("run", "req/s", "tok/s", "failed", "TTFT p50", "TTFT p99", "TPOT p50")
    )
    rows = []
    for outcome in outcomes:
        summary = outcome.summary
        ttft, tpot = summary.latencies["ttft_including_client_queue"], summary.latencies["tpot"]
        figures = (
            f"{per_second(summary.num_completed, summary.duration):.2f}",
            f"{_throughput(outcome):.1f}",
            f"{summary.num_failed}",
            *(f"{each * 1000:.1f} ms" for each in (ttft.median, ttft.percentiles[99.0], tpot.median)),
        )
        cells = "".join(f"<td>{each}</td>" for each in figures)
        rows.append(f"<tr><td>{escape(_name(outcome))}</td>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _name(outcome: Outcome) -> str:
    config = outcome.config
    if config.label is not None:
        return config.label
    if config.is_closed_loop:
        return f"concurrency {config.max_concurrency}"
    return f"{config.request_rate:g} requests/s"


def _throughput(outcome: Outcome) -> float:
    return per_second(outcome.summary.num_output_tokens, outcome.summary.duration)


def _charts(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _cumulated(values: Sequence[float], total: int) -> list[tuple[float, float]]:
    """Percent of `total` at or below each value."""
    return _thinned([(value, 100 * (rank + 1) / total) for rank, value in enumerate(sorted(values))])


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, len(points) // MOST_POINTS)
    return [*points[::step], *points[-1:]] if step > 1 else list(points)
