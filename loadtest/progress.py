"""The live progress bar, on standard error: where it is no terminal, nothing is drawn."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from outrider.loadtest.record import Answer, Record

RECENT = 32
"""Answers whose median TTFT is shown."""


@contextmanager
def progress_bar(num_requests: int, *, is_shown: bool) -> Iterator[Callable[[Record], None]]:
    """Yields what to call with each record."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[tokens]} tokens, {task.fields[rate]:.0f} tok/s, TTFT {task.fields[ttft]:.0f} ms"),
        TextColumn("{task.fields[failed]} failed"),
    )
    # Redrawn seldom: the thread that draws takes its time from the thread that measures.
    bar = Progress(
        *columns, console=console, refresh_per_second=4, transient=True, disable=not (is_shown and console.is_terminal)
    )
    with bar:
        task = bar.add_task("Requests", total=num_requests, tokens=0, rate=0.0, ttft=0.0, failed=0)
        num_tokens = num_failed = 0
        started: float | None = None
        firsts: deque[float] = deque(maxlen=RECENT)

        def advance(record: Record) -> None:
            nonlocal num_tokens, num_failed, started
            if record.is_warmup:
                return
            started = record.sent if started is None else started
            if isinstance(record.outcome, Answer):
                num_tokens += record.outcome.num_output_tokens
                firsts.extend(chunk.received - record.sent for chunk in record.outcome.chunks[:1])
            else:
                num_failed += 1
            rate = num_tokens / max(record.ended - started, 1e-9)
            ttft = median(firsts) * 1000 if firsts else 0.0
            bar.update(task, advance=1, tokens=num_tokens, rate=rate, ttft=ttft, failed=num_failed)

        yield advance
