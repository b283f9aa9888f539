"""Percentiles, with and without infinite values."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.loadtest.distribution import distribution, percentile


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=50),
    st.floats(0, 100),
)
def test_finite_figures_are_those_of_numpy(values: list[float], percent: float) -> None:
    """The result is comparable with vLLM's, which uses numpy."""
    figures = distribution(values, [percent])

    assert figures.percentiles[percent] == pytest.approx(numpy.percentile(values, percent), rel=1e-9, abs=1e-6)
    assert figures.std == pytest.approx(numpy.std(values), rel=1e-6, abs=1e-6)
    assert figures.median == pytest.approx(numpy.median(values), rel=1e-9, abs=1e-6)


def test_a_percentile_is_infinite_once_it_touches_an_infinite_value() -> None:
    """Ten in a hundred failed, so P50 is known and P90, which lies between a success and a failure, is not."""
    ordered = [1.0] * 90 + [math.inf] * 10

    assert [1.0, math.inf, math.inf] == [percentile(ordered, percent) for percent in (50, 90, 99)]


def test_infinite_values_make_mean_and_spread_infinite_rather_than_nan() -> None:
    """A reader sees that something failed."""
    figures = distribution([1.0, math.inf, math.inf], [99])

    assert (math.inf, math.inf, math.inf) == (figures.mean, figures.median, figures.std)


def test_nothing_observed_is_no_zero() -> None:
    """A latency of zero would be a lie."""
    figures = distribution([], [99])

    assert figures.count == 0
    assert all(math.isnan(each) for each in (figures.mean, figures.median, figures.std, figures.percentiles[99]))
