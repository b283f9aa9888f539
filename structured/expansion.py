"""How often a validator would come back to one value: references that double at every step grow beyond all bounds."""

from collections.abc import Iterator
from typing import Any, Final

from outrider.structured.errors import SchemaError
from outrider.structured.references import UnresolvedError, resolve

MAX_EXPANSION: Final = 10_000  # schemas that judge the same value
_MAX_CHAIN: Final = 200  # schemas that lead from one to the next without looking into the value
_ONE: Final = ("not", "if", "then", "else")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_MAPS: Final = ("dependentSchemas", "dependencies")


def check_expansion(root: Any) -> None:
    """Raise SchemaError when one value would be judged by more than `MAX_EXPANSION` schemas."""
    known: dict[int, int] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            _size(root, node, known, 0)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _size(root: Any, node: Any, known: dict[int, int], depth: int) -> int:
    """How many schemas judge the values that `node` judges, itself among them; a circle counts once."""
    if not isinstance(node, dict):
        return 1
    if id(node) not in known:
        known[id(node)] = 1
        if depth > _MAX_CHAIN:
            raise SchemaError(f"more than {_MAX_CHAIN} schemas lead from one to the next: merge them")
        size = 1 + sum(_size(root, part, known, depth + 1) for part in _parts(root, node))
        if size > MAX_EXPANSION:
            message = f"its references multiply: more than {MAX_EXPANSION} schemas would judge one value; merge them"
            raise SchemaError(f"the schema cannot be validated, {message}")
        known[id(node)] = size
    return known[id(node)]


def _parts(root: Any, node: dict[str, Any]) -> Iterator[Any]:
    """Schemas that judge the same value as `node`."""
    yield from (node[keyword] for keyword in _ONE if keyword in node)
    for keyword in _LISTS:
        yield from node[keyword] if isinstance(node.get(keyword), list) else ()
    for keyword in _MAPS:
        yield from node[keyword].values() if isinstance(node.get(keyword), dict) else ()
    if isinstance(node.get("$ref"), str):
        try:
            yield resolve(root, node["$ref"])[1]
        except UnresolvedError:
            return
