"""Two runs side by side: how much each figure changed, and whether chance explains it. Pure, but for reading files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy
from numpy.typing import NDArray

from outrider.loadtest.errors import InvalidOptionError

RESAMPLES = 1000
Statistic = Callable[[NDArray[numpy.float64]], numpy.float64]

STATISTICS: dict[str, Statistic] = {
    "mean": numpy.mean,
    "p50": numpy.median,
    "p99": lambda values: numpy.percentile(values, 99),
}


class DetailedResult(msgspec.Struct):
    """What is compared of a file that was written with --save-detailed; times in seconds."""

    duration: float
    completed: int
    failed: int
    request_throughput: float
    output_throughput: float
    input_lens: list[int]
    output_lens: list[int]
    ttfts: list[float]
    itls: list[list[float]]
    errors: list[str]
    latencies: list[float] = []
    queue_times: list[float] = []
    valid: bool = True
    partial: bool = False

    def values(self) -> dict[str, list[float]]:
        """Milliseconds by metric, of the requests that succeeded; waits are counted from the intended start."""
        found: dict[str, list[float]] = {"ttft": [], "tpot": [], "e2el": []}
        for index, error in enumerate(self.errors):
            if error:
                continue
            queued = self.queue_times[index] if self.queue_times else 0.0
            ttft, decode = self.ttfts[index], sum(self.itls[index])
            latency = self.latencies[index] if self.latencies else ttft + decode
            found["ttft"].append((queued + ttft) * 1000)
            found["e2el"].append((queued + latency) * 1000)
            if self.output_lens[index] > 1:
                found["tpot"].append((latency - ttft) / (self.output_lens[index] - 1) * 1000)
        return found


@dataclass(frozen=True, slots=True)
class Change:
    """Of one figure: both values in milliseconds, the difference, and where 95 of 100 resampled ones lie."""

    name: str
    before: float
    after: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better` and `worse` where the interval leaves zero out."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if self.after < self.before else "worse"


def read_result(path: Path) -> DetailedResult:
    """Raises InvalidOptionError for a file that has no figures for each request."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidOptionError(f"{path}: {error.strerror}") from error
    try:
        fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"{path}: not a result of a load test ({error})") from error
    if "ttfts" not in fields:
        raise InvalidOptionError(f"{path}: has no figures for each request: measure again with --save-detailed")
    try:
        return msgspec.convert(fields, DetailedResult)
    except msgspec.ValidationError as error:
        raise InvalidOptionError(f"{path}: not a result of a load test ({error})") from error


def compare(before: DetailedResult, after: DetailedResult, seed: int = 0) -> list[Change]:
    """Each metric by mean, median and 99th percentile, with the bootstrap's percentile interval of the difference.

    Requests are resampled as if they were independent, which those of one run are not wholly: chance may do more than
    the interval says.
    """
    first, second = before.values(), after.values()
    generator = numpy.random.default_rng(seed)
    changes = []
    for metric in first:
        values = [numpy.asarray(each[metric]) for each in (first, second)]
        if not (values[0].size and values[1].size):
            continue
        differences: dict[str, list[float]] = {name: [] for name in STATISTICS}
        for _ in range(RESAMPLES):
            drawn = [generator.choice(each, each.size) for each in values]
            for name, statistic in STATISTICS.items():
                differences[name].append(float(statistic(drawn[1]) - statistic(drawn[0])))
        for name, statistic in STATISTICS.items():
            low, high = numpy.percentile(differences[name], [2.5, 97.5])
            figures = [float(statistic(each)) for each in values]
            changes.append(Change(f"{name} {metric} (ms)", figures[0], figures[1], float(low), float(high)))
    return changes
