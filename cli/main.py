"""The command line. Each sub-command has a file of its own and imports its part only when it runs."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def outrider() -> None:
    """An OpenAI-compatible language-model server."""


def main() -> None:
    """Entry point of the console script."""
    app()
