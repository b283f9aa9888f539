"""Plain JSON: what stands in for a schema whose own grammar would be too slow or too large.

An answer is JSON of the schema's type then, and the validator does the rest.
"""

import json
from typing import Any, Final

from outrider.structured.constraint import Constraint, Whitespace
from outrider.structured.finding import Finding

_SCHEMAS: Final[tuple[Any, ...]] = ({"type": "object"}, {"type": "array"}, {})
_WHITESPACES: Final[tuple[Whitespace, ...]] = ("compact", "free")

PLAIN: Final = tuple(Constraint("json_schema", schema, space) for schema in _SCHEMAS for space in _WHITESPACES)


def plain_key(text: bytes, whitespace: Whitespace) -> str:
    """The key of the one among PLAIN that stands in for a schema, which is JSON text."""
    schema = json.loads(text)
    named = schema.get("type") if isinstance(schema, dict) else None
    wanted = {"type": named} if named in ("object", "array") else {}
    return Constraint("json_schema", wanted, whitespace).key


def left_over(problem: str) -> Finding:
    """What there is to say of a schema that has no grammar of its own, and why."""
    return Finding("#", "", "validated", f"is left to the validator, the grammar keeps to JSON of its type: {problem}")
