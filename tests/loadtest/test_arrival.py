"""The arrival schedule."""

import math
from itertools import pairwise
from statistics import fmean, pstdev, pvariance

import pytest

from outrider.loadtest.arrival import arrival_offsets


def gaps(offsets: list[float]) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *offsets])]


def test_poisson_arrivals_disperse_like_a_poisson_process() -> None:
    """The number of arrivals in a second varies by as much as its mean."""
    offsets = arrival_offsets(100_000, request_rate=100, burstiness=1.0, seed=1)
    counts = [0] * int(offsets[-1])
    for offset in offsets:
        if offset < len(counts):
            counts[int(offset)] += 1

    assert pvariance(counts) / fmean(counts) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_mean_and_spread_asked_for(burstiness: float) -> None:
    """A gamma distribution of shape b varies by its mean over the root of b."""
    intervals = gaps(arrival_offsets(50_000, request_rate=20, burstiness=burstiness, seed=2))

    assert fmean(intervals) == pytest.approx(1 / 20, rel=0.03)
    assert pstdev(intervals) / fmean(intervals) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_an_infinite_rate_makes_everything_due_at_once() -> None:
    """It is vLLM's default."""
    assert [0.0, 0.0, 0.0] == arrival_offsets(3, math.inf, burstiness=1.0, seed=0)


def test_a_seed_fixes_the_schedule() -> None:
    """Two runs offer the same load."""
    schedule = arrival_offsets(10, 5.0, burstiness=1.0, seed=3)

    assert schedule == arrival_offsets(10, 5.0, burstiness=1.0, seed=3)
    assert schedule != arrival_offsets(10, 5.0, burstiness=1.0, seed=4)
