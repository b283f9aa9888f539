"""Normalisation of the keywords of one type: each is kept, proved to have no effect, or refused.

Called by the normaliser with a schema that the metaschema has accepted, so that values have the right JSON types.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from outrider.structured import limits
from outrider.structured.automaton import is_empty
from outrider.structured.decimals import bounds, number_regex
from outrider.structured.formats import FORMATS
from outrider.structured.objects import normalise_object
from outrider.structured.pattern import PatternError
from outrider.structured.references import pointer
from outrider.structured.strings import string_expression

if TYPE_CHECKING:
    from outrider.structured.normalise import Normaliser, Schema

_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MAX_MULTIPLES: Final = 256
_EMPTY_RANGE: Final = "leaves no value between the bounds: widen them"


def _integer(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    for keyword in _BOUNDS:
        if keyword in schema and abs(schema[keyword]) >= 10**limits.MAX_INTEGER_DIGITS:
            return walk.refuse(place, keyword, f"has more than {limits.MAX_INTEGER_DIGITS} digits: lower it")
    low, high = bounds(schema)
    minimum = maximum = None
    if low is not None:
        minimum = math.floor(low.value) + 1 if low.exclusive else math.ceil(low.value)
    if high is not None:
        maximum = math.ceil(high.value) - 1 if high.exclusive else math.floor(high.value)
    if minimum is not None and maximum is not None and minimum > maximum:
        return walk.refuse(place, "minimum" if "minimum" in schema else "exclusiveMinimum", _EMPTY_RANGE)
    if schema.get("multipleOf", 1) != 1:
        return _multiples(walk, schema["multipleOf"], minimum, maximum, place)
    ends = {"minimum": minimum, "maximum": maximum}
    return {"type": "integer", **{keyword: end for keyword, end in ends.items() if end is not None}}


def _multiples(walk: "Normaliser", step: float, minimum: int | None, maximum: int | None, place: str) -> "Schema":
    """Multiples within bounds are few enough to list."""
    if minimum is None or maximum is None or step != int(step) or (maximum - minimum) // step >= _MAX_MULTIPLES:
        return walk.refuse(
            place,
            "multipleOf",
            f"is enforced only for a whole number between bounds that are at most {_MAX_MULTIPLES} multiples apart",
        )
    step = int(step)
    values = list(range(-(-minimum // step) * step, maximum + 1, step))
    return {"enum": values} if values else walk.refuse(place, "multipleOf", _EMPTY_RANGE)


def _number(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    if "multipleOf" in schema:
        if schema["multipleOf"] == 1:
            return _integer(walk, schema, place)
        reason = "is not enforced for numbers with a fraction: use `integer` in a smaller unit, or remove it"
        return walk.refuse(place, "multipleOf", reason)
    low, high = bounds(schema)
    digits = [bound.digits for bound in (low, high) if bound is not None]
    if digits and max(d[0] for d in digits) + max(d[1] for d in digits) > limits.MAX_NUMBER_DIGITS:
        keyword = next(keyword for keyword in _BOUNDS if keyword in schema)
        reason = f"and the other bounds have more than {limits.MAX_NUMBER_DIGITS} digits in all: round them"
        return walk.refuse(place, keyword, reason)
    if number_regex(low, high, limits.MAX_NUMBER_DIGITS) is None:
        return walk.refuse(place, next(keyword for keyword in _BOUNDS if keyword in schema), _EMPTY_RANGE)
    return {"type": "number", **{keyword: schema[keyword] for keyword in _BOUNDS if keyword in schema}}


def _string(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    lengths: dict[str, int] = {key: int(schema[key]) for key in ("minLength", "maxLength") if key in schema}
    if lengths.get("minLength") == 0:
        del lengths["minLength"]
    kept: dict[str, str] = {key: schema[key] for key in ("pattern", "format") if key in schema}
    problem = _string_problem(kept, lengths)
    return walk.refuse(place, *problem) if problem else {"type": "string", **kept, **lengths}


def _string_problem(kept: dict[str, str], lengths: dict[str, int]) -> tuple[str, str] | None:
    """The keyword that cannot be enforced, and why."""
    first, *others = [*kept, *lengths, ""]
    if kept and others[0]:
        return others[0], f"cannot be enforced together with `{first}`: remove one of them"
    for keyword, length in lengths.items():
        if length > limits.MAX_LENGTH:
            return keyword, f"above {limits.MAX_LENGTH} is not enforced by the grammar: lower it or remove it"
    if lengths.get("minLength", 0) > lengths.get("maxLength", limits.MAX_LENGTH):
        return "minLength", "is above `maxLength`: widen them"
    if "format" in kept and kept["format"] not in FORMATS:
        known = ", ".join(FORMATS)
        return "format", f"`{kept['format'][:100]}` is not enforced: remove it, or use one of {known}"
    problem = _language_problem({**kept, **lengths})
    return (first, problem) if problem else None


def _language_problem(schema: dict[str, Any]) -> str | None:
    try:
        return "matches no string: correct it" if is_empty(string_expression(schema)) else None
    except PatternError as error:
        return f"uses {error}, which the grammar cannot enforce: rewrite it"


def _array(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
    if schema.get("uniqueItems") and (most is None or most > 1):
        return walk.refuse(place, "uniqueItems", "is not enforced by the grammar: remove it")
    if isinstance(schema.get("items"), list):
        return walk.refuse(place, "items", "is a list, which is not supported: use `prefixItems`")
    if most is not None and least > most:
        return walk.refuse(place, "minItems", "is above `maxItems`: widen them")
    if least > limits.MAX_MIN_ITEMS:
        return walk.refuse(place, "minItems", f"is more than {limits.MAX_MIN_ITEMS}: lower it")
    rest_keyword = "items" if "items" in schema else "unevaluatedItems"
    rest = schema.get(rest_keyword, True)
    prefix = schema.get("prefixItems", [])
    if rest is False and least > len(prefix):
        return walk.refuse(place, "minItems", f"asks for more items than `{rest_keyword}` allows: lower it")
    result: dict[str, Any] = {"type": "array"}
    if prefix:
        result["prefixItems"] = [
            walk.visit(item, pointer(place, "prefixItems", index)) for index, item in enumerate(prefix)
        ]
    result["items"] = False if rest is False else walk.visit(rest, pointer(place, rest_keyword))
    if least:
        result["minItems"] = least
    if most is not None:
        result["maxItems"] = min(int(most), limits.MAX_MAX_ITEMS)
    return result


def _plain(kind: str) -> "Callable[[Normaliser, Schema, str], Schema]":
    return lambda _walk, _schema, _place: {"type": kind}


# In the order in which alternatives are written.
NORMALISERS: Final[dict[str, "Callable[[Normaliser, Schema, str], Schema]"]] = {
    "null": _plain("null"),
    "boolean": _plain("boolean"),
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": normalise_object,
}
