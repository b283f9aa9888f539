"""Distributions of latencies. Pure; infinite values stand for requests that never got their answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Distribution:
    """In the unit of its values. All NaN where there are none; infinite where the values that decide it are."""

    count: int
    mean: float
    median: float
    std: float
    percentiles: dict[float, float]


def distribution(values: Sequence[float], percentiles: Sequence[float]) -> Distribution:
    """Percentiles interpolate linearly and `std` is the population's, as in vLLM."""
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        mean=sum(ordered) / len(ordered) if ordered else math.nan,
        median=percentile(ordered, 50),
        std=_standard_deviation(ordered),
        percentiles={each: percentile(ordered, each) for each in percentiles},
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in ascending order: linear between the closest ranks, infinite as soon as the upper one is."""
    if not ordered:
        return math.nan
    rank = (len(ordered) - 1) * percent / 100
    lower, upper = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    # Infinity times zero would be NaN.
    return lower if lower == upper else lower + (upper - lower) * (rank - math.floor(rank))


def _standard_deviation(ordered: Sequence[float]) -> float:
    if not ordered:
        return math.nan
    if math.isinf(ordered[-1]):
        return math.inf
    mean = sum(ordered) / len(ordered)
    return math.sqrt(sum((value - mean) ** 2 for value in ordered) / len(ordered))
