r"""Parsing of a JSON Schema `pattern` into an expression over the characters of the string.

As in the specification a pattern may match anywhere: without `^` or `$`, any text may come before or behind. Dialects
differ (ECMA-262, Python) on what `\d`, `\w`, `\s` and `.` mean beyond ASCII; where they do, only characters on which
they agree are offered. What cannot be kept is refused: lookaround, back-references, word boundaries, `\p`, flags,
anchors inside.
"""

from dataclasses import dataclass
from typing import Final

from outrider.structured import characters, limits
from outrider.structured.automaton import Characters, Either, Expression, Repeated, Sequenced
from outrider.structured.characters import Ranges

_ANYTHING: Final = Repeated(Characters(characters.EVERY), 0, None)
_BEYOND_ASCII: Final[Ranges] = ((0x80, 0x10FFFF),)
_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Final[Ranges] = ((0x09, 0x0D), (0x20, 0x20))
_SPACE_SOMEWHERE: Final[Ranges] = ((0x09, 0x0D), (0x1C, 0x20), (0x80, 0x10FFFF))
_DOT: Final = characters.complement(((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)))
# For each shorthand: the characters that every dialect includes, and those that some dialect includes.
_SHORTHANDS: Final[dict[str, tuple[Ranges, Ranges]]] = {
    "d": (_DIGITS, characters.union(_DIGITS, _BEYOND_ASCII)),
    "w": (_WORD, characters.union(_WORD, _BEYOND_ASCII)),
    "s": (_SPACE, _SPACE_SOMEWHERE),
}
_CONTROLS: Final = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_UNSUPPORTED_ESCAPES: Final = {
    **dict.fromkeys("bB", "a word boundary"),
    **dict.fromkeys("pP", "a Unicode property"),
    **dict.fromkeys("123456789k", "a back-reference"),
    **dict.fromkeys("AZzG", "an anchor of another dialect"),
}
_UNSUPPORTED_GROUPS: Final = {"?=": "a lookahead", "?!": "a lookahead", "?<=": "a lookbehind", "?<!": "a lookbehind"}


class PatternError(ValueError):
    """The pattern is malformed or uses what the grammar cannot enforce; the message completes "uses ..."."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A parsed part, its characters with repetitions written out, its product of nested bounds."""

    expression: Expression
    size: int
    product: int = 1


def parse(pattern: str) -> Expression:
    """The texts that the pattern matches. Raises PatternError."""
    _check(pattern)
    return _Parser(pattern).whole()


def parse_whole(pattern: str) -> Expression:
    """The texts that the pattern matches from end to end, as if each branch had `^` and `$`. Raises PatternError."""
    _check(pattern)
    return _Parser(pattern, is_whole=True).whole()


def parse_own(pattern: str) -> Expression:
    """The texts that match one of our own expressions from end to end, without limits."""
    parser = _Parser(pattern, max_size=None)
    piece = parser.alternatives()
    assert parser.position == len(pattern), "our expressions have no anchors"
    return piece.expression


