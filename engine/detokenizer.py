"""Token ids to text, piece by piece, as they arrive; and the stop strings that end a text. Imports no torch."""

from collections.abc import Callable, Sequence


class Detokenizer:
    """Grows one text. The pieces joined are exactly the decoded whole, and no piece ends inside a character.

    A token is decoded beside the few before it, because its text can depend on them; so the cost of a token does not
    grow with the text, unless that is an endless row of bytes that are no character.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._token_ids: list[int] = []  # the newest: `_num_shown` that are in the text, then those that are not yet
        self._num_shown = 0

    def add(self, token_id: int) -> str:
        """The text that the token adds; empty while a character is incomplete."""
        self._token_ids.append(token_id)
        text = self._new_text()
        if not text:  # a special token shows nothing and changes nothing
            self._token_ids.pop()
            return ""
        if text.endswith("\ufffd"):
            return ""
        self._token_ids = self._token_ids[self._num_shown :]
        self._num_shown = len(self._token_ids)
        return text

    def add_all(self, token_ids: Sequence[int]) -> str:
        """As `add` of one after the other, in two decodings instead of two for each."""
        if len(token_ids) > 1:
            before = self._token_ids
            self._token_ids = [*before, *token_ids]
            text = self._new_text()
            if text and not text.endswith("\ufffd"):
                self._token_ids = self._token_ids[self._num_shown :]
                self._num_shown = len(self._token_ids)
                return text
            self._token_ids = before
        return "".join(map(self.add, token_ids))

    def finish(self) -> str:
        """What is left when no more tokens come: the U+FFFD of an incomplete character, or nothing."""
        text = self._new_text()
        self._num_shown = len(self._token_ids)
        return text

    def _new_text(self) -> str:
        shown = self._decode(self._token_ids[: self._num_shown])
        return self._decode(self._token_ids)[len(shown) :]


class StopStrings:
    """Cuts a growing text before the first stop string, and never lets a part of one through."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""  # the end of the text so far that may yet become a stop string

    def add(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string was met."""
        if not self._stops:
            return text, False
        text = self._held + text
        places = ((text.find(stop), stop) for stop in self._stops)
        # The first to be complete wins, wherever the text was cut into pieces; of two that end together the longer.
        found = min(((place + len(stop), place) for place, stop in places if place >= 0), default=None)
        if found is not None:
            self._held = ""
            return text[: found[1]], True
        num_held = max(_num_begun(text, stop) for stop in self._stops)
        shown, self._held = text[: len(text) - num_held], text[len(text) - num_held :]
        return shown, False

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _num_begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are a beginning of the stop string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
