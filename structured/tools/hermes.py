"""Calls as Hermes, Qwen and many others write them, and the embedded family in its compact way.

<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris"}}
</tool_call>
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from outrider.structured.tools import format as form
from outrider.structured.tools.events import Content, Event
from outrider.structured.tools.format import Demand, Function, Tag
from outrider.structured.tools.json_call import JsonCall
from outrider.structured.tools.marks import ContentText, cut

BEGIN: Final = "<tool_call>"
END: Final = "</tool_call>"
# Of families that write something else than one JSON object between the same marks.
_FOREIGN: Final = ("<function=", "<arg_key>")


class HermesParser:
    """Reads JSON objects behind `<tool_call>`; `</tool_call>` may be missing."""

    def __init__(self) -> None:
        self._held = ""
        self._content = ContentText()
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
        if self._call is not None and not self._call.is_begun:
            held = BEGIN + self._call.raw
        return [*self._content.add(held), *self._content.finish()]

    def _advance(self, events: list[Event]) -> bool:
        """Reads on up to the next mark or the end of a call; whether there may be more to read."""
        if self._call is None:
            before, mark, self._held = cut(self._held, (BEGIN, END))
            events += self._content.add(before)
            if mark == BEGIN:
                self._call = JsonCall("arguments")
            return bool(mark)
        told, self._held = self._call.feed(self._held)
        if any(not isinstance(event, Content) for event in told):
            self._content.call()
        events += told
        if self._call.is_broken:
            events += self._content.add(BEGIN + self._call.raw)
        if self._call.is_done or self._call.is_broken:
            self._call = None
            return True
        return False


@dataclass(frozen=True, slots=True)
class MarkedObjects:
    """JSON objects between `<tool_call>` and `</tool_call>`, with the blanks that a family writes."""

    name: str
    before: str  # between the mark and the object
    after: str
    gap: str  # behind colons and commas of the object
    written: str  # in the templates of this family alone

    @property
    def marks(self) -> tuple[str, ...]:
        """See `ToolFormat`."""
        return BEGIN, END

    def is_used_by(self, template: str) -> bool:
        """See `ToolFormat`."""
        return self.written in template and not any(foreign in template for foreign in _FOREIGN)

    def parser(self) -> HermesParser:
        """See `ToolFormat`."""
        return HermesParser()

    def grammar(self, functions: Sequence[Function], demand: Demand, *, parallel: bool) -> Tag:
        """See `ToolFormat`."""
        if demand == "none":
            return form.free(BEGIN)
        call = form.marked(BEGIN, form.one_of([self._object(function) for function in functions]), END)
        if demand == "auto":
            return form.among_text(call, BEGIN, parallel=parallel)
        return form.repeated(call, "\n", parallel=parallel)

    def new_call_id(self) -> str:
        """See `ToolFormat`."""
        return form.new_call_id("call_", 24)

    def _object(self, function: Function) -> Tag:
        gap = self.gap
        opening = f'{self.before}{{"name":{gap}"{function.name}",{gap}"arguments":{gap}'
        return form.sequence(form.text(opening), form.arguments(function), form.text("}" + self.after))


DEMO: Final = MarkedObjects("demo", "", "", "", '<tool_call>{"name":')
HERMES: Final = MarkedObjects("hermes", "\n", "\n", " ", BEGIN)
