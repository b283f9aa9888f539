"""Whether the load generator could keep up with what it was asked to do. Pure."""

import math

from outrider.loadtest.measure import Summary

MOST_LOOP_LAG = 0.010
"""Seconds (p99) that the event loop may be late: so late may a chunk be stamped."""

MOST_SCHEDULE_LAG = 0.010
"""Seconds (p99) that a request may be sent after it was due through the client's own fault."""

MOST_PROCESSOR_LOAD = 0.9
"""Part of one core that a process of the client may use before it is the bottleneck."""


def faults(summary: Summary, *, has_schedule: bool) -> tuple[str, ...]:
    """One sentence for each reason why the run measured the client rather than the server; none in a valid run.

    Without a schedule (closed loops and bursts, where many requests are due at the same moment) the lag behind it says
    nothing.
    """
    loop_lag = summary.latencies["client_loop_lag"].percentiles[99.0]
    schedule_lag = summary.latencies["schedule_lag"].percentiles[99.0]
    load = summary.highest_processor_load
    checks = (
        (loop_lag, MOST_LOOP_LAG, f"its event loop lagged by {_milliseconds(loop_lag)} (p99)"),
        (
            schedule_lag if has_schedule else 0.0,
            MOST_SCHEDULE_LAG,
            f"it sent requests {_milliseconds(schedule_lag)} (p99) after they were due",
        ),
        (load, MOST_PROCESSOR_LOAD, f"it used {load:.0%} of a core"),
    )
    remedy = "use --processes, another machine, or less load"
    return tuple(
        f"the load generator was the bottleneck: {fault}; {remedy}" for value, most, fault in checks if value > most
    )


def _milliseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.1f} ms"
