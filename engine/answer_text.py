"""Token ids of one answer to its text: detokenised, cut at stop strings, without its end token. Imports no torch."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from outrider.engine.detokenizer import Detokenizer, StopStrings
from outrider.engine.protocol import FinishReason, TokenDelta


class AnswerText:
    """Grows one answer. `is_stopped` tells that a stop string ended it: what comes later is no part of it."""

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stops: Sequence[str], hidden_ends: AbstractSet[int]
    ) -> None:
        """`hidden_ends` are tokens that show no text where they end the answer."""
        self.num_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.is_stopped = False
        self._hidden_ends = hidden_ends
        self._num_characters = 0  # of the text so far, held back or shown
        self._has_stops = bool(stops)
        self._detokenizer = Detokenizer(decode)
        self._stops = StopStrings(stops)

    def add(self, delta: TokenDelta, *, with_offsets: bool = False) -> tuple[str, list[int]]:
        """The text that a delta adds, and for each token that it shows where in the text that token begins.

        Where no log-probabilities come with it, there are no such places unless they are asked for.
        """
        if not (self._has_stops or delta.logprobs or with_offsets):
            return self._add_at_once(delta), []
        pieces: list[str] = []
        offsets: list[int] = []
        for index, token_id in enumerate(delta.token_ids):
            self.num_tokens += 1
            is_end = index == len(delta.token_ids) - 1 and delta.finish_reason is FinishReason.STOP
            if not (is_end and token_id in self._hidden_ends):
                offsets.append(self._num_characters)
                pieces.append(self._cut(self._detokenizer.add(token_id)))
            if self.is_stopped:
                break
        if delta.finish_reason is not None and not self.is_stopped:
            self.finish_reason = delta.finish_reason
            pieces.append(self._cut(self._detokenizer.finish()))
            pieces.append(self._stops.finish())
        return "".join(pieces), offsets

    def _add_at_once(self, delta: TokenDelta) -> str:
        token_ids = delta.token_ids
        self.num_tokens += len(token_ids)
        if delta.finish_reason is FinishReason.STOP and token_ids and token_ids[-1] in self._hidden_ends:
            token_ids = token_ids[:-1]
        text = self._detokenizer.add_all(token_ids)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            text += self._detokenizer.finish()
        return text

    def _cut(self, text: str) -> str:
        self._num_characters += len(text)
        shown, is_stopped = self._stops.add(text)
        if is_stopped:
            self.is_stopped = True
            self.finish_reason = FinishReason.STOP
        return shown
