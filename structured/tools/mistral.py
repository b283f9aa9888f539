"""Calls as Mistral's models write them since version 3 of its tokenizer: one JSON list at the end of the answer.

[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]
"""

from collections.abc import Sequence
from typing import Final

from outrider.structured.tools import format as form
from outrider.structured.tools.events import Event
from outrider.structured.tools.format import Demand, Function, Tag
from outrider.structured.tools.json_call import JsonCall
from outrider.structured.tools.marks import ContentText, cut

BEGIN: Final = "[TOOL_CALLS]"
_BETWEEN: Final = " \t\r\n[,"


class MistralParser:
    """Reads the objects of the list behind `[TOOL_CALLS]`; behind the list there is nothing to read."""

    def __init__(self) -> None:
        self._held = ""
        self._content = ContentText()
        self._is_in_list = False
        self._call: JsonCall | None = None

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
        if not self._is_in_list:
            before, mark, self._held = cut(self._held, (BEGIN,))
            events += self._content.add(before)
            self._is_in_list = bool(mark)
            return self._is_in_list
        if self._call is None:
            self._held = self._held.lstrip(_BETWEEN)
            if self._held[:1] == "{":
                self._call = JsonCall("arguments")
                return True
            if self._held:  # the end of the list
                self._is_in_list = False
                self._held = self._held.removeprefix("]")
            return bool(self._held)
        told, self._held = self._call.feed(self._held)
        events += told
        if told:
            self._content.call()
        if self._call.is_broken:
            events += self._content.add(self._call.raw)
        if self._call.is_done or self._call.is_broken:
            self._call = None
            return True
        return False


class Mistral:
    """Mistral 7B v0.3, Nemo, Small and Large up to version 7 of the tokenizer."""

    name = "mistral"
    marks = (BEGIN,)

    def is_used_by(self, template: str) -> bool:
        """See `ToolFormat`."""
        return BEGIN in template and "[ARGS]" not in template

    def parser(self) -> MistralParser:
        """See `ToolFormat`."""
        return MistralParser()

    def grammar(self, functions: Sequence[Function], demand: Demand, *, parallel: bool) -> Tag:
        """See `ToolFormat`."""
        if demand == "none":
            return form.free(BEGIN)
        call = form.one_of([_object(function) for function in functions])
        calls = form.marked(BEGIN, form.marked("[", form.repeated(call, ", ", parallel=parallel), "]"), "")
        return form.among_text(calls, BEGIN, parallel=False) if demand == "auto" else calls

    def new_call_id(self) -> str:
        """See `ToolFormat`. Its templates refuse ids of another length."""
        return form.new_call_id("", 9)


def _object(function: Function) -> Tag:
    opening = f'{{"name": "{function.name}", "arguments": '
    return form.sequence(form.text(opening), form.arguments(function), form.text("}"))
