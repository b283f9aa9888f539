"""Whether every definition of a normalised schema has a finite value that a grammar can reach."""

from typing import Any


def endless_definitions(definitions: dict[str, Any]) -> tuple[frozenset[str], list[str]]:
    """Names of the definitions that have no finite value, and of those that lead to themselves and write nothing."""
    finite: set[str] = set()
    settled = False
    while not settled:
        grown = {name for name in definitions if name in finite or _is_finite(definitions[name], finite)}
        settled, finite = grown == finite, grown
    circular = [name for name in definitions if _reaches_itself(name, definitions)]
    return frozenset(definitions.keys() - finite), circular


def _is_finite(schema: Any, finite: set[str]) -> bool:
    """Whether a value can be completed with definitions already known to be finite."""
    if schema is False or "$ref" in schema:
        return schema is not False and _name(schema) in finite
    if "anyOf" in schema:
        return any(_is_finite(branch, finite) for branch in schema["anyOf"])
    if "enum" in schema:
        return bool(schema["enum"])
    by_type = {"array": _is_finite_array, "object": _is_finite_object}
    return by_type[schema["type"]](schema, finite) if schema.get("type") in by_type else True


def _is_finite_array(schema: dict[str, Any], finite: set[str]) -> bool:
    least = schema.get("minItems", 0)
    prefix = schema.get("prefixItems", [])
    rest = [schema["items"]] if least > len(prefix) else []
    return all(_is_finite(item, finite) for item in [*prefix[:least], *rest])


def _is_finite_object(schema: dict[str, Any], finite: set[str]) -> bool:
    required = [schema["properties"][name] for name in schema.get("required", ())]
    if not all(_is_finite(value, finite) for value in required):
        return False
    possible = sum(_is_finite(value, finite) for value in schema.get("properties", {}).values())
    return _is_finite(schema["additionalProperties"], finite) or possible >= schema.get("minProperties", 0)


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
