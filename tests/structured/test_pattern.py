"""Patterns and automata against Python's own regular expressions."""

import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgrammar import Grammar
from xgrammar.testing import _get_matcher_from_grammar

from outrider.structured.automaton import TooComplexError, build
from outrider.structured.pattern import PatternError, parse
from outrider.structured.strings import automaton_of, string_expression
from outrider.structured.terminals import rules_of

TEXTS = ["".join(letters) for size in range(6) for letters in itertools.product("abc", repeat=size)]


def patterns() -> st.SearchStrategy[str]:
    """Patterns over a, b and c, nested a few levels."""
    leaves = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", "[b-c]"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        quantifiers = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,3}", "{2,}", "{0}"])
        return st.one_of(
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.lists(st.one_of(inner, st.just("")), min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, quantifiers).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        )

    return st.recursive(leaves, grown, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(patterns())
def test_automata_agree_with_regular_expressions(pattern: str) -> None:
    """An automaton accepts what the pattern matches from end to end."""
    automaton = build(parse(f"^(?:{pattern})$"))

    assert [text for text in TEXTS if re.fullmatch(pattern, text)] == [t for t in TEXTS if automaton.accepts(t)]


@settings(max_examples=60, deadline=None)
@given(patterns())
def test_rules_agree_with_automata(pattern: str) -> None:
    """The grammar library reads from the rules what the automaton says."""
    automaton = build(parse(f"^(?:{pattern})$"))
    rules = {"root": '"<" t ">"', **rules_of(automaton, "t")}
    matcher = _get_matcher_from_grammar(Grammar.from_ebnf("".join(f"{k} ::= {v}\n" for k, v in rules.items())))

    for text in TEXTS[:200]:
        matcher.reset()

        assert automaton.accepts(text) == (matcher.accept_string(f"<{text}>") and matcher.is_terminated()), text


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("^ab$", ["ab"], ["a", "xab", "abx"]),
        ("ab", ["ab", "xaby"], ["a", "ba"]),
        ("^a|b$", ["a", "ax", "xb"], ["xax"]),
        ("", ["", "x"], []),
        ("^$", [""], ["x"]),
        ("^.$", ["x", "é", "😀", '"', "\\", "\t"], ["", "xx", "\n", "\u2028"]),
        ("^\\d\\w\\s$", ["1a ", "1_\t"], ["éa ", "1é "]),
        ("^[^\\d]$", ["a"], ["1", "٣"]),
        ("^\\u00e9\\x41\\ud83d\\ude00$", ["éA😀"], ["eA😀"]),
        ("^[\\]\\[^-]$", ["]", "[", "^", "-"], ["\\"]),
        ("^a{2,3}?b$", ["aab", "aaab"], ["ab"]),
        ("^(?<name>a)$", ["a"], ["b"]),
        ("^\\x01$", ["\x01"], ["\x02"]),
        ("^a\\/b\\.c$", ["a/b.c"], ["a/bxc"]),
    ],
)
def test_strings_are_matched_as_json(pattern: str, matching: list[str], others: list[str]) -> None:
    """The automaton reads JSON text: a quote or a newline as its escape."""
    automaton = automaton_of(string_expression({"pattern": pattern}))

    for text in matching:
        assert automaton.accepts(json.dumps(text, ensure_ascii=False)), text
    for text in others:
        assert not automaton.accepts(json.dumps(text, ensure_ascii=False)), text
    for raw in ['"""', '"\\"', '"\n"', '"\\ud800"']:
        assert not automaton.accepts(raw)


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "[]", "[z-a]", "a{2,1}", "a**", "*a", "a{,3}", "\\", "\\p{L}", "\\b", "(?i)a", "(?P<n>a)", "a^b",
     "a$b", "(^a)", "\\1", "(?=a)", "(?<=a)", "\\cA", "\\ud800", "\\x4", "a\0", "a" * 3000, "[\\d-z]", "[^\\s\\S]",
     "((a{0,100}){0,100}){0,100}", "(a{16}){17}", "(" * 40 + ")" * 40],
)  # fmt: skip
def test_patterns_that_cannot_be_kept_raise(pattern: str) -> None:
    """Malformed, unsupported and oversized patterns are told apart from the rest."""
    with pytest.raises(PatternError):
        parse(pattern)


def test_automata_stay_small() -> None:
    """A pattern whose automaton would explode is given up."""
    with pytest.raises(TooComplexError):
        build(parse("^(?:a|b)*a(?:a|b){12}$"))
