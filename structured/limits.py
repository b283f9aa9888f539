"""How large a schema may be, checked before anything walks it.

The limits keep every later stage cheap; what they cannot foresee, the compile worker's deadline and canary catch.
"""

from typing import Any, Final

from outrider.structured.errors import SchemaError

MAX_TEXT_BYTES: Final = 128 * 1024
MAX_DEPTH: Final = 32  # schemas within schemas
MAX_NESTING: Final = 100  # JSON containers within containers: a schema within `properties` is two deeper
MAX_PROPERTIES: Final = 5000
MAX_OPTIONAL_PROPERTIES: Final = 100  # per object
MAX_ENUM_VALUES: Final = 1000
MAX_PATTERN_BYTES: Final = 2048
MAX_GRAMMAR_BYTES: Final = 16 * 1024  # of EBNF or Lark
MAX_REPETITION: Final = 256  # product of nested {m,n} bounds in a pattern
MAX_PATTERN_SIZE: Final = 4096  # characters of a pattern with its repetitions written out
MAX_EXCLUDED_CHARACTERS: Final = 400  # of declared names that additional ones must differ from
MAX_LENGTH: Final = 10_000  # of a string
MAX_COUNTED_LENGTH: Final = 128  # of a string for xgrammar, which compiles a state for each character
MAX_MIN_ITEMS: Final = 1000
MAX_MAX_ITEMS: Final = 1_000_000  # a larger bound is lowered to this
MAX_DEFINITIONS: Final = 1000
MAX_NUMBER_DIGITS: Final = 15  # every decimal of so many digits is a different double
MAX_INTEGER_DIGITS: Final = 40
MAX_COUNTED_STATES: Final = 2000  # properties times maxProperties


def check_text(text: bytes) -> None:
    """Raise SchemaError when the schema's JSON text is too long."""
    if len(text) > MAX_TEXT_BYTES:
        size = f"{len(text) / 1024:.0f} KiB"
        raise SchemaError(f"the schema has {size} of JSON, more than the {MAX_TEXT_BYTES // 1024} KiB allowed")


def check_nesting(schema: Any) -> None:
    """Raise SchemaError when containers nest too deeply for a recursive walk."""
    level = [schema]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
        if not level:
            return
    raise SchemaError(f"the schema is nested more than {MAX_NESTING} levels deep: move inner parts to `$defs`")


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
