"""`outrider loadtest compare` and `crossover`: what changed between two runs, and where speculation stops paying."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from outrider.cli.loadtest import failed

if TYPE_CHECKING:
    from rich.console import Console

    from outrider.loadtest.crossover import Crossover

PIPE_WIDTH = 140  # characters, where there is no terminal that says how many it has


def compare(
    before: Annotated[Path, typer.Argument(help="A result written with --save-detailed.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Tell what changed between two runs, and what chance may have done."""
    from rich.console import Console
    from rich.table import Table

    from outrider.loadtest.comparison import compare as compare_results
    from outrider.loadtest.comparison import read_result
    from outrider.loadtest.errors import LoadtestError

    try:
        results = read_result(before), read_result(after)
    except LoadtestError as error:
        raise failed(str(error)) from error
    table = Table("", before.name, after.name, "change", "95 % interval", "", title="Latency from the intended start")
    for column in table.columns[1:5]:
        column.justify = "right"
    for change in compare_results(*results):
        relative = 100 * (change.after / change.before - 1) if change.before else float("nan")
        interval = f"{change.low:+.2f} to {change.high:+.2f} ms"
        table.add_row(
            change.name,
            f"{change.before:.2f}",
            f"{change.after:.2f}",
            f"{relative:+.1f} %",
            interval,
            change.verdict,
        )
    for name in ("request_throughput", "output_throughput", "completed", "failed"):
        values = [float(getattr(result, name)) for result in results]
        relative = 100 * (values[1] / values[0] - 1) if values[0] else float("nan")
        table.add_row(
            name.replace("_", " "), f"{values[0]:.2f}", f"{values[1]:.2f}", f"{relative:+.1f} %", "one run each", ""
        )
    console = Console(width=None if os.isatty(1) else PIPE_WIDTH)
    console.print(table)
    for path, result in zip((before, after), results, strict=True):
        if not result.valid or result.partial:
            console.print(f"Note: {path.name} is of a run that is {'partial' if result.partial else 'not valid'}")


def crossover(
    base_url: Annotated[str, typer.Option(help="Address of an Outrider, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="Default: the first that the server lists.")] = None,
    methods: Annotated[
        str, typer.Option(help="Between commas; off is always measured beside them.")
    ] = "ngram,suffix,draft,eagle,medusa,auto",
    concurrency: Annotated[str, typer.Option(help="Numbers of users between commas.")] = "1,2,4,8,16,32,64",
    schemas: Annotated[
        Literal["both", "constrained", "free"], typer.Option(help="Whether schemas of the tasks are enforced.")
    ] = "both",
    dataset_name: Annotated[Literal["demo", "jsonl", "random"], typer.Option(help="What is asked.")] = "demo",
    dataset_path: Annotated[Path | None, typer.Option(help="Of jsonl.")] = None,
    demo_kind: Annotated[list[str], typer.Option(help="Only such tasks of demo; repeat.")] = [],
    requests: Annotated[int, typer.Option(min=1, help="Of each run, or four for each user.")] = 24,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, in turn; the median counts.")] = 2,
    output_len: Annotated[int | None, typer.Option(help="Most tokens of an answer.")] = None,
    temperature: Annotated[float, typer.Option(help="Of all requests.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of prompts.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write the table with its chart as one file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures.")] = None,
) -> None:
    """Run each way of drafting over a sweep of concurrencies and tell where each stops paying."""
    from rich.console import Console

    from outrider.cli.loadtest_tasks import demo_tasks
    from outrider.loadtest.config import LoadtestConfig
    from outrider.loadtest.crossover import BASELINE, Crossover, plan
    from outrider.loadtest.errors import LoadtestError
    from outrider.loadtest.page import crossover_page, save_page
    from outrider.loadtest.parse import parse_counts, parse_names
    from outrider.loadtest.run import run_loadtest

    status = 0
    table: Crossover | None = None
    try:
        tasks = demo_tasks(demo_kind)
        named = (BASELINE, *(method for method in parse_names(methods) if method != BASELINE))
        table = Crossover(named, tuple(sorted(parse_counts("--concurrency", concurrency))))
        config = LoadtestConfig(
            base_url=base_url,
            model=model,
            dataset_name=dataset_name,
            dataset_path=dataset_path,
            output_len=output_len,
            temperature=temperature,
            seed=seed,
            save_result=False,
            scrape_interval=0,
        )
        constraints = {"both": (True, False), "constrained": (True,), "free": (False,)}[schemas]
        runs = plan(config, named, table.levels, constraints=constraints, requests=requests, rounds=rounds)
        for method, level, is_constrained, each in runs:
            outcome = run_loadtest(
                each, api_key=os.environ.get("OPENAI_API_KEY"), on_record=lambda _: None, tasks=tasks
            )
            summary = outcome.summary
            if outcome.findings.is_partial:
                status = 130
                break
            if not summary.num_completed:
                raise failed(f"{method}: no request succeeded: {summary.first_failure}")
            table.add(method, level, is_constrained, outcome)
            kind = "constrained" if is_constrained else "free"
            typer.echo(f"{kind}, {level} at once, {method}: {outcome.result['output_throughput']:.1f} tok/s", err=True)
    except LoadtestError as error:
        status = 1
        failed(str(error))
    except KeyboardInterrupt:
        status = 130
    if table is None or not table.cells:
        raise typer.Exit(status)
    console = Console(width=None if os.isatty(1) else PIPE_WIDTH, record=True)
    if status:
        console.print("Partial: the runs did not come to their end.")
    _print_tables(console, table)
    text = console.export_text()
    try:
        if html is not None:
            save_page(html, crossover_page(table, text))
        if json is not None:
            json.write_bytes(table.as_json())
    except OSError as error:
        raise failed(f"cannot write {error.filename}: {error.strerror}") from error
    raise typer.Exit(status)


def _print_tables(console: "Console", crossover: "Crossover") -> None:
    from rich.table import Table

    for is_constrained in sorted({key[2] for key in crossover.cells}, reverse=True):
        kind = "schemas enforced" if is_constrained else "free answers"
        table = Table("", *(str(level) for level in crossover.levels), "pays up to", title=f"Times off, {kind}")
        for column in table.columns[1:]:
            column.justify = "right"
        for method in crossover.methods:
            cells = [crossover.cells.get((method, level, is_constrained)) for level in crossover.levels]
            if method == crossover.methods[0]:
                figures = [f"{cell.throughput:.0f} tok/s" if cell else "-" for cell in cells]
                table.add_row(method, *figures, "")
                continue
            speedups = [crossover.speedup(method, level, is_constrained) for level in crossover.levels]
            marks = ["" if cell is None or cell.is_valid else "?" for cell in cells]
            figures = [
                "-" if speedup is None else f"{speedup:.2f}x{mark}"
                for speedup, mark in zip(speedups, marks, strict=True)
            ]
            highest = crossover.pays_until(method, is_constrained)
            table.add_row(method, *figures, "nowhere" if highest is None else str(highest))
        console.print(table)
    if any(not cell.is_valid for cell in crossover.cells.values()):
        console.print("?: the load generator was the bottleneck in that run")
    if failures := sum(cell.num_failed for cell in crossover.cells.values()):
        console.print(f"{failures} requests failed")
