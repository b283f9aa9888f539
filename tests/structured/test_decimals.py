"""Ranges of integers and numbers, checked against arithmetic."""

import re
from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.structured.decimals import INTEGER, NUMBER, Bound, decimal_automaton, integer_regex, number_regex

INTEGERS = st.one_of(st.none(), st.integers(-1200, 1200), st.integers(-(10**25), 10**25))
HUNDREDTHS = st.integers(-40000, 40000).map(lambda n: Decimal(n) / 100)
DECIMALS = st.one_of(st.none(), st.integers(-30, 30).map(Decimal), HUNDREDTHS)


@settings(max_examples=300, deadline=None)
@given(INTEGERS, INTEGERS, st.lists(st.integers(-1500, 1500), max_size=20))
def test_integer_ranges_are_exact(minimum: int | None, maximum: int | None, values: list[int]) -> None:
    """An integer's text matches exactly when it lies within the bounds."""
    regex = integer_regex(minimum, maximum)
    edges = [bound + step for bound in (minimum, maximum) if bound is not None for step in (-1, 0, 1)]
    for value in [*values, *edges, 0]:
        inside = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
        if abs(value) < 10**20 or minimum is not None or maximum is not None:
            assert inside == bool(regex and re.fullmatch(regex, str(value))), value


@settings(max_examples=300, deadline=None)
@given(DECIMALS, DECIMALS, st.booleans(), st.booleans(), st.lists(HUNDREDTHS, max_size=20))
@example(Decimal("0.25"), Decimal(3), False, True, [])
def test_number_ranges_are_exact(
    low: Decimal | None, high: Decimal | None, low_open: bool, high_open: bool, values: list[Decimal]
) -> None:
    """A decimal's text matches exactly when it lies within the bounds, which may belong to the range or not."""
    if low is None and high is None:
        return
    regex = number_regex(
        None if low is None else Bound(low, low_open), None if high is None else Bound(high, high_open), 15
    )
    steps = [Decimal(step) for step in ("-1", "-0.000001", "0", "0.000001", "1")]
    edges = [bound + step for bound in (low, high) if bound is not None for step in steps]
    for value in [*values, *edges]:
        text = "0" if value == 0 else f"{value:f}"
        above = low is None or value > low or (value == low and not low_open)
        below = high is None or value < high or (value == high and not high_open)
        assert (above and below) == bool(regex and re.fullmatch(regex, text)), text


def test_numbers_are_json() -> None:
    """Without bounds any JSON number of bearable length will do."""
    for text in ("0", "-1", "12.50", "1e5", "-2.5E-3"):
        assert re.fullmatch(NUMBER, text), text
    for text in ("01", "+1", "1.", ".5", "1e", "1e999", "NaN", "1" * 30):
        assert not re.fullmatch(NUMBER, text), text
    assert not re.fullmatch(INTEGER, "-0")


def test_numbers_cannot_round_across_a_bound() -> None:
    """Digits stop before a double would round to the excluded bound."""
    automaton = decimal_automaton({"type": "number", "exclusiveMaximum": 1})

    assert automaton.accepts("0.999999")
    assert not automaton.accepts("0.99999999999999999999")
