"""The live progress bar, on standard error: where it is no terminal, nothing is drawn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from outrider.loadtest.record import Answer, Record


@contextmanager
def progress_bar(num_requests: int, *, is_shown: bool) -> Iterator[Callable[[Record], None]]:
    """Yields what to call with each record."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[tokens]} tokens, {task.fields[failed]} failed"),
    )
    # Redrawn seldom: the thread that draws takes its time from the thread that measures.
    bar = Progress(
        *columns, console=console, refresh_per_second=4, transient=True, disable=not (is_shown and console.is_terminal)
    )
    with bar:
        task = bar.add_task("Requests", total=num_requests, tokens=0, failed=0)
        num_tokens = num_failed = 0

        def advance(record: Record) -> None:
            nonlocal num_tokens, num_failed
            if isinstance(record.outcome, Answer):
                num_tokens += record.outcome.num_output_tokens
            else:
                num_failed += 1
            bar.update(task, advance=1, tokens=num_tokens, failed=num_failed)

        yield advance
