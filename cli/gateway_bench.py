"""`outrider bench gateway`: what the gateway itself costs."""

from pathlib import Path
from typing import Annotated

import typer

from outrider.cli import options


def gateway(
    model: options.Model = None,
    input_len: Annotated[int, typer.Option(min=1, help="Prompt tokens of each request.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each run; a round has three, streaming and not.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 3,
    trace_file: Annotated[Path | None, typer.Option(help="Measure with traces written to this file.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Requests per second and added latency of the gateway on one core, before an engine that answers at once."""
    import msgspec
    import uvloop
    from rich.console import Console
    from rich.table import Table

    from outrider.gateway.benchmark import OUTPUT_TOKENS, BenchmarkError, measure_gateway

    try:
        figures = uvloop.run(
            measure_gateway(
                options.demo_if_none(model),
                prompt_tokens=input_len,
                seconds=seconds,
                num_rounds=rounds,
                trace_file=trace_file,
            )
        )
    except BenchmarkError as error:
        options.fail(str(error))
    table = Table(title=f"{input_len} tokens in, {OUTPUT_TOKENS} out in 4 frames, one core, median of {rounds}")
    for heading in ("", "requests/s", "CPU ms each", "added p50 ms", "added p99 ms", "added first token ms"):
        table.add_column(heading, justify="right")
    for one in figures.overheads:
        kind = "streaming" if one.is_stream else "whole"
        times = [f"{value:.2f}" for value in (one.processor, one.median, one.percentile_99)]
        times.append("" if one.first_token is None else f"{one.first_token:.2f}")
        table.add_row(kind, f"{one.requests_per_second:.0f}", *times)
    Console().print(table)
    torch = "imported" if figures.imports_torch else "not imported"
    typer.echo(f"The gateway holds {figures.resident_mebibytes:.0f} MiB, torch is {torch}.")
    typer.echo("Latencies are those at half the rate, less the engine's own at that rate.")
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
