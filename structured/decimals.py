r"""The decimal text of integers and numbers within bounds.

Ranges become regular expressions of groups, classes, `?` and `{m,n}` alone, which Python's `re` reads too. Digits are
bounded even where the schema is not: an endless run of them is no answer.

The range 0.25 <= x < 3 splits by integer part, then by fraction digit:

    0\.(?:2(?:[5-9]|[5-9][0-9]...)|[3-9]...)   1(\.any)?   2(\.any)?
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from outrider.structured.automaton import Automaton, build
from outrider.structured.limits import MAX_NUMBER_DIGITS
from outrider.structured.pattern import parse_own

_FREE_DIGITS: Final = 20  # of an integer part that the schema leaves free
_FRACTION_DIGITS: Final = 6  # offered beside a bound, as long as all digits fit a double

NUMBER: Final = r"-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,20})?(?:[eE][+\-]?[0-9]{1,2})?"
INTEGER: Final = r"(?:0|-?[1-9][0-9]{0,19})"


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range."""

    value: Decimal
    exclusive: bool = False

    @property
    def digits(self) -> tuple[int, int]:
        """How many digits stand before and behind the decimal point."""
        _, digits, exponent = self.value.as_tuple()
        assert isinstance(exponent, int), "bounds are finite"
        return max(1, len(digits) + exponent), max(0, -exponent)


def decimal_automaton(schema: dict[str, Any]) -> Automaton:
    """The text of the values of a normalised integer or number schema. Raises TooComplexError."""
    return _automaton(decimal_regex(schema))


def decimal_regex(schema: dict[str, Any]) -> str:
    """The same as an expression of ours (`parse_own`)."""
    if schema["type"] == "integer":
        regex = integer_regex(schema.get("minimum"), schema.get("maximum"))
    else:
        regex = number_regex(*bounds(schema), MAX_NUMBER_DIGITS)
    assert regex is not None, "the audit refuses empty ranges"
    return regex


@lru_cache(maxsize=256)
def _automaton(regex: str) -> Automaton:
    return build(parse_own(regex))


def integer_regex(minimum: int | None, maximum: int | None) -> str | None:
    """Decimal text of the integers in the closed range; None when there are none."""
    if minimum is None and maximum is None:
        return INTEGER
    longest = max(len(str(abs(bound))) for bound in (minimum, maximum) if bound is not None)
    largest = 10 ** max(_FREE_DIGITS, longest + 1) - 1
    low = -largest if minimum is None else minimum
    high = largest if maximum is None else maximum
    if low > high:
        return None
    parts = []
    if low < 0:
        parts.append("-" + _naturals(max(1, -high), -low))
    if high >= 0:
        parts.append(_naturals(max(0, low), high))
    return _either(parts)


def number_regex(minimum: Bound | None, maximum: Bound | None, max_digits: int) -> str | None:
    """Decimal text, without exponent, of the numbers in the range; None when there are none.

    `max_digits` bounds the digits of a number near a bound, so that parsing cannot round it across. The caller
    checks that the bounds themselves fit.
    """
    if minimum is None and maximum is None:
        return NUMBER
    digits = [bound.digits for bound in (minimum, maximum) if bound is not None]
    before, behind = max(d[0] for d in digits), max(d[1] for d in digits)
    width = max(behind, min(_FRACTION_DIGITS, max_digits - before))
    zero = Bound(Decimal(0))
    parts = []
    if minimum is None or minimum.value < 0:
        low = zero if maximum is None or maximum.value >= 0 else _negated(maximum)
        low = Bound(low.value, exclusive=low.exclusive or low.value == 0)  # "-0" is left out
        negative = _magnitudes(low, None if minimum is None else _negated(minimum), width)
        parts += [f"-{negative}"] if negative else []
    if maximum is None or maximum.value >= 0:
        low = zero if minimum is None or minimum.value < 0 else minimum
        positive = _magnitudes(low, maximum, width)
        parts += [positive] if positive else []
    return _either(parts) if parts else None


def bounds(schema: dict[str, Any]) -> tuple[Bound | None, Bound | None]:
    """The ends of a number schema's range, the stricter ones where it names two."""
    low = [Bound(decimal(schema[key]), key != "minimum") for key in ("minimum", "exclusiveMinimum") if key in schema]
    high = [Bound(decimal(schema[key]), key != "maximum") for key in ("maximum", "exclusiveMaximum") if key in schema]
    return (
        max(low, key=lambda bound: (bound.value, bound.exclusive), default=None),
        min(high, key=lambda bound: (bound.value, not bound.exclusive), default=None),
    )


