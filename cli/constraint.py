"""`outrider bench constraint`: what a grammar costs, and what speculation makes of it."""

import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer

from outrider.cli import options
from outrider.cli.samples import BadLines
from outrider.cli.speculation import PIPE_WIDTH, machine


def constraint(
    model: options.Model = None,
    draft: options.Draft = None,
    eagle: options.Eagle = None,
    medusa: options.Medusa = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines {"messages", "schema"}; held-out extraction of the demo recipe when left out.',
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once where the overhead is measured.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 5,
    max_tokens: Annotated[int, typer.Option(min=2, help="The most tokens of an answer.")] = 256,
    speculation_max_tokens: options.SpeculationMaxTokens = 8,
    threads: options.Threads = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """The same prompts with and without their schemas: in-line, greedy, in turn."""
    options.wait_passively()
    import msgspec
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from outrider.cli.speculation_tasks import enough_of_each, make_tasks, read_lines, recipe_lines
    from outrider.engine.config import EngineConfig
    from outrider.engine.constraint_benchmark import measure_constraint
    from outrider.engine.core import EngineCore
    from outrider.engine.errors import EngineError

    if output is not None and not output.parent.is_dir():
        options.fail(f"--output {output}: there is no folder `{output.parent}`")
    draft, eagle, medusa = options.with_demo_speculators(model, draft, eagle, medusa)
    try:
        bad = BadLines(data or Path("recipe"))
        lines = recipe_lines(concurrency) if data is None else read_lines(data, bad.report)
        lines = {
            number: msgspec.structs.replace(line, kind="all")
            for number, line in lines.items()
            if line.schema is not None
        }
        # Rounds repeat their prompts: a prefix cache would spare the second round what is to be measured.
        config = EngineConfig(
            model=options.demo_if_none(model),
            num_threads=threads,
            max_num_seqs=max(concurrency, 64),
            max_num_batched_tokens=max(concurrency, 1024),
            prefix_caching=False,
            speculation_max_tokens=speculation_max_tokens,
            draft=draft,
            eagle=eagle,
            medusa=medusa,
        )
        core = EngineCore(config)
        tasks = make_tasks(core, lines, max_tokens, bad.report)
        bad.summarise()
        if not tasks:
            options.fail(f"there is nothing with a `schema` to ask in {data or 'the recipe'}")
        with Progress(transient=True) as progress:
            bar = progress.add_task("Measuring", total=6 * (rounds + 1))
            figures = measure_constraint(
                core,
                enough_of_each(tasks, max(len(tasks), concurrency)),
                concurrency=concurrency,
                num_rounds=rounds,
                on_turn=lambda: progress.advance(bar),
            )
    except (EngineError, ValueError, OSError) as error:
        options.fail(str(error))
    table = Table(title=f"{machine()}\n{len(tasks)} prompts with schemas, median of {rounds} rounds")
    for heading, justify in (
        ("", "left"),
        ("at once", "right"),
        ("median", "right"),
        ("from", "right"),
        ("to", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich's own literals
    for name, count, values in (
        ("constrained: tokens per second with grammar, ngram and suffix / off", 1, figures.free),
        (
            f"auto: tokens per second constrained / unconstrained, {figures.num_alike} answers that are alike",
            1,
            figures.auto,
        ),
        ("off: time per token constrained / unconstrained", concurrency, figures.overhead),
    ):
        cells = [f"{one:.3f}x" for one in (statistics.median(values), min(values), max(values))]
        table.add_row(name, str(count), *cells)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False).print(table)
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
