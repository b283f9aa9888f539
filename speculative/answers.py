"""What one tenant's answers have said lately: what suffix decoding learns from one request for the next."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from outrider.speculative.followers import MAX_TAIL, Followers

KEPT: Final = 8192  # tokens of a tenant; the oldest go first
MAX_WAITING: Final = 64  # answers that ended before they were read to their end; the oldest of more are not read on


@dataclass(slots=True)
class Reading:
    """How far one answer has been read."""

    text: Sequence[int]  # prompt and answer: the engine's own list, which grows
    num_read: int  # of it
    token_ids: list[int]  # the answer as it was read, and before it up to MAX_TAIL tokens of the prompt


class Answers:
    """Counts what followed each tail in the newest KEPT tokens of all answers, and takes back what is older."""

    def __init__(self) -> None:
        self.followers = Followers()
        self._pieces: deque[tuple[list[int], range]] = deque()  # what is counted, the oldest first: places of a text
        self._num_tokens = 0
        self._waiting: deque[Reading] = deque(maxlen=MAX_WAITING)

    @staticmethod
    def begin(text: Sequence[int], num_prompt_tokens: int) -> Reading:
        """An answer to be read: all of a text that is behind its prompt."""
        return Reading(text, num_prompt_tokens, list(text[max(0, num_prompt_tokens - MAX_TAIL) : num_prompt_tokens]))

    def end(self, reading: Reading) -> None:
        """The answer does not grow any more; what is not read of it yet is read along with others."""
        self._waiting.append(reading)

    def read(self, reading: Reading, max_tokens: int) -> int:
        """Takes in what is new of answers that have ended, and then of this one.

        Returns:
            how many tokens were read, at most `max_tokens`
        """
        left = max_tokens
        while self._waiting and left:
            left -= self._read(self._waiting[0], left)
            if self._waiting[0].num_read >= len(self._waiting[0].text):
                self._waiting.popleft()
        return max_tokens - left + self._read(reading, left)

    def _read(self, reading: Reading, max_tokens: int) -> int:
        token_ids = reading.token_ids
        start = len(token_ids)
        token_ids.extend(reading.text[reading.num_read : reading.num_read + max_tokens])
        piece = range(start, len(token_ids))
        if piece:
            self.followers.add(token_ids, piece)
            self._pieces.append((token_ids, piece))
            reading.num_read += len(piece)
            self._num_tokens += len(piece)
            while self._num_tokens > KEPT:
                oldest, places = self._pieces.popleft()
                self.followers.remove(oldest, places)
                self._num_tokens -= len(places)
        return len(piece)
