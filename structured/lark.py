r"""A normalised schema as a grammar in llguidance's Lark: the same language as `ebnf.py` writes for xgrammar.

llguidance reads JSON Schema too, but then whatever it takes a keyword to mean would be what is enforced. Here strings
and numbers are regular expressions, which its lexer follows lazily: nothing grows with their lengths.

    start: "{\"name\":" T0 "}"
    T0: /"[a-z]{1,200}"/
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from outrider.structured.automaton import Characters, Either, Expression, Repeated, Sequenced, num_positions
from outrider.structured.characters import Ranges
from outrider.structured.constraint import Whitespace
from outrider.structured.decimals import decimal_regex
from outrider.structured.ebnf import BLANK, LAYOUT, Writer, compact
from outrider.structured.pattern import parse_own
from outrider.structured.strings import other_names, string_expression

# Else llguidance allows one spelling in tokens alone where the text is forced, and drafts in another one would be lost.
HEADER: Final = '%llguidance {"no_forcing": true}\n'


@dataclass(frozen=True, slots=True)
class Lark:
    """A grammar's text, and how many states xgrammar would have for its strings and numbers, about."""

    text: str
    num_states: int = 0


def to_lark(schema: dict[str, Any], whitespace: Whitespace = "compact") -> Lark:
    """Grammar of the JSON text that a schema normalised by the audit allows."""
    writer = _LarkWriter(schema, whitespace)
    text = HEADER + writer.text()
    return Lark(text, writer.num_states)


def expression_lark(expression: Expression) -> Lark:
    """Grammar of the texts that an expression matches."""
    return Lark(f"{HEADER}start: T\nT: /{regex(expression)}/\n", num_positions(expression))


class _LarkWriter(Writer):
    root = "start"
    definition = ":"
    num_states = 0

    def lexeme(self, key: str, expression: Expression) -> str:
        """Name of the terminal for an expression; equal keys, equal terminals."""
        if key not in self.terminals:
            name = self.terminals[key] = f"T{len(self.terminals)}"
            self.rules[name] = f"/{regex(expression)}/"
            self.num_states += num_positions(expression)
        return self.terminals[key]

    def number(self, schema: dict[str, Any]) -> str:
        return self.lexeme(compact(schema), parse_own(decimal_regex(schema)))

    def string(self, schema: dict[str, Any]) -> str:
        return self.lexeme(compact(schema), string_expression(schema))

    def other_names(self, declared: list[str]) -> str:
        return self.lexeme(f"other than {compact(declared)}", other_names(declared))

    def quoted(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    def mark(self, mark: str) -> str:
        if self.is_compact:
            return f'"{mark}"'
        # One terminal with its whitespace: a terminal of its own must not be empty.
        space = BLANK if mark == ":" else LAYOUT
        return self.lexeme(mark, parse_own(f"{space}\\{mark}" if mark in "]}" else f"\\{mark}{space}"))


def regex(expression: Expression) -> str:
    """The expression in the syntax of Rust's regular expressions, ready to stand between slashes."""
    match expression:
        case Characters(ranges):
            return _class(ranges)
        case Sequenced(parts):
            return "".join(regex(part) for part in parts)
        case Either(parts):
            return f"(?:{'|'.join(regex(part) for part in parts)})"
        case Repeated(part, least, most):
            count = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
            inner = regex(part)
            group = inner if isinstance(part, (Characters, Either)) else f"(?:{inner})"
            return group + (count or f"{{{least},{'' if most is None else most}}}")


def _class(ranges: Ranges) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _escaped(ranges[0][0])
    spans = (_escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}" for low, high in ranges)
    return f"[{''.join(spans)}]"


def _escaped(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\x{{{code:x}}}"
