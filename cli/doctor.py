"""`outrider doctor`: what this machine makes of each kernel."""

from typing import Annotated

import typer

from outrider.cli import options


def doctor(
    threads: options.Threads = None,
    measure: Annotated[bool, typer.Option(help="Measure the operations, too; takes some seconds.")] = True,
) -> None:
    """Tell which build of each kernel this machine runs and why, and how fast it is beside plain torch and memory."""
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
    with console.status("Compiling what is missing ..."):
        builds = survey.builds()
    table = Table("kernel", "build", "because")
    for name, build in builds.items():
        table.add_row(name, build.name, build.reason)
    console.print(table)
    for folder in sorted({str(build.path.parent) for build in builds.values() if build.path}):
        console.print(f"[bold]libraries:[/] {folder}", highlight=False, soft_wrap=True)
    if not measure:
        return
    with console.status("Measuring ..."):
        bandwidth = survey.read_bandwidth()
        findings = survey.survey()
    console.print(f"[bold]memory:[/] {bandwidth / 1e9:.1f} GB/s read by all threads together", highlight=False)
    table = Table("operation", "build")
    for heading in ("us", "plain us", "ratio", "GB/s", "of memory"):
        table.add_column(heading, justify="right")
    for one in findings:
        table.add_row(
            one.operation,
            one.build,
            f"{one.seconds * 1e6:.0f}",
            f"{one.reference_seconds * 1e6:.0f}",
            f"{one.reference_seconds / one.seconds:.1f}x",
            f"{one.bandwidth / 1e9:.1f}",
            f"{one.bandwidth / bandwidth:.0%}",
        )
    console.print(table)
