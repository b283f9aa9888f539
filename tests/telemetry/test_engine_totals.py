"""Running totals of engines that come, go and restart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.telemetry.engine_totals import EngineBook, EngineLevels, EngineTotals


def test_a_total_counts_once() -> None:
    """Reports repeat what they said before."""
    book = EngineBook()
    first = book.enter("a", EngineLevels(), EngineTotals(steps=5, step_seconds=0.5, draft_tokens={"ngram": 3}))
    second = book.enter("a", EngineLevels(), EngineTotals(steps=7, step_seconds=0.75, draft_tokens={"ngram": 3}))

    assert (first.steps, first.step_seconds, first.draft_tokens) == (5, 0.5, {"ngram": 3})
    assert (second.steps, second.step_seconds, second.draft_tokens) == (2, 0.25, {"ngram": 0})


def test_a_restart_counts_everything_anew() -> None:
    """One count that fell tells of the restart, also for one that has outgrown its old value since."""
    book = EngineBook()
    book.enter("a", EngineLevels(), EngineTotals(steps=100, preemptions=1))
    added = book.enter("a", EngineLevels(), EngineTotals(steps=10, preemptions=4))

    assert (added.steps, added.preemptions) == (10, 4)


def test_a_method_that_vanished_tells_of_a_restart() -> None:
    """A fresh engine has not drafted yet, and does not name the method."""
    book = EngineBook()
    book.enter("a", EngineLevels(), EngineTotals(steps=1, draft_tokens={"ngram": 3}))
    added = book.enter("a", EngineLevels(), EngineTotals(steps=2))

    assert (added.steps, added.draft_tokens) == (2, {})


@pytest.mark.parametrize("name", ["draft_steps", "dropped_drafts", "tokens_by_origin"])
def test_each_labelled_count_tells_of_a_restart(name) -> None:
    """Whichever of them fell."""
    book = EngineBook()
    book.enter("a", EngineLevels(), EngineTotals(steps=1, **{name: {"x": 5}}))
    grown = book.enter("a", EngineLevels(), EngineTotals(steps=1, **{name: {"x": 7, "y": 1}}))
    fallen = book.enter("a", EngineLevels(), EngineTotals(steps=9, **{name: {"x": 6}}))

    assert getattr(grown, name) == {"x": 2, "y": 1}
    assert (fallen.steps, getattr(fallen, name)) == (9, {"x": 6})


def test_an_engine_that_lost_its_connection_is_the_same_engine() -> None:
    """Its levels leave the sum, its totals go on where they were."""
    book = EngineBook()
    book.enter("a", EngineLevels(running=2), EngineTotals(steps=5))
    book.enter("b", EngineLevels(running=3), EngineTotals(steps=5))
    book.leave("a")

    assert book.levels() == EngineLevels(running=3)
    assert book.enter("a", EngineLevels(running=1), EngineTotals(steps=6)).steps == 1
    assert book.levels() == EngineLevels(running=4)


@given(st.lists(st.lists(st.integers(min_value=1, max_value=50), min_size=1), min_size=1))
def test_nothing_is_lost_or_doubled_over_restarts(lives: list[list[int]]) -> None:
    """The sum of what is added is the sum of what the engine did in all its lives."""
    book = EngineBook()
    added = 0
    for life in lives:
        # Each life begins with the report of an engine that has done nothing.
        reports = [sum(life[:count]) for count in range(len(life) + 1)]
        added += sum(book.enter("a", EngineLevels(), EngineTotals(steps=steps)).steps for steps in reports)

    assert added == sum(map(sum, lives))
