"""The command line. Each sub-command has a file of its own and imports its part only when it runs."""

from importlib import metadata
from typing import Annotated

import typer

from outrider.cli.audit import audit
from outrider.cli.bench import bench
from outrider.cli.constraint import constraint
from outrider.cli.doctor import doctor
from outrider.cli.engine import engine
from outrider.cli.evaluate import evaluate
from outrider.cli.gateway_bench import gateway as bench_gateway
from outrider.cli.keys import keys
from outrider.cli.loadtest import app as loadtest
from outrider.cli.loadtest_crossover import compare, crossover
from outrider.cli.serve import gateway, serve
from outrider.cli.speculation import speculation
from outrider.cli.train import train

FROM_ENVIRONMENT = {"auto_envvar_prefix": "OUTRIDER"}  # each option also as OUTRIDER_ and its name

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command(context_settings=FROM_ENVIRONMENT)(serve)
app.command(context_settings=FROM_ENVIRONMENT)(gateway)
app.command()(engine)
app.command()(doctor)
app.command()(audit)
bench.command()(speculation)
bench.command()(constraint)
bench.command("gateway")(bench_gateway)
train.command()(evaluate)
app.add_typer(bench, name="bench")
app.add_typer(keys, name="keys")
app.add_typer(train, name="train")
loadtest.command()(compare)
loadtest.command()(crossover)
app.add_typer(loadtest, name="loadtest")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outrider {metadata.version('outrider')}")
        raise typer.Exit


@app.callback()
def outrider(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An OpenAI-compatible language-model server."""


def main() -> None:
    """Entry point of the console script."""
    app()
