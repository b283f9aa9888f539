"""The options of `outrider serve` and `outrider gateway` about traces and metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outrider.cli import options
from outrider.cli.config_file import place

if TYPE_CHECKING:
    from outrider.telemetry.options import TraceOptions

TraceFile = Annotated[Path | None, typer.Option(help="Append each span to this file, one JSON object a line.")]
TraceContext = Annotated[
    str,
    typer.Option(
        help="What a caller's traceparent is worth: trust (our spans join its trace, its sampling flag decides), "
        "link (a trace of our own that links to it), ignore."
    ),
]
TraceShare = Annotated[
    float, typer.Option(help="Share of ordinary requests whose traces are sent, 0 to 1. Errors and slow ones always.")
]
TraceSlow = Annotated[float, typer.Option(help="Seconds after which a request counts as slow.")]
RecentTraces = Annotated[int, typer.Option(help="How many requests GET /traces shows, to this machine alone; 0: none.")]
GenAiNames = Annotated[str, typer.Option(help="Whose names of the GenAI conventions are sent: v1.41, latest, both.")]
MetricsCompat = Annotated[
    str | None,
    typer.Option(help="`vllm`: /metrics has vLLM's names, too, for dashboards and autoscalers."),
]


def trace_options(context: typer.Context) -> "TraceOptions":
    """What a command's options say, or the end of the program with one line that says what is wrong."""
    from outrider.telemetry.options import TraceOptions

    given = context.params
    try:
        return TraceOptions(
            trace_file=given["trace_file"],
            recent=given["recent_traces"],
            context=given["trace_context"],
            share=given["trace_share"],
            slow_seconds=given["trace_slow"],
            profile=given["genai_names"],
        )
    except ValueError as error:
        options.fail(f"{place(context, str(error).split()[0])}{error}")
