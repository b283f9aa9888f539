"""The arrival schedule."""

import math
from itertools import pairwise
from statistics import fmean, pstdev, pvariance

import pytest

from outrider.loadtest.arrival import Ramp, arrival_offsets, parse_stages, ramp_offsets, stage_offsets
from outrider.loadtest.errors import InvalidOptionError


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


def test_an_infinite_burstiness_spaces_arrivals_evenly() -> None:
    """A constant rate."""
    assert arrival_offsets(3, 10.0, math.inf, seed=0) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("strategy", "expected"), [("linear", [1, 2, 3]), ("exponential", [1, math.sqrt(3), 3])])
def test_a_ramp_reaches_its_end_with_the_last_request(strategy: str, expected: list[float]) -> None:
    """The rate changes by the number of the request, as in vLLM."""
    intervals = gaps(ramp_offsets(3, Ramp(strategy, 1.0, 3.0), math.inf, seed=0))

    assert [1 / interval for interval in intervals] == pytest.approx(expected)


def test_stages_bring_what_their_rates_and_times_say() -> None:
    """Two a second for five seconds, none for five, four a second for five; a cut gap goes on at the new rate."""
    offsets = stage_offsets(parse_stages("2:5,0:5,4:5"), math.inf, seed=0)
    counts = [sum(start <= offset < start + 5 for offset in offsets) for start in (0, 5, 10)]

    assert [9, 0, 20] == counts


def test_stages_disperse_like_a_poisson_process() -> None:
    """A change of rate adds and takes nothing."""
    offsets = stage_offsets(parse_stages(",".join(["50:1,150:1"] * 300)), 1.0, seed=5)

    assert len(offsets) == pytest.approx(60_000, rel=0.02)
    assert sum(int(offset) % 2 for offset in offsets) / len(offsets) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("text", ["2", "2:0", "-1:5", "a:b", "inf:3"])
def test_a_stage_that_is_none_is_refused(text: str) -> None:
    """The option is named."""
    with pytest.raises(InvalidOptionError, match="--stages"):
        parse_stages(text)
