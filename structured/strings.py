r"""How JSON writes strings, and the automata of the string schemas.

A character stands raw in a JSON string or as an escape. The grammar offers the raw form where JSON allows it, the short
escape (`\n`, `\"`) where it does not, and `\u` escapes only where any character may stand.

A string schema has a pattern, or a format, or length bounds: never two of them, because a grammar cannot intersect.
"""

from functools import lru_cache
from typing import Any, Final

from outrider.structured.automaton import (
    Automaton,
    Characters,
    Either,
    Expression,
    Repeated,
    Sequenced,
    build,
    literal,
)
from outrider.structured.characters import EVERY, Ranges, complement, intersection, one_of
from outrider.structured.formats import FORMATS
from outrider.structured.pattern import parse

RAW: Final = complement(((0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C)))
_SHORT_ESCAPES: Final = {0x22: '"', 0x5C: "\\", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}
_HEX: Final = Characters(one_of("0123456789abcdefABCDEF"))
_CODE_UNIT: Final = Sequenced(  # of no surrogate: strict readers refuse a lone one
    (
        Either(
            (
                Sequenced((Characters(one_of("0123456789abcefABCEF")), _HEX)),
                Sequenced((Characters(one_of("dD")), Characters(one_of("01234567")))),
            )
        ),
        Repeated(_HEX, 2, 2),
    )
)
_ANY_CHARACTER: Final = Either(
    (
        Characters(RAW),
        Sequenced((literal("\\"), Characters(one_of('"\\/bfnrt')))),
        Sequenced((literal("\\u"), _CODE_UNIT)),
    )
)
_QUOTE: Final = literal('"')


@lru_cache(maxsize=256)
def _matching(pattern: str) -> Expression:
    return _quoted(_in_json(parse(pattern)))


@lru_cache(maxsize=256)
def _of_length(least: int, most: int | None) -> Expression:
    anything = (least, most) == (0, None)
    character = _ANY_CHARACTER if anything else _character(EVERY)  # short escapes alone halve the states
    return _quoted(Repeated(character, least, most))


@lru_cache(maxsize=256)
def automaton_of(expression: Expression) -> Automaton:
    """The automaton of a string's expression. Raises TooComplexError."""
    return build(expression)


def string_expression(schema: dict[str, Any]) -> Expression:
    """JSON text, quotes included, of the strings that a normalised string schema allows. Raises PatternError."""
    if "pattern" in schema:
        return _matching(schema["pattern"])
    if "format" in schema:
        return _matching(FORMATS[schema["format"]])
    return _of_length(schema.get("minLength", 0), schema.get("maxLength"))


def other_names(names: list[str]) -> Expression:
    """JSON text, quotes included, of property names that are none of `names`.

    Offers no escapes, so that a name cannot come back in another spelling.
    """
    if not names:
        return _of_length(0, None)
    trie: dict[str, Any] = {}
    for name in names:
        node = trie
        for character in name:
            node = node.setdefault(character, {})
        node[""] = {}
    return _quoted(_other_endings(trie))


def _other_endings(node: dict[str, Any]) -> Expression:
    """Raw text that does not lead from `node` to the end of a name."""
    following = [character for character in node if character]
    other = intersection(RAW, complement(one_of("".join(following))))
    parts: list[Expression] = [Sequenced((Characters(other), Repeated(Characters(RAW), 0, None)))]
    for character in following:
        raw = intersection(RAW, one_of(character))
        if raw:  # a character that needs an escape cannot be reached
            parts.append(Sequenced((Characters(raw), _other_endings(node[character]))))
    return Either(tuple(parts)) if "" in node else Repeated(Either(tuple(parts)), 0, 1)


def _quoted(expression: Expression) -> Expression:
    return Sequenced((_QUOTE, expression, _QUOTE))


def _in_json(expression: Expression) -> Expression:
    """The expression over JSON text for one over the string's own characters."""
    match expression:
        case Characters(ranges):
            return _ANY_CHARACTER if ranges == EVERY else _character(ranges)
        case Repeated(part, least, most):
            return Repeated(_in_json(part), least, most)
        case Sequenced(parts):
            return Sequenced(tuple(_in_json(part) for part in parts))
        case Either(parts):
            return Either(tuple(_in_json(part) for part in parts))


def _character(ranges: Ranges) -> Expression:
    """One character of the set: raw, or behind a backslash; as a code only when the set has nothing else."""
    raw = intersection(ranges, RAW)
    letters = "".join(letter for code, letter in _SHORT_ESCAPES.items() if intersection(ranges, ((code, code),)))
    forms: list[Expression] = [Characters(raw)] if raw else []
    if letters:
        forms.append(Sequenced((literal("\\"), Characters(one_of(letters)))))
    if not forms:
        forms = [literal(f"\\u{code:04x}") for first, last in ranges for code in range(first, last + 1)]
    return Either(tuple(forms))
