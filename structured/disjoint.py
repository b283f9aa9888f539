"""Whether two schemas can be proved to share no value, so that their `oneOf` is an `anyOf`."""

from typing import Any

from outrider.structured.literals import explicit_types, explicit_values, identity, types_of
from outrider.structured.references import UnresolvedError, resolve

_MAX_HOPS = 8


def are_disjoint(root: Any, left: Any, right: Any) -> bool:
    """True only with a proof: different types, different literals, or a required property that tells them apart."""
    left, right = _target(root, left), _target(root, right)
    if not isinstance(left, dict) or not isinstance(right, dict):
        return False
    if _differ(left, right):
        return True
    if explicit_types(left) != frozenset({"object"}) or explicit_types(right) != frozenset({"object"}):
        return False
    shared = set(left.get("required", ())) & set(right.get("required", ()))
    ours, theirs = left.get("properties", {}), right.get("properties", {})
    return any(_differ(_target(root, ours.get(name)), _target(root, theirs.get(name))) for name in shared)


def _differ(left: Any, right: Any) -> bool:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return False
    left_values, right_values = explicit_values(left), explicit_values(right)
    if left_values is not None and right_values is not None:
        return not {identity(value) for value in left_values} & {identity(value) for value in right_values}
    left_types, right_types = _types(left, left_values), _types(right, right_values)
    return left_types is not None and right_types is not None and not left_types & right_types


def _types(schema: dict[str, Any], values: list[Any] | None) -> frozenset[str] | None:
    """Types of the schema's values; integers are numbers."""
    if values is not None:
        return frozenset[str]().union(*(types_of(value) for value in values))
    types = explicit_types(schema)
    return types | {"number"} if types and "integer" in types else types


def _target(root: Any, schema: Any) -> Any:
    """The schema behind references and single `allOf`s."""
    for _ in range(_MAX_HOPS):
        if not isinstance(schema, dict):
            return schema
        if isinstance(schema.get("$ref"), str):
            try:
                schema = resolve(root, schema["$ref"])[1]
            except UnresolvedError:
                return None
        elif isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1 and "type" not in schema:
            schema = schema["allOf"][0]
        else:
            return schema
    return None
