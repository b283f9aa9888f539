"""Where a `$ref` leads: to another place of the same schema, or nowhere.

Nothing is ever fetched.
"""

from typing import Any
from urllib.parse import unquote

from outrider.structured.keywords import SUBSCHEMA_LISTS, SUBSCHEMA_MAPS, SUBSCHEMAS


class UnresolvedError(ValueError):
    """The reference leads nowhere; the message completes "`$ref` at ... "."""


def resolve(root: Any, reference: str) -> tuple[str, Any]:
    """The pointer and the schema that a reference names.

    Only places that hold schemas are reached, never examples or literals. Raises UnresolvedError.
    """
    if not reference.startswith("#"):
        raise UnresolvedError(f"leads to `{reference[:200]}`, outside the schema: copy that schema to `$defs`")
    if reference != "#" and not reference.startswith("#/"):
        raise UnresolvedError(f"leads to the anchor `{reference[:200]}`: use a pointer such as `#/$defs/name`")
    parts = [unquote(part).replace("~1", "/").replace("~0", "~") for part in reference.split("/")[1:]]
    node = root
    position = 0
    while position < len(parts):
        keyword = parts[position]
        if not isinstance(node, dict) or keyword not in node or (position and "$id" in node):
            raise UnresolvedError(f"leads to `{reference[:200]}`, which is not in the schema")
        node = node[keyword]
        position += 1
        if keyword in SUBSCHEMA_MAPS and isinstance(node, dict) and position < len(parts) and parts[position] in node:
            node = node[parts[position]]
            position += 1
        elif keyword in (*SUBSCHEMA_LISTS, "items") and position < len(parts) and _is_index(parts[position], node):
            node = node[int(parts[position])]
            position += 1
        elif keyword not in SUBSCHEMAS:
            raise UnresolvedError(f"leads to `{reference[:200]}`, which is no schema")
    return pointer("#", *parts), node


def pointer(start: str, *parts: str | int) -> str:
    """JSON pointer of a place below `start`."""
    return "/".join([start, *(str(part).replace("~", "~0").replace("/", "~1") for part in parts)])


def has_embedded(root: Any) -> bool:
    """Whether a schema within the schema has an `$id`, so that the references in it start from there."""
    waiting = list(root.values()) if isinstance(root, dict) else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$id"), str):
                return True
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return False


def _is_index(part: str, node: Any) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 6 and isinstance(node, list) and int(part) < len(node)
