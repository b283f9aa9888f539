"""Finds marks such as `<tool_call>` in a growing text, and keeps blank text beside calls out of the content."""

from collections.abc import Sequence

from outrider.structured.tools.events import Content, Event


def cut(text: str, marks: Sequence[str]) -> tuple[str, str, str]:
    """The text before the first mark, the mark, and the text behind it.

    Without a mark: the text that can be no part of one, nothing, and the end that may yet become one.
    """
    found = min(((place, mark) for mark in marks if (place := text.find(mark)) >= 0), default=None)
    if found is not None:
        place, mark = found
        return text[:place], mark, text[place + len(mark) :]
    num_held = max(_num_begun(text, mark) for mark in marks)
    return text[: len(text) - num_held], "", text[len(text) - num_held :]


def _num_begun(text: str, mark: str) -> int:
    """How many characters at the end of the text are a beginning of the mark."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0


class ContentText:
    """The content of an answer with calls. Blanks wait for what follows: beside a call they only set it apart."""

    def __init__(self) -> None:
        self._blanks = ""
        self._is_behind_call = False

    def add(self, text: str) -> list[Event]:
        """More content, as far as it is known to be some."""
        text = self._blanks + text
        shown = text.rstrip()
        self._blanks = text[len(shown) :]
        if not shown:
            return []
        if self._is_behind_call:
            shown = shown.lstrip()
        self._is_behind_call = False
        return [Content(shown)]

    def call(self) -> None:
        """A call stands here."""
        self._blanks = ""
        self._is_behind_call = True

    def finish(self) -> list[Event]:
        """The blanks at the end, unless a call is all that stands before them."""
        blanks, self._blanks = self._blanks, ""
        return [Content(blanks)] if blanks and not self._is_behind_call else []
