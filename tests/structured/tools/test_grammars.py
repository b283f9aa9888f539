"""The grammar of each way to write calls: what may be said, and what may not."""

import random
import re

import numpy as np
import pytest
import torch

from outrider.structured.constraint import Constraint
from outrider.structured.tools.format import Function, sequence
from outrider.structured.tools.reasoning import with_reasoning
from outrider.structured.tools.table import FORMATS

OBJECT = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
FUNCTIONS = (Function("f", OBJECT), Function("go", {"type": "object", "properties": {}, "additionalProperties": False}))
F, G, WRONG, UNKNOWN = ("f", '{"a":12}'), ("go", "{}"), ("f", '{"a":"12"}'), ("h", "{}")
WRITTEN = {
    "demo": ('<tool_call>{{"name":"{}","arguments":{}}}</tool_call>', "\n", ""),
    "hermes": ('<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>', "\n", ""),
    "llama3": ('{{"name": "{}", "parameters": {}}}', ";", ""),
    "mistral": ('{{"name": "{}", "arguments": {}}}', ", ", "[TOOL_CALLS][{}]"),
    "mistral-args": ("[TOOL_CALLS]{}[ARGS]{}", "", ""),
}


def written(name, *calls):
    call, separator, around = WRITTEN[name]
    text = separator.join(call.format(*one) for one in calls)
    return around.replace("{}", text) if around else text


def tokens(vocabulary, text):
    """The tokens of a text, marks that the vocabulary has as the tokens they are."""
    added = {vocabulary.pieces[token_id][1:].decode(): token_id for token_id in vocabulary.added_token_ids}
    parts = re.split("(" + "|".join(map(re.escape, added)) + ")", text)
    return [token_id for part in parts for token_id in ([added[part]] if part in added else vocabulary.tokens(part))]


@pytest.fixture
def says(grammar_of, vocabulary):
    """Whether a text is one that the grammar allows, from its beginning to its end."""

    def check(tag, text) -> bool:
        grammar = grammar_of(Constraint("structural_tag", {"type": "structural_tag", "format": tag}))
        return all(map(grammar.accept, [*tokens(vocabulary, text), vocabulary.stop_token_ids[0]]))

    return check


@pytest.mark.parametrize("name", FORMATS)
def test_required_calls_come_alone(name, says) -> None:
    """One at least, of a function there is, with arguments of its schema."""
    tag = FORMATS[name].grammar(FUNCTIONS, "required", parallel=True)
    accepted = {calls: says(tag, written(name, *calls)) for calls in ((F,), (G,), (WRONG,), (UNKNOWN,))}

    assert accepted == {(F,): True, (G,): True, (WRONG,): False, (UNKNOWN,): False}
    assert [False] * 2 == [says(tag, ""), says(tag, "Hello.")]


@pytest.mark.parametrize("name", FORMATS)
def test_free_text_may_hold_calls(name, says) -> None:
    """What looks like a call must be one."""
    tag = FORMATS[name].grammar(FUNCTIONS, "auto", parallel=True)

    assert [True] * 3 == [says(tag, text) for text in ("", 'Hello {"a": [1]}.', written(name, F))]
    assert [False] * 2 == [says(tag, written(name, call)) for call in (WRONG, UNKNOWN)]
    if name != "llama3":
        assert says(tag, "Let me look.\n" + written(name, F))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("demand", ["auto", "required"])
def test_several_calls_only_where_they_are_wanted(name, demand, says) -> None:
    """Llama 3 has no room for them."""
    text = written(name, F, G)
    allowed = [says(FORMATS[name].grammar(FUNCTIONS, demand, parallel=parallel), text) for parallel in (True, False)]

    assert [name != "llama3", False] == allowed


@pytest.mark.parametrize("name", FORMATS)
def test_none_means_no_call(name, says) -> None:
    """All other text is free."""
    tag = FORMATS[name].grammar(FUNCTIONS, "none", parallel=True)

    assert [True, False] == [says(tag, "Hello <tool, [TOOL, {}."), says(tag, written(name, F))]


@pytest.mark.parametrize("name", FORMATS)
def test_the_parser_reads_what_the_grammar_writes(name) -> None:
    """The two halves of a format agree."""
    parser = FORMATS[name].parser()
    calls = (F,) if name == "llama3" else (F, G)
    events = [*parser.feed(written(name, *calls)), *parser.finish()]
    found = "".join(getattr(event, "name", "") + getattr(event, "text", "") for event in events)

    assert "".join(name + arguments for name, arguments in calls) == found


ANSWER = {"type": "json_schema", "json_schema": OBJECT}


@pytest.mark.parametrize(
    ("start", "text", "allowed"),
    [
        ("before", '<think>\nWhy {"a"?\n</think>\n\n{"a":1}', True),
        ("before", '{"a":1}', True),
        ("before", '<think>{"a":1}', False),
        ("open", 'Why?</think>{"a":1}', True),
        ("open", 'Why?</think>so {"a":1}', False),
        ("closed", '{"a":1}', True),
        ("closed", '<think></think>{"a":1}', False),
    ],
)
def test_the_answer_is_constrained_behind_reasoning(start, text, allowed, says) -> None:
    """The section itself is free."""
    assert allowed == says(with_reasoning(ANSWER, start, None), text)


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_reasoning_ends_at_its_budget(budget, grammar_of, vocabulary) -> None:
    """On random walks with tokens taken back, as speculation does; the mask is that of a fresh grammar."""
    end = tokens(vocabulary, "</think>")[0]
    tag = with_reasoning(sequence({"type": "any_text"}), "open", budget)
    constraint = Constraint("structural_tag", {"type": "structural_tag", "format": tag})

    def mask(grammar):
        bits = torch.full((1, -(-vocabulary.size // 32)), -1, dtype=torch.int32)
        grammar.fill_mask(bits, 0)
        return np.flatnonzero(np.unpackbits(bits.numpy().view(np.uint8), bitorder="little")[: vocabulary.size])

    generator = random.Random(budget)
    grammar, taken = grammar_of(constraint), []
    for _ in range(150):
        if taken and generator.random() < 0.4:
            count = generator.randint(1, min(3, len(taken)))
            grammar.rollback(count)
            del taken[-count:]
        fresh = grammar_of(constraint)
        assert all(map(fresh.accept, taken))
        allowed = mask(grammar)
        assert mask(fresh).tolist() == allowed.tolist()
        if end not in taken:
            assert (len(taken) == budget) == (allowed.tolist() == [end])
        token_id = generator.choice([token for token in allowed.tolist() if token not in vocabulary.stop_token_ids])
        assert grammar.accept(token_id)
        taken.append(token_id)
