"""`outrider bench`: measurements that need no server."""

from pathlib import Path
from typing import Annotated

import typer

from outrider.cli import options

bench = typer.Typer(no_args_is_help=True, help="Measure the engine without a server.")


@bench.callback()
def _bench() -> None:
    """Keeps `throughput` a sub-command while it is the only one."""


@bench.command()
def throughput(
    model: options.Model = None,
    input_len: Annotated[int, typer.Option(min=1, help="Prompt tokens of each request.")] = 128,
    output_len: Annotated[int, typer.Option(min=1, help="Generated tokens of each request.")] = 128,
    concurrency: Annotated[list[int], typer.Option(min=1, help="Requests at once; repeat for several.")] = [1, 8, 32],
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 5,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    transformers: Annotated[bool, typer.Option(help="Measure transformers' generate beside it.")] = True,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Output tokens per second at several concurrencies, beside transformers' generate in the same run."""
    options.wait_passively()
    import msgspec
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from outrider.engine.benchmark import measure_throughput
    from outrider.engine.config import EngineConfig
    from outrider.engine.errors import LoadError

    try:
        config = EngineConfig(
            model=options.demo_if_none(model), dtype=dtype, num_threads=threads, max_num_seqs=max(*concurrency, 64)
        )
        with Progress(transient=True) as progress:
            task = progress.add_task("Measuring", total=len(concurrency) * (rounds + 1))
            rows = measure_throughput(
                config,
                input_len=input_len,
                output_len=output_len,
                concurrencies=concurrency,
                num_rounds=rounds,
                with_transformers=transformers,
                on_round=lambda: progress.advance(task),
            )
    except (LoadError, ValueError) as error:
        options.fail(str(error))
    title = f"{input_len} tokens in, {output_len} out, {rows[0].num_threads} threads, median of {rounds}"
    table = Table(title=title)
    for heading in ("concurrency", "outrider tok/s", "transformers tok/s", "ratio"):
        table.add_column(heading, justify="right")
    for row in rows:
        reference = "" if row.transformers is None else f"{row.transformers:.1f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        table.add_row(str(row.concurrency), f"{row.engine:.1f}", reference, ratio)
    Console().print(table)
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
