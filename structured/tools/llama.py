"""Calls as Llama 3 writes them: the whole answer is one, without a mark or behind `<|python_tag|>`.

    {"name": "get_weather", "parameters": {"city": "Paris"}}

Its templates hold one call to an answer, so the grammar lets no second one through; the parser reads several.
"""

from collections.abc import Sequence
from typing import Final

from outrider.structured.tools import format as form
from outrider.structured.tools.events import Event
from outrider.structured.tools.format import Demand, Function, Tag
from outrider.structured.tools.json_call import JsonCall
from outrider.structured.tools.marks import ContentText

_TAG: Final = "<|python_tag|>"
_OPENING: Final = '{"name"'
_BLANKS: Final = " \t\r\n"
_SEPARATORS: Final = _BLANKS + ";"


class LlamaParser:
    """Decides by how the answer begins; a call's object may be followed by others."""

    def __init__(self) -> None:
        self._held = ""
        self._content = ContentText()
        self._is_content = False
        self._call: JsonCall | None = None
        self._has_called = False

    def feed(self, text: str) -> list[Event]:
        """See `Parser`."""
        events: list[Event] = []
        self._held += text
        while self._held and self._advance(events):
            pass
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        held, self._held = self._held, ""
        if self._call is not None:
            held = "" if self._call.is_begun else self._call.raw
        return [*self._content.add(held), *self._content.finish()]

    def _advance(self, events: list[Event]) -> bool:
        if self._is_content:
            events += self._content.add(self._held)
            self._held = ""
            return False
        if self._call is None:
            return self._open()
        told, self._held = self._call.feed(self._held)
        events += told
        if told:
            self._content.call()
            self._has_called = True
        if self._call.is_broken:
            self._held = self._call.raw + self._held
            self._is_content = True
        if self._call.is_done or self._call.is_broken:
            self._call = None
            return True
        return False

    def _open(self) -> bool:
        """Decides what stands before the next call; whether that is known."""
        text = self._held.lstrip(_SEPARATORS if self._has_called else _BLANKS).removeprefix(_TAG).lstrip(_BLANKS)
        if text.startswith(_OPENING):
            self._call, self._held = JsonCall("parameters", "arguments"), text
            return True
        is_open = _OPENING.startswith(text) or _TAG.startswith(text)
        self._is_content = not is_open
        return self._is_content


class Llama:
    """Llama 3.1, 3.2 and 3.3."""

    name = "llama3"
    marks = (_TAG,)

    def is_used_by(self, template: str) -> bool:
        """See `ToolFormat`."""
        return "<|start_header_id|>" in template and '"parameters": ' in template

    def parser(self) -> LlamaParser:
        """See `ToolFormat`."""
        return LlamaParser()

    def grammar(self, functions: Sequence[Function], demand: Demand, *, parallel: bool) -> Tag:  # noqa: ARG002
        """See `ToolFormat`. Never more than one call."""
        source = f"root ::= {_not_beginning_with(_OPENING)}\nany ::= [\\u0000-\\U0010ffff]*\n"
        content = {"type": "grammar", "grammar": source}
        if demand == "none":
            return content
        call = form.one_of([_object(function) for function in functions])
        return call if demand == "required" else form.one_of([call, form.marked(_TAG, call, ""), content])

    def new_call_id(self) -> str:
        """See `ToolFormat`."""
        return form.new_call_id("call_", 24)


def _object(function: Function) -> Tag:
    opening = f'{_OPENING}: "{function.name}", "parameters": '
    return form.sequence(form.text(opening), form.arguments(function), form.text("}"))


def _not_beginning_with(text: str) -> str:
    """EBNF of all texts that do not begin with this one, blanks before it left out of account."""
    expression = ""
    for character in reversed(text):
        code = f"\\u{ord(character):04x}"
        further = f' | "{code}" ({expression})' if expression else ""
        expression = f'"" | [^{code}] any{further}'
    return f"[ \\t\\r\\n]* ({expression})"
