"""JSON values as JSON Schema sees them: their types and their equality."""

from collections.abc import Hashable
from typing import Any


def types_of(value: Any) -> frozenset[str]:
    """Names of the schema types that a value has: 1.0 is an integer, true is not."""
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return frozenset({"integer", "number"})
    if isinstance(value, float):
        return frozenset({"number"})
    if isinstance(value, str):
        return frozenset({"string"})
    return frozenset({"array" if isinstance(value, list) else "object"})


def identity(value: Any) -> Hashable:
    """Equal for values that JSON Schema holds equal: 1 and 1.0, but neither and true."""
    if isinstance(value, list):
        return "array", tuple(identity(item) for item in value)
    if isinstance(value, dict):
        return "object", frozenset((name, identity(item)) for name, item in value.items())
    if isinstance(value, bool):
        return "boolean", value
    return "scalar", value


def explicit_types(schema: dict[str, Any]) -> frozenset[str] | None:
    """The types that `type` names, None when it is absent."""
    if "type" not in schema:
        return None
    named = schema["type"]
    return frozenset([named] if isinstance(named, str) else named)


def explicit_values(schema: dict[str, Any]) -> list[Any] | None:
    """The values that `const` or `enum` list and `type` permits; None when neither is there."""
    if "const" not in schema and "enum" not in schema:
        return None
    values = list(schema.get("enum", [schema.get("const")]))
    if "const" in schema:
        values = [value for value in values if identity(value) == identity(schema["const"])]
    types = explicit_types(schema)
    return [value for value in values if types is None or types & types_of(value)]
