"""Normalisation of the keywords of one type: each is kept, proved to have no effect, or left to the validator.

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
_EMPTY_LANGUAGE: Final = "matches no string: correct it"
_EMPTY_RANGE: Final = "leaves no value between the bounds: widen them"


def _integer(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    for keyword in _BOUNDS:
        if keyword in schema and abs(schema[keyword]) >= 10**limits.MAX_INTEGER_DIGITS:
            walk.leave(place, keyword, f"has more than {limits.MAX_INTEGER_DIGITS} digits: lower it")
            schema = _without(schema, keyword)
    low, high = bounds(schema)
    minimum = maximum = None
    if low is not None:
        minimum = math.floor(low.value) + 1 if low.exclusive else math.ceil(low.value)
    if high is not None:
        maximum = math.ceil(high.value) - 1 if high.exclusive else math.floor(high.value)
    if minimum is not None and maximum is not None and minimum > maximum:
        return walk.impossible(place, "minimum" if "minimum" in schema else "exclusiveMinimum", _EMPTY_RANGE)
    if schema.get("multipleOf", 1) != 1:
        values = _multiples(schema["multipleOf"], minimum, maximum)
        if values is not None:
            return {"enum": values} if values else walk.impossible(place, "multipleOf", _EMPTY_RANGE)
        reason = f"is enforced only for a whole number between bounds at most {_MAX_MULTIPLES} multiples apart"
        walk.leave(place, "multipleOf", reason)
    ends = {"minimum": minimum, "maximum": maximum}
    return {"type": "integer", **{keyword: end for keyword, end in ends.items() if end is not None}}


def _multiples(step: float, minimum: int | None, maximum: int | None) -> list[int] | None:
    """The multiples within bounds, where they are few enough to list."""
    if minimum is None or maximum is None or step != int(step) or (maximum - minimum) // step >= _MAX_MULTIPLES:
        return None
    return list(range(-(-minimum // int(step)) * int(step), maximum + 1, int(step)))


def _number(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    if "multipleOf" in schema:
        if schema["multipleOf"] == 1:
            return _integer(walk, schema, place)
        reason = "is not enforced for numbers with a fraction: use `integer` in a smaller unit, or remove it"
        walk.leave(place, "multipleOf", reason)
    low, high = bounds(schema)
    digits = [bound.digits for bound in (low, high) if bound is not None]
    given = [keyword for keyword in _BOUNDS if keyword in schema]
    if digits and max(d[0] for d in digits) + max(d[1] for d in digits) > limits.MAX_NUMBER_DIGITS:
        for keyword in given:
            walk.leave(
                place, keyword, f"has, with the other bounds, more than {limits.MAX_NUMBER_DIGITS} digits: round it"
            )
        return {"type": "number"}
    if number_regex(low, high, limits.MAX_NUMBER_DIGITS) is None:
        return walk.impossible(place, given[0], _EMPTY_RANGE)
    return {"type": "number", **{keyword: schema[keyword] for keyword in given}}


def _string(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    """The first of `pattern`, `format` and the lengths that the grammar can enforce; it cannot intersect them."""
    lengths: dict[str, int] = {key: int(schema[key]) for key in ("minLength", "maxLength") if key in schema}
    if lengths.get("minLength", 0) > lengths.get("maxLength", limits.MAX_LENGTH) and "maxLength" in lengths:
        return walk.impossible(place, "minLength", "is above `maxLength`: widen them")
    if lengths.get("minLength") == 0:
        del lengths["minLength"]
    for keyword in [key for key, length in lengths.items() if length > limits.MAX_LENGTH]:
        walk.leave(place, keyword, f"above {limits.MAX_LENGTH} is not enforced by the grammar: lower it or remove it")
        del lengths[keyword]
    chosen: Schema = {}
    for kept in ({"pattern": schema.get("pattern")}, {"format": schema.get("format")}, lengths):
        keywords = [keyword for keyword, value in kept.items() if value is not None]
        problem = None
        if chosen:
            problem = f"cannot be enforced together with `{next(iter(chosen))}`: remove one of them"
        elif "format" in keywords and kept["format"] not in FORMATS:
            known = ", ".join(FORMATS)
            problem = f"`{str(kept['format'])[:100]}` is not enforced: remove it, or use one of {known}"
        elif keywords:
            problem = _language_problem(kept)
            if problem == _EMPTY_LANGUAGE:
                return walk.impossible(place, keywords[0], problem)
        if keywords and problem is None:
            chosen = dict(kept)
        for keyword in keywords if problem else ():
            walk.leave(place, keyword, str(problem))
    return {"type": "string", **chosen}


def _language_problem(schema: dict[str, Any]) -> str | None:
    try:
        return _EMPTY_LANGUAGE if is_empty(string_expression(schema)) else None
    except PatternError as error:
        return f"uses {error}, which the grammar cannot enforce: rewrite it"


def _array(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
    if schema.get("uniqueItems") and (most is None or most > 1):
        walk.leave(place, "uniqueItems", "is not enforced by the grammar: remove it")
    if most is not None and least > most:
        return walk.impossible(place, "minItems", "is above `maxItems`: widen them")
    if least > limits.MAX_MIN_ITEMS:
        walk.leave(place, "minItems", f"is more than {limits.MAX_MIN_ITEMS}: lower it")
        least = 0
    prefix_keyword, rest_keyword = "prefixItems", "items" if "items" in schema else "unevaluatedItems"
    if isinstance(schema.get("items"), list):  # as drafts before 2020-12 say it
        prefix_keyword, rest_keyword = "items", "additionalItems"
    rest = schema.get(rest_keyword, True)
    prefix = schema.get(prefix_keyword, [])
    if rest is False and least > len(prefix):
        return walk.impossible(place, "minItems", f"asks for more items than `{rest_keyword}` allows: lower it")
    result: dict[str, Any] = {"type": "array"}
    if prefix:
        result["prefixItems"] = [
            walk.visit(item, pointer(place, prefix_keyword, index)) for index, item in enumerate(prefix)
        ]
    result["items"] = False if rest is False else walk.visit(rest, pointer(place, rest_keyword))
    if least:
        result["minItems"] = least
    if most is not None:
        result["maxItems"] = min(int(most), limits.MAX_MAX_ITEMS)
    return result


def _without(schema: "Schema", keyword: str) -> "Schema":
    return {key: value for key, value in schema.items() if key != keyword}


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
