"""The JSON text of a string schema, as one regular expression with its quotes.

A string schema has a pattern, or a format, or length bounds: never two of them, because a grammar cannot intersect.
"""

from typing import Any, Final

from outrider.structured import characters, limits
from outrider.structured.characters import JSON_CHARACTER, JSON_STRING, RAW_CHARACTER
from outrider.structured.formats import FORMATS
from outrider.structured.pattern import to_json_regex

MAX_EXCLUDED_CHARACTERS: Final = limits.MAX_PATTERN_BYTES


def string_regex(schema: dict[str, Any]) -> str:
    """JSON text, quotes included, of the strings that a normalised string schema allows."""
    if "pattern" in schema:
        return f'"{to_json_regex(schema["pattern"])}"'
    if "format" in schema:
        return f'"{to_json_regex(FORMATS[schema["format"]])}"'
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least == 0 and most is None:
        return JSON_STRING
    return f'"{JSON_CHARACTER}{{{least},{"" if most is None else most}}}"'


def other_names_regex(names: list[str]) -> str:
    """JSON text, quotes included, of property names that are none of `names`.

    Offers no escapes, so that a name cannot come back in another spelling.
    """
    if not names:
        return JSON_STRING
    trie: dict[str, Any] = {}
    for name in names:
        node = trie
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}
    return f'"{_other_endings(trie)}"'


def _other_endings(node: dict[str, Any]) -> str:
    """Raw text that does not lead from `node` to the end of a name."""
    following = [character for character in node if character]
    taken = tuple((ord(character), ord(character)) for character in following)
    other = characters.raw_class(characters.complement(taken))
    parts = [f"{other}{RAW_CHARACTER}*"]
    for character, code in zip(following, taken, strict=True):
        raw = characters.raw_class((code,))
        if raw is not None:  # a character that needs an escape cannot be reached
            parts.append(raw + _other_endings(node[character]))
    text = f"(?:{'|'.join(parts)})"
    return text if "" in node else f"{text}?"
