"""The requests-per-minute limit: GCRA, the leaky bucket as one number. Pure: time is an argument."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may pass, and what to tell its sender. Times in seconds."""

    allowed: bool
    retry_after: float  # 0 when allowed; else a request after this long is allowed, if no other comes first
    remaining: int  # requests that would pass right now
    reset_after: float  # until as many pass as ever


class RequestLimit:
    """Lets `per_minute` requests through a minute, evenly refilled, with up to `burst` of them at once.

    `_arrival` is the theoretical arrival time of GCRA (ITU-T I.371): when the bucket will be empty again.
    """

    def __init__(self, per_minute: int, burst: int | None = None) -> None:
        self.per_minute = per_minute
        self.burst = burst or per_minute
        self._interval = 60.0 / per_minute
        self._arrival = -math.inf

    def take(self, now: float) -> Decision:
        """Decides on one request at monotonic time `now`; a request that is let through is counted."""
        # Half a nanosecond forgives the rounding of a client that waited exactly as long as it was told.
        capacity = self._interval * self.burst
        arrival = max(self._arrival, now) + self._interval
        wait = arrival - capacity - now
        if wait > 5e-10:
            return Decision(False, wait, 0, self._arrival - now)
        self._arrival = arrival
        remaining = int((capacity - (arrival - now)) / self._interval + 1e-9)
        return Decision(True, 0.0, remaining, arrival - now)


def rate_headers(limit: RequestLimit, decision: Decision) -> dict[str, str]:
    """OpenAI's rate headers, for answers of any kind."""
    return {
        "x-ratelimit-limit-requests": str(limit.burst),
        "x-ratelimit-remaining-requests": str(decision.remaining),
        "x-ratelimit-reset-requests": go_duration(decision.reset_after),
    }


def go_duration(seconds: float) -> str:
    """As OpenAI writes durations: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3g}s" if minutes else f"{rest:.4g}s"
