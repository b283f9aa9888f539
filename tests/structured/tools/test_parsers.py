"""Every parser of calls: the same events however the text is cut."""

import json

import pytest

from outrider.structured.tools.events import CallArguments, CallBegun, Content, Reasoning
from outrider.structured.tools.reasoning import ReasoningParser
from outrider.structured.tools.table import FORMATS

PARIS, ROME = '{"city": "Paris"}', '{"city":"R\\"ome}","days":[1,{"a":2}]}'


def read(parser, text, size):
    """What a text says, told in pieces of so many characters: content, reasoning and calls."""
    events = []
    for start in range(0, len(text), size):
        events += parser.feed(text[start : start + size])
    events += parser.finish()
    content, reasoning, calls = "", "", []
    for event in events:
        match event:
            case Content(piece):
                content += piece
            case Reasoning(piece):
                reasoning += piece
            case CallBegun(name=name):
                calls.append([name, ""])
            case CallArguments(piece):
                calls[-1][1] += piece
    assert all(getattr(event, "text", "some") for event in events), "no event is empty"
    return content, reasoning, [tuple(call) for call in calls]


def told(format_name, text):
    """The same for every way to cut the text."""
    found = {json.dumps(read(FORMATS[format_name].parser(), text, size)) for size in (1, 2, 3, 7, 1000)}
    assert len(found) == 1
    content, _, calls = json.loads(found.pop())
    return content, [tuple(call) for call in calls]


CALLS = {
    "demo": f'<tool_call>{{"name":"f","arguments":{PARIS}}}</tool_call>\n'
    f'<tool_call>{{"name":"g","arguments":{ROME}}}</tool_call>',
    "hermes": f'<tool_call>\n{{"name": "f", "arguments": {PARIS}}}\n</tool_call>\n'
    f'<tool_call>\n{{"name": "g", "arguments": {ROME}}}\n</tool_call>',
    "llama3": f'{{"name": "f", "parameters": {PARIS}}}; {{"name": "g", "parameters": {ROME}}}',
    "mistral": f'[TOOL_CALLS][{{"name": "f", "arguments": {PARIS}}}, {{"name": "g", "arguments": {ROME}}}]',
    "mistral-args": f"[TOOL_CALLS]f[ARGS]{PARIS}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{ROME}",
}


@pytest.mark.parametrize("name", FORMATS)
def test_two_calls_are_read(name) -> None:
    """Names, and arguments as they were written."""
    assert ("", [("f", PARIS), ("g", ROME)]) == told(name, CALLS[name])


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"llama3"}))
def test_text_before_calls_is_content(name) -> None:
    """Without the blanks between."""
    assert ("Let me look.", [("f", PARIS), ("g", ROME)]) == told(name, "Let me look.\n\n" + CALLS[name])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "text", ["Hello.", " two\n\nlines \n", "", "a < b <tool", '{"a": 1}', "[1, [TOOL", "{", "<|py"]
)
def test_text_without_calls_is_the_content(name, text) -> None:
    """Every character of it, what looks like the beginning of a mark too."""
    assert (text, []) == told(name, text)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_cut_short_keeps_what_was_told(name) -> None:
    """A call whose name is known stays one, with the arguments so far."""
    text = CALLS[name]
    for end in range(len(text)):
        _, calls = told(name, text[:end])
        for (called, arguments), expected in zip(calls, [("f", PARIS), ("g", ROME)], strict=False):
            assert called == expected[0]
            assert expected[1].startswith(arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
        ("hermes", "<tool_call>what is this?"),
        ("llama3", '{"name": ["Ada"]}'),
        ("mistral", '[TOOL_CALLS][{"nobody": "f"}]'),
    ],
)
def test_what_is_no_call_is_not_lost(name, text) -> None:
    """It has no name that could be told, so its text is content."""
    content, calls = told(name, text)

    assert [] == calls
    assert "name" in content or "what is this?" in content or "nobody" in content


def test_members_may_come_in_any_order() -> None:
    """Arguments before the name wait for it; a call without arguments has none."""
    text = '<tool_call>{"id": 7, "arguments": {"a": [1]}, "name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>'

    assert ("", [("f", '{"a": [1]}'), ("g", "{}")]) == told("hermes", text)


def test_arguments_are_told_as_they_come() -> None:
    """A client sees them before they are whole."""
    parser = FORMATS["hermes"].parser()

    assert [CallBegun("f"), CallArguments('{"ci')] == parser.feed('<tool_call>{"name": "f", "arguments": {"ci')
    assert [CallArguments('ty": "Pa')] == parser.feed('ty": "Pa')


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("start", "text", "expected"),
    [
        ("before", "<think>\nHm, \n so.\n</think>\n\nYes.", ("Yes.", "Hm, \n so.")),
        ("before", "Yes. <think>no</think>", ("Yes. <think>no</think>", "")),
        ("before", "<thin", ("<thin", "")),
        ("open", "Hm.</think>Yes.\n", ("Yes.\n", "Hm.")),
        ("open", "Hm, </thi", ("", "Hm, </thi")),
        ("closed", "Yes </think>.", ("Yes </think>.", "")),
    ],
)
def test_reasoning_is_split_off(size, start, text, expected) -> None:
    """Only a section at the beginning is one, and it needs no end."""
    content, reasoning, _ = read(ReasoningParser(start, FORMATS["hermes"].parser()), text, size)

    assert expected == (content, reasoning)


def test_a_call_may_follow_reasoning() -> None:
    """And what is written in the section like one is none."""
    text = "<think><tool_call>{}</tool_call></think>\n" + CALLS["hermes"]

    content, reasoning, calls = read(ReasoningParser("before", FORMATS["hermes"].parser()), text, 3)
    assert ("", "<tool_call>{}</tool_call>") == (content, reasoning)
    assert [("f", PARIS), ("g", ROME)] == calls
