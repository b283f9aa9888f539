"""`outrider bench speculation`: what each way of drafting is worth, by kind of task and by concurrency."""

import dataclasses
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outrider.cli import options
from outrider.cli.samples import BadLines

if TYPE_CHECKING:
    from rich.table import Table

    from outrider.engine.core import EngineCore
    from outrider.engine.protocol import SpeculationParams
    from outrider.engine.speculation_benchmark import SpeculationRow

MOST_MILLISECONDS = 60_000
PIPE_WIDTH = 200  # characters, where there is no terminal that says how many it has


def speculation(
    model: options.Model = None,
    draft: options.Draft = None,
    eagle: options.Eagle = None,
    medusa: options.Medusa = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines {"messages"} with "kind", "tools", "schema" and "prediction" where wanted; '
            "the demo recipe's held-out tasks when left out."
        ),
    ] = None,
    method: Annotated[
        list[str],
        typer.Option(help="What is measured: one method, several as a+b, auto; repeat. Each alone, and auto."),
    ] = [],
    concurrency: Annotated[list[int], typer.Option(min=1, help="Requests at once; repeat for several.")] = [
        1,
        4,
        16,
        64,
    ],
    requests: Annotated[int, typer.Option(min=1, help="Requests of each kind; at least as many as run at once.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 256,
    speculation_max_tokens: options.SpeculationMaxTokens = 8,
    emulated: Annotated[
        str | None,
        typer.Option(
            "--emulate",
            help="Let steps take as long as those of a shape (llama-100m, llama-500m, llama-8b, the path of a "
            "config.json), or so many milliseconds.",
            metavar="SHAPE|MILLISECONDS",
        ),
    ] = None,
    threads: options.Threads = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Tokens per second with each way of drafting beside none: in-line, greedy, the same requests in turn."""
    options.wait_passively()
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from outrider.cli.speculation_tasks import enough_of_each, make_tasks, read_lines, recipe_lines
    from outrider.engine.config import EngineConfig
    from outrider.engine.core import EngineCore
    from outrider.engine.errors import EngineError
    from outrider.engine.speculation_benchmark import crossover, emulate, measure_speculation

    if output is not None and not output.parent.is_dir():
        options.fail(f"--output {output}: there is no folder `{output.parent}`")
    draft, eagle, medusa = options.with_demo_speculators(model, draft, eagle, medusa)
    counts = sorted(set(concurrency))
    try:
        bad = BadLines(data or Path("recipe"))
        lines = recipe_lines(max(requests, counts[-1])) if data is None else read_lines(data, bad.report)
        # Rounds repeat their prompts: a prefix cache would spare the second round what is to be measured.
        config = EngineConfig(
            model=options.demo_if_none(model),
            num_threads=threads,
            max_num_seqs=max(counts[-1], 64),
            max_num_batched_tokens=max(counts[-1], 1024),
            prefix_caching=False,
            speculation_max_tokens=speculation_max_tokens,
            draft=draft,
            eagle=eagle,
            medusa=medusa,
        )
        pace = None if emulated is None else _parse_pace(emulated, threads)
        core = EngineCore(config) if pace is None else EngineCore(config, lambda one: emulate(one, pace.seconds))
        variants = _variants(core, method)
        tasks = make_tasks(core, lines, max_tokens, bad.report)
        bad.summarise()
        if not tasks:
            options.fail(f"there is nothing to ask in {data or 'the recipe'}")
        rows: list[SpeculationRow] = []
        with Progress(transient=True) as progress:
            turns = len({task.kind for task in tasks}) * (1 + len(variants)) * (rounds + 1)
            bar = progress.add_task("Measuring", total=len(counts) * turns)
            for count in counts:
                rows += measure_speculation(
                    core,
                    enough_of_each(tasks, max(requests, count)),
                    variants,
                    concurrency=count,
                    num_rounds=rounds,
                    on_round=lambda: progress.advance(bar),
                )
    except (EngineError, ValueError, OSError) as error:
        options.fail(str(error))
    heading = [machine(), ", ".join((model or "outrider-demo", *map(" ".join, config.speculators.items())))]
    heading += [] if pace is None else [pace.description]
    crossovers = {name: crossover(rows, name) for name in variants}
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    for count in counts:
        title = "\n".join((*heading, f"{count} at once, at most {max_tokens} tokens, median of {rounds} rounds"))
        console.print(_table(title, [row for row in rows if row.concurrency == count]))
    console.print("Greedy; every variant gave the same answers as off, token for token.")
    console.print("Slower than off in the mean, from so many at once:")
    for name, found in crossovers.items():
        console.print(f"  {name}: {found or 'none'}")
    if output is not None:
        figures = {"heading": heading, "crossovers": crossovers, "rows": _figures(rows)}
        output.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))


@dataclass(frozen=True, slots=True)
class _Pace:
    """Step times of another model, by the number of rows, and how a table tells of them."""

    seconds: Callable[[int], float]
    description: str


def _parse_pace(text: str, threads: int | None) -> _Pace:
    """From milliseconds, or measured on a shape."""
    from outrider.engine.speculation_benchmark import shape_costs

    try:
        milliseconds = float(text)
    except ValueError:
        typer.echo(f"measuring the steps of {text} ...", err=True)
        costs = shape_costs(text, threads)
        times = " / ".join(f"{1000 * costs.seconds(size):.1f}" for size in (1, 8, 64))
        return _Pace(costs.seconds, f"emulated step time of {Path(text).stem}: {times} ms for 1 / 8 / 64 rows")
    if not 0.0 < milliseconds <= MOST_MILLISECONDS:
        options.fail(f"--emulate {text}: milliseconds must be above 0 and at most {MOST_MILLISECONDS}")
    return _Pace(lambda _: milliseconds / 1000, f"emulated step time of {text} ms")


def _variants(core: "EngineCore", names: Sequence[str]) -> "dict[str, SpeculationParams]":
    """What is measured beside `off`; each loaded method and auto where nothing is named."""
    from outrider.engine.protocol import AUTO, SpeculationParams

    loaded, max_tokens = core.speculation_methods, core.config.speculation_max_tokens
    variants: dict[str, SpeculationParams] = {}
    for name in names or (*loaded, AUTO):
        methods = loaded if name == AUTO else tuple(name.split("+"))
        unknown = next((one for one in methods if one not in loaded), None)
        if unknown is not None:
            options.fail(f"--method {name}: `{unknown}` is not loaded: use {AUTO}, or of {', '.join(loaded)}")
        variants[name] = SpeculationParams(methods, max_tokens, auto=name == AUTO)
    return variants


def machine() -> str:
    """The processor, how many of its cores may be used, the threads, and the day."""
    from outrider.kernels import survey

    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = survey.machine()
    gpu = [] if found["GPU"] == "none" else [found["GPU"]]
    return ", ".join(
        (f"{num_cores} cores", found["processor"], *gpu, f"{datetime.datetime.now().astimezone():%Y-%m-%d}")
    )


def _table(title: str, rows: "Sequence[SpeculationRow]") -> "Table":
    """Of one concurrency."""
    from rich.table import Table

    from outrider.engine.protocol import OFF
    from outrider.engine.speculation_benchmark import mean_speed_up, speed_up

    table = Table(title=title, caption="times as fast as off, and tokens per step of a request")
    variants = [name for name in dict.fromkeys(row.variant for row in rows) if name != OFF]
    table.add_column("kind")
    for heading in ("off tok/s", *variants):
        table.add_column(heading, justify="right")
    for kind in dict.fromkeys(row.kind for row in rows):
        mine = {row.variant: row for row in rows if row.kind == kind}
        cells = [f"{speed_up(rows, mine[name]):.2f}x {mine[name].tokens_per_step:5.2f}" for name in variants]
        table.add_row(kind, f"{mine[OFF].rate:.0f}", *cells)
    means = [f"{mean_speed_up(rows, name, rows[0].concurrency):.2f}x      " for name in variants]
    table.add_section()
    table.add_row("geometric mean", "", *means)
    return table


def _figures(rows: "Sequence[SpeculationRow]") -> list[dict[str, object]]:
    """As they are written to a file."""
    from outrider.engine.speculation_benchmark import speed_up

    derived = [{"speed_up": speed_up(rows, row), "tokens_per_step": row.tokens_per_step} for row in rows]
    return [dataclasses.asdict(row) | more for row, more in zip(rows, derived, strict=True)]
