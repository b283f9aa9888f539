"""`outrider bench`: measurements that need no server."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from outrider.cli import options

bench = typer.Typer(no_args_is_help=True, help="Measure the engine without a server.")

RandomWeights = Annotated[
    str | None,
    typer.Option(help="Measure a shape instead: llama-100m, llama-500m, llama-8b, or the path of a config.json."),
]
InputLen = Annotated[int, typer.Option(min=1, help="Prompt tokens of each request.")]
OutputLen = Annotated[int, typer.Option(min=1, help="Generated tokens of each request.")]
Output = Annotated[Path | None, typer.Option(help="Write the figures as JSON.")]


@bench.command()
def throughput(
    model: options.Model = None,
    random_weights: RandomWeights = None,
    input_len: InputLen = 128,
    output_len: OutputLen = 128,
    concurrency: Annotated[list[int], typer.Option(min=1, help="Requests at once; repeat for several.")] = [1, 8, 32],
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 5,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    kv_dtype: options.KvDtype = "auto",
    threads: options.Threads = None,
    transformers: Annotated[bool, typer.Option(help="Measure transformers' generate beside it.")] = True,
    output: Output = None,
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
        with _checkpoint(model, random_weights) as folder, Progress(transient=True) as progress:
            # Rounds repeat their prompts: a prefix cache would spare the second round what is to be measured.
            config = EngineConfig(
                model=folder,
                dtype=dtype,
                device=device,
                kv_dtype=kv_dtype,
                num_threads=threads,
                max_num_seqs=max(*concurrency, 64),
                prefix_caching=False,
            )
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


@bench.command()
def latency(
    model: options.Model = None,
    random_weights: RandomWeights = None,
    input_len: InputLen = 128,
    output_len: OutputLen = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 10,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    kv_dtype: options.KvDtype = "auto",
    threads: options.Threads = None,
    output: Output = None,
) -> None:
    """Milliseconds of one request alone: to its first token, from token to token, and in all."""
    options.wait_passively()
    import msgspec
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from outrider.engine.benchmark import measure_latency
    from outrider.engine.config import EngineConfig
    from outrider.engine.errors import LoadError

    try:
        with _checkpoint(model, random_weights) as folder, Progress(transient=True) as progress:
            config = EngineConfig(
                model=folder,
                dtype=dtype,
                device=device,
                kv_dtype=kv_dtype,
                num_threads=threads,
                max_num_seqs=1,
                prefix_caching=False,
            )
            task = progress.add_task("Measuring", total=rounds + 1)
            found = measure_latency(
                config,
                input_len=input_len,
                output_len=output_len,
                num_rounds=rounds,
                on_round=lambda: progress.advance(task),
            )
    except (LoadError, ValueError) as error:
        options.fail(str(error))
    table = Table(title=f"{input_len} tokens in, {output_len} out, {found.num_threads} threads, {rounds} rounds")
    for heading in ("milliseconds", "median", "99th percentile"):
        table.add_column(heading, justify="right")
    for name, (median, high) in (
        ("first token", found.first_token),
        ("per token", found.per_token),
        ("whole", found.whole),
    ):
        table.add_row(name, f"{median:.2f}", f"{high:.2f}")
    Console().print(table)
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


@bench.command()
def random_checkpoint(
    shape: Annotated[str, typer.Argument(help="llama-100m, llama-500m, llama-8b, or the path of a config.json.")],
    folder: Annotated[Path, typer.Argument(help="Where to write it.")],
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Write a checkpoint of random weights, to measure several servers on the same files."""
    from outrider.engine.errors import LoadError
    from outrider.engine.random_checkpoint import write_random_checkpoint

    try:
        write_random_checkpoint(shape, folder, seed)
    except (LoadError, OSError) as error:
        options.fail(str(error))
    typer.echo(f"saved to {folder}")


@contextlib.contextmanager
def _checkpoint(model: str | None, random_weights: str | None) -> Iterator[str]:
    """The folder to measure; one of random weights lives as long as the block."""
    if random_weights is None:
        yield options.demo_if_none(model)
        return
    if model is not None:
        options.fail("--random-weights measures a shape: leave the model out")
    from outrider.engine.random_checkpoint import write_random_checkpoint

    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        write_random_checkpoint(random_weights, Path(folder))
        yield folder
