"""Answers and their schemas, by a judge of its own."""

import pytest

from outrider.loadtest.record import Answer, ToolCall
from outrider.loadtest.sample import Sample
from outrider.loadtest.validity import Validity, judge

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]


def answer(text: str = "", **fields: object) -> Answer:
    return Answer(
        chunks=(),
        ended=0.0,
        num_prompt_tokens=0,
        num_output_tokens=1,
        has_usage=True,
        num_coalesced=0,
        speculation=None,
        **({"text": text, "finish_reason": "stop"} | fields),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer('{"a": 1}'), Validity.VALID),
        (answer('{"a": -1}'), Validity.INVALID),
        (answer('{"b": 1}'), Validity.INVALID),
        (answer('Here: {"a": 1}'), Validity.INVALID),
        (answer('{"a": NaN}'), Validity.INVALID),
        (answer("[" * 100_000), Validity.INVALID),
        (answer('{"a": 1', finish_reason="length"), Validity.TRUNCATED),
        (answer(is_refusal=True), Validity.REFUSED),
    ],
)
def test_an_answer_is_what_its_schema_says(given: Answer, expected: Validity) -> None:
    """A cut answer is not an invalid one."""
    assert judge(Sample.from_prompt("p", 5, schema=SCHEMA), given) is expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([ToolCall("f", '{"a": 1}')], Validity.VALID),
        ([ToolCall("f", '{"a": "x"}')], Validity.INVALID),
        ([ToolCall("g", '{"a": 1}')], Validity.INVALID),
        ([ToolCall("f", '{"a": 1}'), ToolCall("f", "")], Validity.INVALID),
        ([], Validity.NO_CALL),
    ],
)
def test_tool_calls_follow_their_declaration(calls: list[ToolCall], expected: Validity) -> None:
    """All of them: a known name and arguments that its parameters accept."""
    assert judge(Sample.from_prompt("p", 5, tools=TOOLS), answer(tool_calls=tuple(calls))) is expected


def test_free_answers_are_not_judged() -> None:
    """There is nothing to follow."""
    assert judge(Sample.from_prompt("p", 5), answer("anything")) is None
