"""Tool examples: functions offered, a wish, and the calls that answer it in the chat template's own format.

Owns how a call is written: one JSON object between `<tool_call>` marks for each call. What can be called stands in
`functions.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

from outrider.demo.recipe.conversation import TOOL_CALL, Example, Message
from outrider.demo.recipe.domain import mentioned
from outrider.demo.recipe.extraction import compact
from outrider.demo.recipe.functions import FUNCTIONS, Function
from outrider.demo.recipe.rewording import opened, worded
from outrider.demo.recipe.words import Writer, grammatical

NO_TOOL: Final = "I have no tool for that."


def tool_call(writer: Writer) -> Example:
    """A wish with tools: one call, two calls, none that fits, or the answer after a tool has replied."""
    offered = writer.some(FUNCTIONS, writer.integer(1, 4))
    named = [(function, writer.one(function.names)) for function in offered]
    tools = tuple(_declaration(function, name) for function, name in named)
    shape = writer.weighted(("one", "two", "none", "reply"), (60, 15, 12, 13))
    system = (Message("system", "You are a helpful assistant."),) if writer.chance(0.3) else ()
    if shape == "none":
        other = writer.one([function for function in FUNCTIONS if function not in offered])
        wish, _ = _wish(writer, other)
        return Example("tool/none", (*system, Message("user", wish), Message("assistant", NO_TOOL)), tools)
    if shape == "two":
        (first, first_name), (second, second_name) = writer.one(named), writer.one(named)
        wish, arguments = _wish(writer, first)
        also, more = _wish(writer, second)
        calls = f"{written_call(first_name, arguments)}\n{written_call(second_name, more)}"
        return Example("tool/two", (*system, Message("user", f"{wish} {also}"), Message("assistant", calls)), tools)
    function, name = writer.one(named)
    wish, arguments = _wish(writer, function)
    call = written_call(name, arguments)
    if shape == "reply" and function.result:
        result, answer = function.result(writer, arguments)
        turns = (Message("user", wish), Message("assistant", call), Message("tool", compact(result)))
        return Example("tool/reply", (*system, *turns, Message("assistant", answer)), tools)
    return Example("tool/one", (*system, Message("user", wish), Message("assistant", call)), tools)


def written_call(name: str, arguments: Mapping[str, Any]) -> str:
    """One call as the chat template writes it."""
    return f"{TOOL_CALL[0]}{compact({'name': name, 'arguments': arguments})}{TOOL_CALL[1]}"


def _wish(writer: Writer, function: Function) -> tuple[str, dict[str, Any]]:
    """A wording, and the arguments that it mentions in the order of the declaration."""
    wording = opened(writer, worded(writer, function.wishes))
    said = mentioned(wording)
    arguments = {name: parameter.draw(writer) for name, parameter in function.parameters.items() if name in said}
    return grammatical(wording.format(**arguments)), arguments


def _declaration(function: Function, name: str) -> dict[str, Any]:
    properties = {key: parameter.schema for key, parameter in function.parameters.items()}
    parameters = {"type": "object", "properties": properties, "required": list(function.required)}
    return {
        "type": "function",
        "function": {"name": name, "description": function.description, "parameters": parameters},
    }