def _check(pattern: str) -> None:
    if len(pattern.encode(errors="replace")) > limits.MAX_PATTERN_BYTES:
        raise PatternError(f"more than {limits.MAX_PATTERN_BYTES} bytes")
    if "\0" in pattern:
        raise PatternError("a null character")


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, pattern: str, *, max_size: int | None = limits.MAX_PATTERN_SIZE, is_whole: bool = False) -> None:
        self.pattern = pattern
        self.around: tuple[Expression, ...] = () if is_whole else (_ANYTHING,)  # where there is no anchor
        self.max_size = max_size
        self.position = 0
        self.depth = 0

    def whole(self) -> Expression:
        """Alternatives, each with its own anchors."""
        parts = []
        while True:
            before = () if self.take("^") else self.around
            piece = self.sequence()
            behind = () if self.take("$") else self.around
            parts.append(Sequenced((*before, piece.expression, *behind)))
            if not self.take("|"):
                break
        if self.position < len(self.pattern):
            raise PatternError("an unbalanced `)`" if self.peek() == ")" else "an anchor inside")
        return Either(tuple(parts))

    def alternatives(self) -> _Piece:
        """Alternatives without anchors."""
        pieces = [self.sequence()]
        while self.take("|"):
            pieces.append(self.sequence())
        expression = Either(tuple(piece.expression for piece in pieces))
        return _Piece(expression, sum(piece.size for piece in pieces), max(piece.product for piece in pieces))

    def sequence(self) -> _Piece:
        """Quantified atoms up to the end of an alternative."""
        pieces = []
        while self.peek() not in ("", "|", ")", "$"):
            pieces.append(self.quantified(self.atom()))
        size = sum(piece.size for piece in pieces)
        if self.max_size is not None and size > self.max_size:
            raise PatternError(f"repetitions that amount to more than {self.max_size} characters")
        expression = Sequenced(tuple(piece.expression for piece in pieces))
        return _Piece(expression, size, max((piece.product for piece in pieces), default=1))

    def atom(self) -> _Piece:
        character = self.next()
        if character == "(":
            return self.group()
        if character == "[":
            return self.one_of(self.character_class())
        if character == ".":
            return self.one_of(_DOT)
        if character == "\\":
            included, _ = self.escape()
            return self.one_of(included)
        if character == "^":
            raise PatternError("an anchor inside")
        if character in "*+?{":
            raise PatternError(f"a `{character}` that repeats nothing")
        return self.one_of(((ord(character), ord(character)),))

    def group(self) -> _Piece:
        for opening, name in _UNSUPPORTED_GROUPS.items():
            if self.pattern.startswith(opening, self.position):
                raise PatternError(name)
        if self.take("?") and not self.take(":"):
            name, closed, _ = self.pattern[self.position :].partition(">")
            if not (closed and name.startswith("<") and name[1:].isidentifier()):
                raise PatternError("a flag or an unknown group")
            self.position += len(name) + 1
        self.depth += 1
        if self.depth > limits.MAX_DEPTH:
            raise PatternError(f"more than {limits.MAX_DEPTH} nested groups")
        piece = self.alternatives()
        self.depth -= 1
        if not self.take(")"):
            raise PatternError("an anchor inside" if self.peek() == "$" else "a group that is not closed")
        return piece

    def quantified(self, piece: _Piece) -> _Piece:
        bounds = self.quantifier()
        if bounds is None:
            return piece
        low, high = bounds
        self.take("?")  # lazy: the same language
        if self.peek() and self.peek() in "*+?{":
            raise PatternError("a repeated repetition")
        times = max(low, high or 0, 1)
        product = piece.product * times
        if product > limits.MAX_REPETITION:
            raise PatternError(f"nested repetitions of more than {limits.MAX_REPETITION} times in all")
        return _Piece(Repeated(piece.expression, low, high), piece.size * times, product)

    def quantifier(self) -> tuple[int, int | None] | None:
        for symbol, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(symbol):
                return bounds
        if not self.take("{"):
            return None
        inside, closed, _ = self.pattern[self.position :].partition("}")
        low, comma, high = inside.partition(",")
        numbers = [text for text in (low, high) if text]
        if not (closed and low and all(text.isascii() and text.isdigit() and len(text) < 10 for text in numbers)):
            raise PatternError("a `{` that opens no repetition (write it as `\\{`)")
        self.position += len(inside) + 1
        least = int(low)
        most = None if comma and not high else int(high or low)
        if most is not None and most < least:
            raise PatternError(f"the repetition `{{{inside}}}`, whose bounds are reversed")
        return least, most

    def character_class(self) -> Ranges:
        negated = self.take("^")
        included: list[Ranges] = []  # in every dialect
        possible: list[Ranges] = []  # in some dialect
        if self.peek() == "]":
            raise PatternError("an empty class")
        while not self.take("]"):
            low, low_possible = self.class_item()
            if self.peek() == "-" and self.pattern[self.position + 1 : self.position + 2] not in ("]", ""):
                self.next()
                high, _ = self.class_item()
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1]:
                    raise PatternError("a class range that does not run between two characters")
                if low[0][0] > high[0][0]:
                    raise PatternError("a class range whose ends are reversed")
                low = low_possible = characters.intersection(((low[0][0], high[0][0]),), characters.EVERY)
            included.append(low)
            possible.append(low_possible)
        return characters.complement(characters.union(*possible)) if negated else characters.union(*included)

    def class_item(self) -> tuple[Ranges, Ranges]:
        character = self.next()
        if character == "\\":
            return self.escape(in_class=True)
        single = ((ord(character), ord(character)),)
        return single, single

    def escape(self, *, in_class: bool = False) -> tuple[Ranges, Ranges]:
        """The characters behind a backslash: those that every dialect means, those that some dialect means."""
        character = self.next()
        if character.lower() in _SHORTHANDS:
            included, possible = _SHORTHANDS[character.lower()]
            if character.isupper():
                included, possible = characters.complement(possible), characters.complement(included)
            return included, possible
        if character in _CONTROLS:
            code = _CONTROLS[character]
        elif character == "b" and in_class:
            code = 0x08
        elif character == "x":
            code = self.hexadecimal(2)
        elif character == "u":
            code = self.code_unit()
        elif character.isascii() and not character.isalnum():
            code = ord(character)
        else:
            raise PatternError(_UNSUPPORTED_ESCAPES.get(character, f"the unknown escape `\\{character}`"))
        return ((code, code),), ((code, code),)

    def code_unit(self) -> int:
        r"""A \uXXXX escape, or two of them that form one character."""
        code = self.hexadecimal(4)
        if 0xD800 <= code < 0xDC00 and self.pattern.startswith("\\u", self.position):
            self.position += 2
            low = self.hexadecimal(4)
            if 0xDC00 <= low < 0xE000:
                return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        if 0xD800 <= code < 0xE000:
            raise PatternError("a lone surrogate")
        return code

    def hexadecimal(self, digits: int) -> int:
        text = self.pattern[self.position : self.position + digits]
        if len(text) < digits or any(digit not in "0123456789abcdefABCDEF" for digit in text):
            raise PatternError("an escape that lacks hexadecimal digits")
        self.position += digits
        return int(text, 16)

    def one_of(self, ranges: Ranges) -> _Piece:
        if not ranges:
            raise PatternError("a class that holds no character")
        return _Piece(Characters(ranges), 1)

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self, character: str) -> bool:
        if self.peek() != character:
            return False
        self.position += 1
        return True

    def next(self) -> str:
        character = self.peek()
        if not character:
            raise PatternError("an unfinished class or escape")
        self.position += 1
        return character
