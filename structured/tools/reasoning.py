"""Reasoning before the answer, between `<think>` and `</think>`: split off, and bounded by a grammar."""

from typing import Final, Literal

from outrider.structured.tools.events import Event, Parser, Reasoning
from outrider.structured.tools.format import Tag, one_of, sequence, text
from outrider.structured.tools.marks import cut

BEGIN: Final = "<think>"
END: Final = "</think>"
_BLANKS: Final = " \t\r\n"

# Where the prompt leaves the model: inside a section that it has opened, behind one that it has closed, or before one.
Start = Literal["open", "closed", "before"]


def reasons(template: str | None) -> bool:
    """Whether a chat template knows such sections."""
    return template is not None and END in template


def start_of(prompt: str) -> Start:
    """Where a rendered prompt leaves the model."""
    end = prompt.rstrip(_BLANKS)
    return "open" if end.endswith(BEGIN) else "closed" if end.endswith(END) else "before"


class ReasoningParser:
    """Tells a section at the beginning as reasoning, without blanks at its ends; all else is for another parser."""

    def __init__(self, start: Start, rest: Parser) -> None:
        self._place: Literal["before", "inside", "after", "behind"] = _PLACES[start]
        self._rest = rest
        self._held = ""
        self._has_reasoned = False

    def feed(self, more: str) -> list[Event]:
        """See `Parser`."""
        events: list[Event] = []
        self._held += more
        if self._place == "before":
            self._open()
        if self._place == "inside":
            self._read(events)
        if self._place == "after":  # blanks between the section and the answer belong to neither
            self._held = self._held.lstrip(_BLANKS)
            self._place = "behind" if self._held else "after"
        if self._place == "behind":
            events += self._pass_on()
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        held = self._held.rstrip(_BLANKS)
        if self._place == "inside":
            return [Reasoning(held)] if held else []
        return [*self._pass_on(), *self._rest.finish()]

    def _pass_on(self) -> list[Event]:
        held, self._held = self._held, ""
        return self._rest.feed(held) if held else []

    def _open(self) -> None:
        """Whether the answer begins with a section, as soon as that is known."""
        text = self._held.lstrip(_BLANKS)
        if text.startswith(BEGIN):
            self._place, self._held = "inside", text[len(BEGIN) :]
        elif not BEGIN.startswith(text):
            self._place = "behind"

    def _read(self, events: list[Event]) -> None:
        """Tells reasoning up to the end mark, where it is there; blanks wait for what follows."""
        before, mark, behind = cut(self._held, (END,))
        if not self._has_reasoned:
            before = before.lstrip(_BLANKS)
        shown = before.rstrip(_BLANKS)
        if shown:
            self._has_reasoned = True
            events.append(Reasoning(shown))
        if mark:
            self._place, self._held = "after", behind
        else:
            self._held = before[len(shown) :] + behind


_PLACES: Final[dict[Start, Literal["before", "inside", "behind"]]] = {
    "before": "before",
    "open": "inside",
    "closed": "behind",
}


def with_reasoning(answer: Tag, start: Start, max_tokens: int | None) -> Tag:
    """The grammar of an answer with a section before it, of at most so many tokens; the section itself is free."""
    if start == "closed":
        return answer
    section: Tag = {"type": "text_until", "end": END}
    section |= {} if max_tokens is None else {"max_tokens": max_tokens}
    if start == "before":
        section = sequence(text(BEGIN), section)
        return one_of([sequence(section, _GAP, answer), answer])
    return sequence(section, _GAP, answer)


# Templates write line breaks between the section and the answer.
_GAP: Final[Tag] = {"type": "grammar", "grammar": "root ::= [ \\n]{0,4}\n"}
