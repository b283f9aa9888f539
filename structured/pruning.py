"""Removal of what no value can ever be: branches, properties and items that a normalised schema makes impossible.

An impossible node is `{"enum": []}`. A grammar with a dead end would stop a request in the middle of its answer.
"""

from typing import Any

IMPOSSIBLE: dict[str, Any] = {"enum": []}


def prune(schema: dict[str, Any], endless: frozenset[str]) -> dict[str, Any] | None:
    """The schema without dead ends, None when it has no value at all; `endless` names definitions that have none.

    A declared property that cannot be there stays declared as `False`, so that no free name takes its place.
    """
    if "$ref" in schema:
        return None if schema["$ref"].removeprefix("#/$defs/") in endless else schema
    if "anyOf" in schema:
        branches = [pruned for branch in schema["anyOf"] if (pruned := prune(branch, endless)) is not None]
        if len(branches) <= 1:
            return branches[0] if branches else None
        return {**schema, "anyOf": branches}
    if "enum" in schema:
        return schema if schema["enum"] else None
    if schema.get("type") == "array":
        return _array(schema, endless)
    return _object(schema, endless) if schema.get("type") == "object" else schema


def _array(schema: dict[str, Any], endless: frozenset[str]) -> dict[str, Any] | None:
    least, result = schema.get("minItems", 0), dict(schema)
    prefix = [prune(item, endless) for item in schema.get("prefixItems", ())]
    if None in prefix:  # the array ends before
        prefix = prefix[: prefix.index(None)]
        result["items"] = False
    if prefix:
        result["prefixItems"] = prefix
    else:
        result.pop("prefixItems", None)
    result["items"] = _or_false(result["items"], endless)
    return None if result["items"] is False and least > len(prefix) else result


def _object(schema: dict[str, Any], endless: frozenset[str]) -> dict[str, Any] | None:
    properties = {name: _or_false(value, endless) for name, value in schema["properties"].items()}
    if any(properties[name] is False for name in schema["required"]):
        return None
    further = _or_false(schema["additionalProperties"], endless)
    if "propertyNames" in schema and prune(schema["propertyNames"], endless) is None:
        further = False
    possible = sum(value is not False for value in properties.values())
    if further is False and schema.get("minProperties", 0) > possible:
        return None
    return {**schema, "properties": properties, "additionalProperties": further}


def _or_false(schema: Any, endless: frozenset[str]) -> Any:
    pruned = None if schema is False else prune(schema, endless)
    return False if pruned is None else pruned
