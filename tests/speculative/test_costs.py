"""Costs by size: learned, never falling, and true to a machine whose speed drifts."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.costs import Costs


def test_nothing_known_costs_nothing() -> None:
    """So that what was never tried is tried."""
    assert Costs().seconds(5) == 0.0


def test_sizes_between_known_ones_lie_on_a_line() -> None:
    """And beyond the largest one they are in proportion."""
    costs = Costs({1: 1.0, 3: 2.0, 8: 4.0})

    assert [costs.seconds(size) for size in (1, 2, 3, 8, 16)] == [1.0, 1.5, 2.0, 4.0, 8.0]


def test_what_a_batch_shares_grows_more_slowly_beyond_what_is_known() -> None:
    """So that a batch is tried at all."""
    assert Costs({4: 1.0}, growth=0.5).seconds(16) == 2.0


def test_a_size_comes_to_cost_what_it_takes() -> None:
    """Whatever was measured beforehand."""
    costs = Costs({1: 1.0, 8: 2.0})
    for _ in range(400):
        costs.learn(1, 1.5)
        costs.learn(8, 6.0)

    assert abs(costs.seconds(1) - 1.5) < 0.1
    assert abs(costs.seconds(8) - 6.0) < 0.3


def test_a_slower_machine_makes_all_sizes_dearer() -> None:
    """Those too that were not met since."""
    costs = Costs({1: 1.0, 8: 2.0})
    for _ in range(100):
        costs.learn(1, 1.0)
        costs.learn(8, 2.0)
    for _ in range(50):
        costs.learn(1, 3.0)

    assert costs.seconds(8) > 1.4 * costs.seconds(1)


def test_one_outlier_changes_little() -> None:
    """A pause of the machine is no cost of the size."""
    costs = Costs({1: 1.0})
    for _ in range(50):
        costs.learn(1, 1.0)
    costs.learn(1, 1000.0)

    assert costs.seconds(1) < 1.6


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(1e-4, 10.0)), max_size=60))
def test_more_never_costs_less(history: list[tuple[int, float]]) -> None:
    """Over all sizes, after any history."""
    costs = Costs({1: 0.5, 16: 0.7})
    for size, seconds in history:
        costs.learn(size, seconds)

    line = [costs.seconds(size) for size in range(1, 300)]
    assert all(0.0 < low <= high * (1 + 1e-12) for low, high in pairwise(line))
