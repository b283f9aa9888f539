"""Reads JSON that grows: one value in pieces, and one call that is written as an object with two members."""

import json

from outrider.structured.tools.events import CallArguments, CallBegun, Event

_BLANKS = " \t\r\n"


class Nesting:
    """Where a character of a JSON text stands: how deep, and whether in a string."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._is_escaped = False

    def step(self, character: str) -> None:
        """Goes on by one character."""
        if self.in_string:
            self.in_string = self._is_escaped or character != '"'
            self._is_escaped = character == "\\" and not self._is_escaped
        elif character == '"':
            self.in_string = True
        elif character in "{[":
            self.depth += 1
        elif character in "}]":
            self.depth -= 1


class JsonCall:
    """One call written as `{"name": "...", "<arguments>": {...}}`, in any order and with anything else beside.

    `is_done` says that its object is closed, `is_broken` that the text is no such object. `raw` is the text up to the
    function's name, which nothing has told of yet.
    """

    def __init__(self, *arguments_keys: str) -> None:
        self.is_done = False
        self.is_broken = False
        self.is_begun = False  # its name has been told
        self.raw = ""
        self._arguments_keys = arguments_keys
        self._nesting = Nesting()
        self._key: str | None = None  # of the member whose value follows
        self._part = ""  # of a key, or of a value that is needed whole
        self._is_value = False  # behind the colon
        self._early = ""  # arguments that came before the name
        self._has_arguments = False

    def feed(self, text: str) -> tuple[list[Event], str]:
        """What more text tells, and the text behind the object."""
        events: list[Event] = []
        streamed = ""
        for place, character in enumerate(text):
            if not self.is_begun:
                self.raw += character
            streamed += self._step(character, events)
            if self.is_done or self.is_broken:
                return self._told(events, streamed), text[place + 1 :]
        return self._told(events, streamed), ""

    def _told(self, events: list[Event], streamed: str) -> list[Event]:
        """The events with the arguments that this text has brought."""
        if self.is_done and not self._has_arguments and not streamed:
            streamed = "{}"
        if not streamed:
            return events
        self._has_arguments = True
        if not self.is_begun:
            self._early += streamed
            return events
        return [*events, CallArguments(streamed)]

    def _step(self, character: str, events: list[Event]) -> str:
        """One character; returns what it adds to the arguments."""
        nesting = self._nesting
        depth_before, was_in_string = nesting.depth, nesting.in_string
        nesting.step(character)
        if depth_before == 0:
            self.is_broken = character != "{" and character not in _BLANKS
            return ""
        if nesting.depth == 0:
            self._end_member(events)
            self.is_done, self.is_broken = self.is_begun, not self.is_begun
            return ""
        is_between = nesting.depth == 1 and not was_in_string and not nesting.in_string
        if is_between and character == ",":
            self._end_member(events)
        elif is_between and character == ":" and not self._is_value:
            self._key, self._part, self._is_value = _string(self._part), "", True
        elif not (is_between and character in _BLANKS):
            if self._is_value and self._key in self._arguments_keys:
                return character
            self._part += character
        return ""

    def _end_member(self, events: list[Event]) -> None:
        """A comma or the end: the name may be known now."""
        if self._is_value and self._key == "name" and not self.is_begun:
            name = _string(self._part)
            self.is_broken = name is None
            if name is not None:
                self.is_begun = True
                events.append(CallBegun(name))
                if self._early:
                    events.append(CallArguments(self._early))
        self._key, self._part, self._is_value = None, "", False


def _string(text: str) -> str | None:
    """The value of a JSON string, None for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
