"""Sets of characters: sorted tuples of inclusive code point ranges."""

from typing import Final

Ranges = tuple[tuple[int, int], ...]

EVERY: Final[Ranges] = ((0x00, 0xD7FF), (0xE000, 0x10FFFF))  # surrogates are no characters


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


def one_of(text: str) -> Ranges:
    """The characters of a text."""
    return union(*(((ord(character), ord(character)),) for character in text))
