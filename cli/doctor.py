"""`outrider doctor`: what this machine makes of each kernel."""

from typing import Annotated

import typer

from outrider.cli import options


def doctor(
    threads: options.Threads = None,
    measure: Annotated[bool, typer.Option(help="Measure the operations, too; takes some seconds.")] = True,
) -> None:
    """Tell which implementation each operation uses here, why, and how fast it is beside its definition and memory."""
    options.wait_passively()
    import torch
    from rich.console import Console
    from rich.table import Table

    from outrider.engine.config import default_num_threads
    from outrider.kernels import survey
    from outrider.telemetry.logs import configure_logging

    configure_logging("warning", "text")
    torch.set_num_threads(threads or default_num_threads(100_000_000))
    console = Console()
    for name, value in survey.machine().items():
        console.print(f"[bold]{name}:[/] {value}", highlight=False)
    if not measure:
        return
    with console.status("Measuring ..."):
        bandwidth = survey.read_bandwidth()
        findings = survey.survey()
    console.print(f"[bold]memory:[/] {bandwidth / 1e9:.1f} GB/s read by all threads together", highlight=False)
    table = Table()
    for heading in ("operation", "runs in", "because", "us", "definition us", "ratio", "GB/s", "of memory"):
        table.add_column(heading, justify="left" if heading in {"operation", "runs in", "because"} else "right")
    for one in findings:
        table.add_row(
            one.operation,
            one.implementation,
            one.reason,
            f"{one.seconds * 1e6:.0f}",
            f"{one.reference_seconds * 1e6:.0f}",
            f"{one.reference_seconds / one.seconds:.1f}x",
            f"{one.bandwidth / 1e9:.1f}",
            f"{one.bandwidth / bandwidth:.0%}",
        )
    console.print(table)
