"""The command line. Each sub-command has a file of its own and imports its part only when it runs."""

import typer

from outrider.cli.bench import bench
from outrider.cli.engine import engine
from outrider.cli.loadtest import loadtest
from outrider.cli.serve import gateway, serve

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(serve)
app.command()(gateway)
app.command()(engine)
app.command()(loadtest)
app.add_typer(bench, name="bench")


@app.callback()
def outrider() -> None:
    """An OpenAI-compatible language-model server."""


def main() -> None:
    """Entry point of the console script."""
    app()
