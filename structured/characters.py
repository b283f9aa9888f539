r"""Sets of characters, and how a JSON string may write them.

A set is a sorted tuple of inclusive code point ranges. Inside a JSON string a character stands raw or as an escape; the
grammar offers the raw form where JSON allows it and the short escape (`\n`, `\"`) where it does not.
"""

from typing import Final

Ranges = tuple[tuple[int, int], ...]

EVERY: Final[Ranges] = ((0x00, 0xD7FF), (0xE000, 0x10FFFF))  # surrogates are no characters
_RAW: Final[Ranges] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))
_SHORT_ESCAPES: Final = {0x22: '"', 0x5C: "\\\\", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}


def union(*sets: Ranges) -> Ranges:
    """Characters of any of the sets."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(span for ranges in sets for span in ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """Characters of both sets."""
    spans = ((max(a, c), min(b, d)) for a, b in left for c, d in right)
    return tuple(sorted(span for span in spans if span[0] <= span[1]))


def complement(ranges: Ranges) -> Ranges:
    """Characters outside the set."""
    outside = []
    start = 0
    for first, last in (*union(ranges), (0x110000, 0x110000)):
        if start < first:
            outside.append((start, first - 1))
        start = last + 1
    return intersection(tuple(outside), EVERY)


def raw_class(ranges: Ranges) -> str | None:
    """Regular expression for one character of the set that stands for itself in JSON text; None when there is none."""
    spans = intersection(ranges, _RAW)
    if not spans:
        return None
    if len(spans) == 1 and spans[0][0] == spans[0][1]:
        return _literal(spans[0][0])
    return "[" + "".join(_literal(a) if a == b else f"{_literal(a)}-{_literal(b)}" for a, b in spans) + "]"


def json_character(ranges: Ranges) -> str | None:
    """Regular expression for one character of the set inside a JSON string; None when the grammar cannot write any."""
    raw = raw_class(ranges)
    short = [escape for code, escape in _SHORT_ESCAPES.items() if intersection(ranges, ((code, code),))]
    escaped = None if not short else "\\\\" + (short[0] if len(short) == 1 else f"[{''.join(short)}]")
    if raw and escaped:
        return f"(?:{raw}|{escaped})"
    return raw or escaped


def _literal(code: int) -> str:
    character = chr(code)
    return character if character.isalnum() or code > 0x7E or character == " " else "\\" + character


RAW_CHARACTER: Final = raw_class(EVERY) or ""
# Any character, \u escapes included except those of surrogates: a lone one breaks strict readers.
JSON_CHARACTER: Final = (
    rf'(?:{RAW_CHARACTER}|\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F][0-9a-fA-F]))'
)
JSON_STRING: Final = f'"{JSON_CHARACTER}*"'
