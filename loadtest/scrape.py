"""What the server says of itself while it is measured: its /metrics, read once in a while on a thread of its own."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from outrider.loadtest.client import clock

GAUGES = {
    "outrider_requests_running": "running",
    "vllm:num_requests_running": "running",
    "outrider_requests_waiting": "waiting",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_usage",
    "vllm:gpu_cache_usage_perc": "kv_usage",
}
"""Names of gauges by what a report calls them."""

KV_BLOCKS = ("outrider_kv_blocks_used", "outrider_kv_blocks")


@dataclass(frozen=True, slots=True)
class ServerSample:
    """Some of `running` and `waiting` (requests) and `kv_usage` (0 to 1), and when they were read."""

    at: float
    gauges: dict[str, float]


@dataclass(slots=True)
class ServerSeries:
    """Grows while the server is watched; empty for one without /metrics."""

    samples: list[ServerSample] = field(default_factory=list)


def parse_metrics(text: str) -> dict[str, float]:
    """Prometheus text: the sum of each name over its labels. What is no sample is skipped."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, labels, rest = line.partition("{")
        number = rest.rpartition("}")[2] if labels else line.partition(" ")[2]
        try:
            value = float(number.split()[0])
        except (ValueError, IndexError):
            continue
        name = name if labels else line.partition(" ")[0]
        totals[name] = totals.get(name, 0.0) + value
    return totals


def gauges(totals: Mapping[str, float]) -> dict[str, float]:
    """What a report shows, of the servers whose names are known."""
    found = {short: totals[name] for name, short in GAUGES.items() if name in totals}
    used, blocks = (totals.get(name) for name in KV_BLOCKS)
    if used is not None and blocks:
        found["kv_usage"] = used / blocks
    return found


@contextmanager
def watch(base_url: str, interval: float) -> Iterator[ServerSeries]:
    """Samples until the end; an interval of 0 watches nothing. A server that has no metrics is asked once."""
    series = ServerSeries()
    stop = threading.Event()

    def sample() -> None:
        while not stop.is_set():
            found = _read(f"{base_url}/metrics")
            if not found:
                return
            series.samples.append(ServerSample(clock(), found))
            stop.wait(interval)

    thread = threading.Thread(target=sample, name="scrape", daemon=True)
    if interval:
        thread.start()
    try:
        yield series
    finally:
        stop.set()
        if interval:
            thread.join(timeout=1)


def _read(url: str) -> dict[str, float]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 (the address was checked to be http)
            return gauges(parse_metrics(response.read().decode(errors="replace")))
    except (urllib.error.URLError, OSError, ValueError):
        return {}
