"""When requests are due. Pure: knows nothing of clocks, sockets or what is sent."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from outrider.loadtest.errors import InvalidOptionError

RampStrategy = Literal["linear", "exponential"]


@dataclass(frozen=True, slots=True)
class Ramp:
    """Requests per second that change from the first request to the last, by their number, as in vLLM."""

    strategy: RampStrategy
    start: float
    end: float

    def rate(self, progress: float) -> float:
        """Requests per second when this part (0 to 1) of the requests has come."""
        if self.strategy == "linear":
            return self.start + (self.end - self.start) * progress
        return self.start * math.exp(math.log(self.end / self.start) * progress)


@dataclass(frozen=True, slots=True)
class Stage:
    """So many requests per second for so many seconds."""

    rate: float
    seconds: float


def arrival_offsets(num_requests: int, request_rate: float, burstiness: float, seed: int) -> list[float]:
    """Seconds from the start at which each request is due, in order.

    Gaps are drawn from a gamma distribution with shape `burstiness` and mean `1 / request_rate`: a Poisson process
    at 1, burstier below, smoother above, evenly spaced at infinity. Unlike vLLM's, the schedule is not stretched to end
    at exactly `num_requests / request_rate`, which would make it no Poisson process. At an infinite rate all are due at
    once.
    """
    if math.isinf(request_rate):
        return [0.0] * num_requests
    gaps = _unit_gaps(burstiness, seed)
    now = 0.0
    return [now := now + gap / request_rate for gap in islice(gaps, num_requests)]


def ramp_offsets(num_requests: int, ramp: Ramp, burstiness: float, seed: int) -> list[float]:
    """As `arrival_offsets`, at the rate that the ramp has come to with each request."""
    gaps = _unit_gaps(burstiness, seed)
    last = max(num_requests - 1, 1)
    now = 0.0
    return [now := now + gap / ramp.rate(number / last) for number, gap in enumerate(islice(gaps, num_requests))]


def stage_offsets(stages: Sequence[Stage], burstiness: float, seed: int) -> list[float]:
    """All that become due while the stages last. A gap that a change of rate cuts goes on at the new rate."""
    gaps = _unit_gaps(burstiness, seed)
    offsets: list[float] = []
    begin, gap = 0.0, next(gaps)
    for stage in stages:
        now, end = begin, begin + stage.seconds
        while stage.rate and now + gap / stage.rate < end:
            now += gap / stage.rate
            offsets.append(now)
            gap = next(gaps)
        gap -= (end - now) * stage.rate
        begin = end
    return offsets


def parse_stages(text: str) -> tuple[Stage, ...]:
    """`2:30,8:30`: two requests per second for 30 seconds, then eight. Raises InvalidOptionError."""
    stages: list[Stage] = []
    for part in text.split(","):
        rate, _, seconds = part.partition(":")
        try:
            stages.append(Stage(float(rate), float(seconds)))
        except ValueError as error:
            raise InvalidOptionError(f"--stages {text}: write RATE:SECONDS,RATE:SECONDS") from error
        if not (0 <= stages[-1].rate < math.inf and 0 < stages[-1].seconds < math.inf):
            raise InvalidOptionError(f"--stages {text}: rates must not be negative, and seconds above 0")
    return tuple(stages)


def _unit_gaps(burstiness: float, seed: int) -> Iterator[float]:
    """Gaps of mean 1. A stream of its own: changing the dataset does not change the arrivals."""
    generator = random.Random(f"arrivals {seed}")  # noqa: S311 (reproducible, not secret)
    while True:
        yield 1.0 if math.isinf(burstiness) else generator.gammavariate(burstiness, 1 / burstiness)
