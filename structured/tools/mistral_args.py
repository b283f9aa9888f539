"""Calls as Mistral's models write them since version 11 of its tokenizer: names and arguments between marks.

[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}
"""

from collections.abc import Sequence
from typing import Final

from outrider.structured.tools import format as form
from outrider.structured.tools.events import CallArguments, CallBegun, Event
from outrider.structured.tools.format import Demand, Function, Tag
from outrider.structured.tools.json_call import Nesting
from outrider.structured.tools.marks import ContentText, cut

BEGIN: Final = "[TOOL_CALLS]"
ARGUMENTS: Final = "[ARGS]"
_ID: Final = "[CALL_ID]"  # some write one behind the name


class MistralArgsParser:
    """Reads a name up to `[ARGS]`, then one JSON object."""

    def __init__(self) -> None:
        self._held = ""
        self._content = ContentText()
        self._is_in_name = False
        self._object: Nesting | None = None  # of the arguments

    def feed(self, text: str) -> list[Event]:
        """See `Parser`."""
        events: list[Event] = []
        self._held += text
        while self._held and self._advance(events):
            pass
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        held = BEGIN + self._held if self._is_in_name else self._held
        self._held = ""
        return [*self._content.add(held), *self._content.finish()]

    def _advance(self, events: list[Event]) -> bool:
        if self._object is not None:
            return self._read_arguments(self._object, events)
        if self._is_in_name:
            name, mark, behind = cut(self._held, (ARGUMENTS,))
            if mark:
                events.append(CallBegun(name.partition(_ID)[0].strip()))
                self._content.call()
                self._is_in_name, self._object, self._held = False, Nesting(), behind
            return bool(mark)
        before, mark, self._held = cut(self._held, (BEGIN,))
        events += self._content.add(before)
        self._is_in_name = bool(mark)
        return self._is_in_name

    def _read_arguments(self, nesting: Nesting, events: list[Event]) -> bool:
        """Up to the end of the object; whether it has been reached."""
        text = self._held
        for place, character in enumerate(text):
            nesting.step(character)
            if character == "}" and nesting.depth == 0:
                events.append(CallArguments(text[: place + 1]))
                self._object, self._held = None, text[place + 1 :]
                return True
        events.append(CallArguments(text))
        self._held = ""
        return False


class MistralArgs:
    """Mistral Small 3.2, Devstral, Magistral and what came later."""

    name = "mistral-args"
    marks = (BEGIN, ARGUMENTS, _ID)

    def is_used_by(self, template: str) -> bool:
        """See `ToolFormat`."""
        return BEGIN in template and ARGUMENTS in template

    def parser(self) -> MistralArgsParser:
        """See `ToolFormat`."""
        return MistralArgsParser()

    def grammar(self, functions: Sequence[Function], demand: Demand, *, parallel: bool) -> Tag:
        """See `ToolFormat`."""
        if demand == "none":
            return form.free(BEGIN)
        bodies = [form.sequence(form.text(one.name + ARGUMENTS), form.arguments(one)) for one in functions]
        call = form.marked(BEGIN, form.one_of(bodies), "")
        if demand == "auto":
            return form.among_text(call, BEGIN, parallel=parallel)
        return form.repeated(call, "", parallel=parallel)

    def new_call_id(self) -> str:
        """See `ToolFormat`. Its templates refuse ids of another length."""
        return form.new_call_id("", 9)