def decimal(number: float) -> Decimal:
    """The shortest decimal that reads as this number."""
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number)).normalize()


def _negated(bound: Bound) -> Bound:
    return Bound(-bound.value, bound.exclusive)


def _naturals(low: int, high: int) -> str:
    """Decimal text of low..high, 0 <= low <= high."""
    parts = []
    if low == 0:
        parts.append("0")
        low = 1
    first, last = len(str(low)), len(str(high))
    if low > high:
        pass
    elif first == last:
        parts.append(_same_length(str(low), str(high)))
    else:
        parts.append(_same_length(str(low), "9" * first))
        if last - first > 1:
            parts.append(f"[1-9][0-9]{{{first},{last - 2}}}")
        parts.append(_same_length("1" + "0" * (last - 1), str(high)))
    return _either(parts)


def _same_length(low: str, high: str) -> str:
    """Digit strings between two of equal length, bounds included."""
    length = len(low)
    if low == "0" * length and high == "9" * length:
        return f"[0-9]{{{length}}}" if length else ""
    if low[0] == high[0]:
        return low[0] + _same_length(low[1:], high[1:])
    start, stop = int(low[0]), int(high[0])
    parts = []
    if low[1:].strip("0"):
        parts.append(low[0] + _same_length(low[1:], "9" * (length - 1)))
        start += 1
    if high[1:].strip("9"):
        parts.append(high[0] + _same_length("0" * (length - 1), high[1:]))
        stop -= 1
    if start <= stop:
        parts.append(_digit(start, stop) + _same_length("0" * (length - 1), "9" * (length - 1)))
    return _either(parts)


def _magnitudes(low: Bound, high: Bound | None, width: int) -> str | None:
    """Decimal text of the numbers in a range that starts at zero or above, with up to `width` fraction digits."""
    if high is not None and low.value > high.value:
        return None
    first = int(low.value)
    below = _fraction(low, width)
    above = None if high is None else _fraction(high, width)
    if high is not None and first == int(high.value):
        return _with_fraction(str(first), _digits(below, low.exclusive, above, high.exclusive, width))
    parts = [_with_fraction(str(first), _digits(below, low.exclusive, None, False, width))]
    between_end = 10 ** max(_FREE_DIGITS, len(str(first)) + 1) - 1 if high is None else int(high.value) - 1
    if first < between_end:
        parts.append(_with_fraction(_naturals(first + 1, between_end), _digits(None, False, None, False, width)))
    if high is not None:
        parts.append(_with_fraction(str(int(high.value)), _digits(None, False, above, high.exclusive, width)))
    kept = [part for part in parts if part is not None]
    return _either(kept) if kept else None


def _fraction(bound: Bound, width: int) -> str:
    """The fraction digits of a bound, padded to `width`."""
    return f"{bound.value % 1:.{width}f}"[2:] if width else ""


def _with_fraction(integers: str, fraction: tuple[str | None, bool]) -> str | None:
    digits, may_end = fraction
    if digits is None:
        return integers if may_end else None
    return integers + (rf"(?:\.{digits})?" if may_end else rf"\.{digits}")


def _digits(
    low: str | None, low_exclusive: bool, high: str | None, high_exclusive: bool, width: int
) -> tuple[str | None, bool]:
    """Further fraction digits between two padded bounds (None: already inside), and whether there need be none."""
    may_end = (low is None or (not low.strip("0") and not low_exclusive)) and (
        high is None or bool(high.strip("0")) or not high_exclusive
    )
    if width == 0:
        return None, may_end
    if low is None and high is None:
        return f"[0-9]{{1,{width}}}", may_end
    start, stop = int(low[0]) if low else 0, int(high[0]) if high else 9
    parts = []
    if low and high and start == stop:
        parts.append(_then(str(start), _digits(low[1:], low_exclusive, high[1:], high_exclusive, width - 1)))
    else:
        if low:
            parts.append(_then(str(start), _digits(low[1:], low_exclusive, None, False, width - 1)))
            start += 1
        if high:
            parts.append(_then(str(stop), _digits(None, False, high[1:], high_exclusive, width - 1)))
            stop -= 1
        if start <= stop:
            parts.append(_then(_digit(start, stop), _digits(None, False, None, False, width - 1)))
    kept = [part for part in parts if part is not None]
    return (_either(kept) if kept else None), may_end


def _then(head: str, rest: tuple[str | None, bool]) -> str | None:
    digits, may_end = rest
    if digits is None:
        return head if may_end else None
    return head + (f"(?:{digits})?" if may_end else digits)


def _digit(start: int, stop: int) -> str:
    return str(start) if start == stop else f"[{start}-{stop}]"


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
