"""Normalisation of object schemas into named properties, or pairs whose names follow one string schema.

An object that names properties is closed unless it says `additionalProperties` itself: that is narrower than the
specification, and what every schema-constrained API does.
"""

from typing import TYPE_CHECKING, Any, Final

from outrider.structured import limits
from outrider.structured.ebnf import is_counted
from outrider.structured.references import UnresolvedError, pointer, resolve

if TYPE_CHECKING:
    from outrider.structured.normalise import Normaliser, Schema

_MAX_HOPS: Final = 8
_SPEAKING: Final = frozenset({"$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf"})  # need no type beside them


def normalise_object(walk: "Normaliser", schema: "Schema", place: str) -> "Schema":
    """An object node with `additionalProperties` given, and `properties` for every required name."""
    if "patternProperties" in schema or "propertyNames" in schema:
        described = _described(walk, schema, place)
        if described is not None:
            return described
        if "patternProperties" in schema:
            schema = {**schema, "additionalProperties": True}
    keyword = "additionalProperties" if "additionalProperties" in schema else "unevaluatedProperties"
    names = dict(schema.get("properties", {}))
    required = list(dict.fromkeys(schema.get("required", ())))
    further = schema.get(keyword, walk.is_loose or not ("properties" in schema or required))
    for name in required:
        if name not in names and further is False and keyword in schema:
            return walk.impossible(place, "required", f"names `{name[:100]}`, which `{keyword}` forbids: declare it")
    problem = _too_many(walk, len(names), len(names.keys() - set(required)))
    if problem:
        walk.leave(place, "properties", problem)
        names, required = {}, required if len(required) <= limits.MAX_OPTIONAL_PROPERTIES else []
        further, schema = True, {**schema, "minProperties": 0, "additionalProperties": True}
    properties = {name: walk.visit(value, pointer(place, "properties", name)) for name, value in names.items()}
    visited = False if further is False else walk.visit(further, pointer(place, keyword))
    undeclared = visited if keyword in schema and visited is not False else {}
    properties |= {name: undeclared for name in required if name not in properties}
    if visited is not False and sum(len(name) for name in properties) > limits.MAX_EXCLUDED_CHARACTERS:
        if further is not True:
            reason = "cannot be told from so many declared properties: declare them all, or move some to another object"
            walk.leave(place, keyword, reason)
        elif not problem:
            walk.note(place, keyword, "is true, but only declared properties are generated: there are too many of them")
        visited = False
    result: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return _with_counts(walk, schema, place, {**result, "additionalProperties": visited})


def _too_many(walk: "Normaliser", num_properties: int, num_optional: int) -> str | None:
    """Why so many properties cannot be enforced, None when they can."""
    walk.num_properties += num_properties
    if walk.num_properties > limits.MAX_PROPERTIES:
        return f"brings the schema to more than {limits.MAX_PROPERTIES} properties"
    if num_optional > limits.MAX_OPTIONAL_PROPERTIES:
        return f"has more than {limits.MAX_OPTIONAL_PROPERTIES} optional properties: require some, or nest them"
    return None


def _described(walk: "Normaliser", schema: "Schema", place: str) -> "Schema | None":
    """The object whose names are described, None when that is left to the validator."""
    described_by = "patternProperties" if "patternProperties" in schema else "propertyNames"
    reason = _mixed(schema)
    if reason is None:
        mapped = _map(walk, schema, place)
        if mapped is not None:
            return mapped
        reason = "must be a string schema with one keyword to be enforced"
    walk.leave(place, described_by, reason)
    if "patternProperties" in schema:  # which names are further ones depends on it
        for keyword in {"additionalProperties", "unevaluatedProperties"} & schema.keys():
            walk.leave(place, keyword, "is enforced only where `patternProperties` is")
    return None


def _mixed(schema: "Schema") -> str | None:
    """Why names that are described cannot be enforced in this object, None when they can."""
    patterns = schema.get("patternProperties", {})
    keyword = "additionalProperties" if "additionalProperties" in schema else "unevaluatedProperties"
    if schema.get("properties") or schema.get("required") or (patterns and "propertyNames" in schema):
        return "is enforced only where no other keyword names properties: move it to an object of its own"
    if len(patterns) > 1 or (patterns and schema.get(keyword)):
        return "is enforced only with one pattern and `additionalProperties: false`: split the object"
    return None


def _map(walk: "Normaliser", schema: "Schema", place: str) -> "Schema | None":
    """An object whose names are described by one pattern or schema, and not listed; None when that is too complex."""
    patterns = schema.get("patternProperties", {})
    described_by = "patternProperties" if patterns else "propertyNames"
    keyword = "additionalProperties" if "additionalProperties" in schema else "unevaluatedProperties"
    if patterns:
        ((pattern, value),) = patterns.items()
        names, place_of_names = {"type": "string", "pattern": pattern}, pointer(place, described_by, pattern)
        place_of_value = place_of_names
    else:
        names, place_of_names = schema.get("propertyNames", True), pointer(place, described_by)
        value, place_of_value = schema.get(keyword, True), pointer(place, keyword)
    if value is False:
        return _with_counts(walk, schema, place, _object({}, further=False))
    named = walk.visit(_dereferenced(walk, names), place_of_names)
    further = walk.visit(value, place_of_value)
    if "enum" in named:
        listed = [name for name in named["enum"] if isinstance(name, str)]
        return _with_counts(walk, schema, place, _object(dict.fromkeys(listed, further), further=False))
    if named and named.get("type") != "string":
        return None
    described = {"propertyNames": named} if named else {}
    return _with_counts(walk, schema, place, {**_object({}, further=further), **described})


def _object(properties: dict[str, Any], *, further: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [], "additionalProperties": further}


def _dereferenced(walk: "Normaliser", names: Any) -> Any:
    """The schema of names, without references, and with the type that it must have."""
    for _ in range(_MAX_HOPS):
        if not (isinstance(names, dict) and "$ref" in names):
            break
        try:
            names = resolve(walk.root, names["$ref"])[1]
        except UnresolvedError:
            break  # the visit will say so
    if (
        isinstance(names, dict)
        and names
        and not names.keys() & {"$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf"}
    ):
        return {"type": "string", **names}
    return names


def _with_counts(walk: "Normaliser", schema: "Schema", place: str, result: dict[str, Any]) -> dict[str, Any]:
    """Add the bounds on the number of properties.

    Names that are not declared may repeat in the text, and then count once: so such an object can be asked for one
    property, not for two.
    """
    least, most = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    required, declared = len(result["required"]), len(result["properties"])
    closed = result["additionalProperties"] is False
    if most is not None and most < max(least, required):
        return walk.impossible(place, "maxProperties", "is below what the other keywords ask for: raise it")
    if closed and least > declared:
        return walk.impossible(place, "minProperties", "asks for more properties than the object can have: lower it")
    if not closed and least > max(1, required):
        reason = "cannot be enforced where names are free, because they may repeat: lower it to 1, or declare the names"
        walk.leave(place, "minProperties", reason)
        least = 1
    if least:
        result["minProperties"] = least
    if most is not None:
        result["maxProperties"] = min(int(most), limits.MAX_MAX_ITEMS)
    if not is_counted(result):
        result.pop("minProperties", None)
        result.pop("maxProperties", None)
    elif declared * min(declared, declared if most is None else most) > limits.MAX_COUNTED_STATES:
        keyword = "maxProperties" if most is not None else "minProperties"
        walk.leave(place, keyword, "counts too many properties to be enforced: remove it")
        result.pop("minProperties", None)
        result.pop("maxProperties", None)
    return result
