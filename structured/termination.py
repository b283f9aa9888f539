"""Whether every definition of a normalised schema has a finite value that a grammar can reach."""

from typing import Any


def endless_definitions(schema: dict[str, Any]) -> list[str]:
    """Names of the definitions that have no finite value, or that lead to themselves without writing anything."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    finite: set[str] = set()
    settled = False
    while not settled:
        grown = {name for name in definitions if name in finite or _is_finite(definitions[name], finite)}
        settled, finite = grown == finite, grown
    return [name for name in definitions if name not in finite or _reaches_itself(name, definitions)]


def _is_finite(schema: dict[str, Any], finite: set[str]) -> bool:
    """Whether a value can be completed with definitions already known to be finite."""
    if "$ref" in schema:
        return _name(schema) in finite
    if "anyOf" in schema:
        return any(_is_finite(branch, finite) for branch in schema["anyOf"])
    if schema.get("type") == "array":
        least = schema.get("minItems", 0)
        prefix = schema.get("prefixItems", [])
        rest = [schema["items"]] if least > len(prefix) and schema["items"] is not False else []
        return all(_is_finite(item, finite) for item in [*prefix[:least], *rest])
    if schema.get("type") == "object":
        required = [schema["properties"][name] for name in schema.get("required", ())]
        if not all(_is_finite(value, finite) for value in required):
            return False
        optional = [schema["properties"][name] for name in schema.get("properties", {})]
        further = schema["additionalProperties"]
        candidates = optional if further is False else [*optional, further]
        possible = sum(_is_finite(value, finite) for value in candidates)
        unlimited = further is not False and _is_finite(further, finite)
        return unlimited or possible >= schema.get("minProperties", 0)
    return True


def _reaches_itself(start: str, definitions: dict[str, Any]) -> bool:
    """Whether references and `anyOf` branches alone lead from a definition back to it."""
    seen: set[str] = set()
    waiting = [definitions[start]]
    while waiting:
        schema = waiting.pop()
        waiting.extend(schema.get("anyOf", ()))
        if "$ref" in schema:
            name = _name(schema)
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                waiting.append(definitions[name])
    return False


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).removeprefix("#/$defs/")
