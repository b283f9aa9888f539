"""From each kind of constraint to a grammar of xgrammar's. Runs in the compile worker."""

from typing import Any

import xgrammar

from outrider.structured import limits
from outrider.structured.audit import audit
from outrider.structured.automaton import TooComplexError, build
from outrider.structured.constraint import Kind
from outrider.structured.ebnf import quoted, to_ebnf
from outrider.structured.errors import SchemaError, first_line
from outrider.structured.finding import Finding, refusal
from outrider.structured.pattern import PatternError, parse_whole
from outrider.structured.tags import prepare
from outrider.structured.terminals import rules_of
from outrider.structured.vocabulary import added_tokens


def grammar_of(kind: Kind, value: Any, info: xgrammar.TokenizerInfo) -> tuple[xgrammar.Grammar, tuple[Finding, ...]]:
    """The grammar of a constraint's value, and what it leaves to the validator. Raises SchemaError."""
    if kind in {"json_schema", "json_object"}:
        audited = audit(value)
        refused = audited.error()
        if refused is not None:
            raise refused
        return xgrammar.Grammar.from_ebnf(to_ebnf(audited.schema)), audited.left
    return _unvalidated(kind, value, info), ()


def _unvalidated(kind: Kind, value: Any, info: xgrammar.TokenizerInfo) -> xgrammar.Grammar:
    if kind == "grammar":  # as a tag: xgrammar masks legal tokens of a root that is recursive, and tags have their own
        value = {"format": {"type": "grammar", "grammar": value}}
    elif kind != "structural_tag":
        return xgrammar.Grammar.from_ebnf(ebnf_of(kind, value))
    limits.check_nesting(value)
    return xgrammar.Grammar.from_structural_tag(prepare(value, added_tokens(info), ebnf_of))


def ebnf_of(kind: str, value: Any, *, is_strict: bool = True) -> str:
    """EBNF of what a schema, a pattern, a list of choices or a grammar describes; its root is called `root`.

    Of a schema that is not strict, what cannot be enforced is left out. Raises SchemaError.
    """
    match kind:
        case "regex":
            return _regex(value)
        case "choice":
            return _choice(value)
        case "grammar":
            return _grammar(value)
        case _:
            audited = audit(value)
            problem = refusal(audited.findings, strict=is_strict)
            if problem is not None:
                raise problem
            return to_ebnf(audited.schema)


def _regex(pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise SchemaError("a pattern is a string")
    try:
        rules = rules_of(build(parse_whole(pattern)), "root")
    except PatternError as error:
        raise SchemaError(f"the pattern uses {error}, which is not supported") from error
    except TooComplexError as error:
        raise SchemaError("the pattern has too many states: shorten its repetitions") from error
    return _text(rules)


def _choice(choices: Any) -> str:
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise SchemaError("choices are a list of strings, at least one")
    if len(choices) > limits.MAX_ENUM_VALUES:
        raise SchemaError(f"more than {limits.MAX_ENUM_VALUES} choices: shorten the list")
    if "" in choices:
        raise SchemaError("a choice is empty: remove it")
    return _text({"root": " | ".join(quoted(choice) for choice in choices)})


def _grammar(text: Any) -> str:
    if not isinstance(text, str) or "::=" not in text:
        raise SchemaError("a grammar is text with rules such as `root ::= ...`")
    if len(text.encode()) > limits.MAX_GRAMMAR_BYTES:
        raise SchemaError(f"the grammar has more than {limits.MAX_GRAMMAR_BYTES // 1024} KiB")
    try:
        xgrammar.Grammar.from_ebnf(text)
    except RuntimeError as error:
        raise SchemaError(f"the grammar is not valid: {first_line(error)}") from error
    return text


def _text(rules: dict[str, str]) -> str:
    return "".join(f"{name} ::= {body}\n" for name, body in rules.items())
