"""The forms beside JSON schemas: patterns, choices, grammars and structural tags."""

from collections.abc import Callable
from typing import Any

import pytest

from outrider.structured.constraint import Constraint
from outrider.structured.errors import CompileFailed, SchemaError
from outrider.structured.grammar import Grammar

GrammarOf = Callable[[Any], Grammar]
RECURSIVE = 'root ::= "(" root ")" root | ""'
CHOICES = ["yes", "yes, but", 'no "way"', "a\nb\\"]
FREE = {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
LAID_OUT = ['{"a":[1,2]}', '{\n  "a": [\n    1, 2 ]\n}']
CALL = {
    "type": "tag",
    "begin": '<tool_call>{"name":"f","arguments":',
    "content": {"type": "json_schema", "json_schema": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}},
    "end": "}<tool_call>",
}


def tag(**form: Any) -> Constraint:
    return Constraint("structural_tag", {"type": "structural_tag", "format": form})


def taken(grammar: Grammar, vocabulary: Any, text: str) -> str:
    """`done`, `open` when more must follow, else the refused piece; added tokens are written as their text."""
    rest, names = text, [vocabulary.pieces[i][1:].decode() for i in vocabulary.added_token_ids]
    tokens: list[int] = []
    while rest:
        at, name = min(((rest.find(name), name) for name in names if name in rest), default=(len(rest), ""))
        tokens += vocabulary.tokens(rest[:at])
        tokens += [vocabulary.added_token_ids[names.index(name)]] if name else []
        rest = rest[at + len(name) :]
    for token_id in tokens:
        if not grammar.accept(token_id):
            return vocabulary.pieces[token_id].decode(errors="replace")
    return "done" if grammar.accept(vocabulary.stop_token_ids[0]) else "open"


@pytest.mark.parametrize(
    ("constraint", "complete", "wrong"),
    [
        (Constraint("regex", "[a-c]+|x{2}"), ["a", "abc", "xx"], ["xa", "ax", "d", "x"]),
        (Constraint("regex", "^ab?$"), ["a", "ab"], ["b", "abb"]),
        (Constraint("choice", CHOICES), CHOICES, ["n", "y"]),
        (Constraint("grammar", 'start: "a" start? "b"'), ["ab", "aabb"], ["a", "abb", "b"]),
        (Constraint("grammar", RECURSIVE), ["()", "(())()"], [")", "(", "())"]),
        (Constraint("json_schema", FREE, "free"), LAID_OUT, ['{  "', '{"a" :', '{"a":  1']),
        (tag(type="const_string", value="a<think>b"), ["a<think>b"], ["ab"]),
        (tag(type="triggered_tags", triggers=["<tool_call>"], tags=[CALL]),
         ["no call", 'a <tool_call>{"name":"f","arguments":{"a":1}}<tool_call> b'],
         ["a <think>", '<tool_call>{"name":"g"', '<tool_call>{"name":"f","arguments":{"a":1}']),
    ],
)  # fmt: skip
def test_forms_allow_what_they_say(
    constraint: Constraint, complete: list[str], wrong: list[str], grammar_of: GrammarOf, vocabulary: Any
) -> None:
    """Whole texts of the form end; what leaves it is refused, or cannot end."""
    assert dict.fromkeys(complete, "done") == {
        text: taken(grammar_of(constraint), vocabulary, text) for text in complete
    }
    assert "done" not in {text: taken(grammar_of(constraint), vocabulary, text) for text in wrong}.values()


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint("regex", "a(?=b)"), "lookahead"),
        (Constraint("regex", 3), "a pattern is a string"),
        (Constraint("choice", []), "at least one"),
        (Constraint("choice", ["a", ""]), "empty"),
        (Constraint("grammar", "anything"), r"`root ::= ...` \(EBNF\) or `start: ...` \(Lark\)"),
        (Constraint("grammar", "root ::= x"), "not valid"),
        (Constraint("grammar", "start: x"), "unknown name"),
        (tag(type="html"), "`html` at `#/format` is no format"),
        (tag(type="any_text", max_tokens=3), "`max_tokens` at `#/format` is not enforced exactly"),
        (tag(type="tag", begin="<a>", end="</a>"), "`content` is missing"),
        (tag(type="json_schema", json_schema={"not": {}}), "`not` at `#`"),
        (tag(type="triggered_tags", triggers=["<b>"], tags=[{**CALL, "begin": "<a>"}]), "no trigger"),
        (Constraint("structural_tag", {"structures": [{}], "triggers": []}), "`begin`, `schema`, `end`"),
    ],
)
def test_malformed_forms_are_refused_by_name(constraint: Constraint, reason: str, grammar_of: GrammarOf) -> None:
    """The caller reads what is wrong, and where."""
    with pytest.raises((SchemaError, CompileFailed), match=reason):
        grammar_of(constraint)
