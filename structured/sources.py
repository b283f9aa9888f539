"""From each kind of constraint to the text of a grammar, in xgrammar's EBNF or llguidance's Lark."""

import re
from typing import Any, Final

import xgrammar

from outrider.structured import limits
from outrider.structured.audit import Audit, audit
from outrider.structured.automaton import Either, Expression, TooComplexError, build, literal
from outrider.structured.constraint import Whitespace
from outrider.structured.ebnf import quoted, to_ebnf
from outrider.structured.errors import SchemaError, first_line
from outrider.structured.lark import HEADER, Lark, expression_lark, to_lark
from outrider.structured.pattern import PatternError, parse_whole
from outrider.structured.terminals import rules_of

_LARK_START: Final = re.compile(r"^\s*start\s*:", re.MULTILINE)


def ebnf_of(kind: str, value: Any, whitespace: Whitespace = "compact") -> str:
    """EBNF of what an audited schema, a pattern, a list of choices or a grammar describes; its root is called `root`.

    Raises SchemaError, and TooComplexError for what llguidance alone can keep.
    """
    match kind:
        case "regex":
            return _text(rules_of(build(pattern_of(value)), "root"))
        case "choice":
            return _text({"root": " | ".join(quoted(choice) for choice in choices_of(value))})
        case "grammar":
            return _ebnf(value)
        case _:
            return to_ebnf(value, whitespace)


def lark_of(kind: str, value: Any, whitespace: Whitespace = "compact") -> Lark:
    """Lark of the same; a grammar must be written in it. Raises SchemaError."""
    match kind:
        case "regex":
            return expression_lark(pattern_of(value))
        case "choice":
            return expression_lark(Either(tuple(literal(choice) for choice in choices_of(value))))
        case "grammar":
            return Lark(HEADER + value)
        case _:
            return to_lark(value, whitespace)


def part_of(kind: str, value: Any, *, strict: bool = True) -> str:
    """EBNF for a part of a tag, whose schemas nobody validates later: strict ones must be exact.

    Raises SchemaError.
    """
    try:
        return ebnf_of(kind, audited(value, strict=strict).schema if kind == "json_schema" else value)
    except TooComplexError as error:
        raise SchemaError(f"is too complex for a tag: {error}") from error


def audited(schema: Any, *, strict: bool = False) -> Audit:
    """The schema, normalised. Raises SchemaError when it is refused."""
    result = audit(schema)
    refusal = result.error(strict=strict)
    if refusal is not None:
        raise refusal
    return result


def pattern_of(pattern: Any) -> Expression:
    """What a text must match from end to end. Raises SchemaError."""
    if not isinstance(pattern, str):
        raise SchemaError("a pattern is a string")
    try:
        return parse_whole(pattern)
    except PatternError as error:
        raise SchemaError(f"the pattern uses {error}, which is not supported") from error


def choices_of(choices: Any) -> list[str]:
    """The texts to choose from. Raises SchemaError."""
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise SchemaError("choices are a list of strings, at least one")
    if len(choices) > limits.MAX_ENUM_VALUES:
        raise SchemaError(f"more than {limits.MAX_ENUM_VALUES} choices: shorten the list")
    if "" in choices:
        raise SchemaError("a choice is empty: remove it")
    return choices


def is_lark(text: Any) -> bool:
    """Whether a user's grammar is written in Lark rather than EBNF. Raises SchemaError when it is neither."""
    if not isinstance(text, str):
        raise SchemaError("a grammar is a string")
    if len(text.encode()) > limits.MAX_GRAMMAR_BYTES:
        raise SchemaError(f"the grammar has more than {limits.MAX_GRAMMAR_BYTES // 1024} KiB: shorten it")
    if "::=" in text:
        return False
    if not _LARK_START.search(text):
        raise SchemaError("a grammar has a rule `root ::= ...` (EBNF) or `start: ...` (Lark)")
    return True


def _ebnf(text: Any) -> str:
    if is_lark(text):
        raise SchemaError("a grammar within a tag is EBNF: `root ::= ...`")
    assert isinstance(text, str), "checked above"
    try:
        xgrammar.Grammar.from_ebnf(text)
    except RuntimeError as error:
        raise SchemaError(f"the grammar is not valid: {first_line(error)}") from error
    return text


def _text(rules: dict[str, str]) -> str:
    return "".join(f"{name} ::= {body}\n" for name, body in rules.items())
