"""Several runs one after the other, each with another load; a sweep of rates ends where the server is saturated."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.result import per_second
from outrider.loadtest.run import Outcome

SATURATED_BELOW = 0.8
"""Part of the offered rate that a server that keeps up answers at least."""

Run = Callable[[LoadtestConfig], Outcome]


def concurrency_sweep(config: LoadtestConfig, levels: Sequence[int], run: Run) -> Iterator[Outcome]:
    """Closed loops of so many users each. Raises InvalidOptionError where the options say when requests come."""
    if config.has_arrivals:
        raise InvalidOptionError("--sweep-concurrency makes closed loops: leave out what says when requests come")
    for level in levels:
        outcome = run(replace(config, max_concurrency=level))
        yield outcome
        if outcome.findings.is_partial:
            return


def rate_sweep(config: LoadtestConfig, rates: Sequence[float], run: Run) -> Iterator[Outcome]:
    """Rates in requests per second, ascending; the first that the server falls behind is the last."""
    if config.has_arrivals:
        raise InvalidOptionError("--sweep-rates says when requests come: leave out what says so too")
    for rate in sorted(rates):
        outcome = run(replace(config, request_rate=rate))
        yield outcome
        if outcome.findings.is_partial or is_saturated(outcome):
            return


def is_saturated(outcome: Outcome) -> bool:
    """Whether answers came at much less than the rate at which requests did (drain included)."""
    due = [record.due for record in outcome.findings.measurement.measured]
    if len(due) < 2:
        return False
    offered = (len(due) - 1) / (max(due) - min(due)) if max(due) > min(due) else float("inf")
    summary = outcome.summary
    return per_second(summary.num_completed, summary.duration) < SATURATED_BELOW * offered
