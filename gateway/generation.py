"""One answer on its way through the engine: its text as it grows, then its figures."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from outrider.engine.detokenizer import Detokenizer, StopStrings
from outrider.engine.protocol import FinishReason as EngineFinishReason
from outrider.engine.protocol import RequestFigures, TokenDelta, TokenLogprobs
from outrider.gateway.admission import Admitted
from outrider.gateway.responses import FinishReason, TokenLogprob, TopLogprob
from outrider.gateway.state import Gateway


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to the answer `index`; an empty text means tokens that show none yet.

    The last piece of an answer has no text, but the reason why it ended.
    """

    index: int
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


class Generation:
    """Runs one answer of an admitted request. Iterate `pieces` to its end; what else there is to tell is known then.

    Leaving the iteration early, by an error or a cancelled task, aborts it in the engine.
    """

    def __init__(self, gateway: Gateway, admitted: Admitted, index: int) -> None:
        self.index = index
        self.num_output_tokens = 0
        self.finish_reason: FinishReason = "stop"
        self.first_token: float | None = None  # monotonic seconds
        self.finished: float | None = None
        self.figures: RequestFigures | None = None
        self.total_logprob = 0.0  # of its tokens, where log-probabilities were asked for
        self._gateway = gateway
        self._admitted = admitted
        self._submit = admitted.submits[index]
        self._detokenizer = Detokenizer(gateway.tokenizer.decode)
        self._stops = StopStrings(admitted.stops)
        self._is_stopped = False  # a stop string was met

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The pieces of the answer, at least two.

        Raises:
            ApiError: the engine failed the request.
        """
        async with aclosing(self._gateway.engine.generate(self._submit, self._admitted.grammar)) as deltas:
            async for delta in deltas:
                if delta.figures is not None:
                    self.figures = delta.figures
                if self._is_stopped:
                    continue  # what the engine had computed before it heard of the end
                if self.first_token is None:
                    self.first_token = time.monotonic()
                piece = self._add(delta)
                self.finished = time.monotonic()
                if self._is_stopped and delta.finish_reason is None:
                    self._gateway.engine.abort(self._submit.request_id)
                yield piece
        yield Piece(self.index, finish_reason=self.finish_reason)

    def _add(self, delta: TokenDelta) -> Piece:
        """What a delta adds; sets `_is_stopped` when a stop string ends the answer within it."""
        pieces: list[str] = []
        logprobs: list[TokenLogprob] = []
        num_before = self.num_output_tokens
        is_stop = delta.finish_reason is EngineFinishReason.STOP
        for index, token_id in enumerate(delta.token_ids):
            self.num_output_tokens += 1
            is_last = index == len(delta.token_ids) - 1
            is_shown = not (is_last and is_stop and token_id in self._admitted.stop_token_ids)
            if delta.logprobs:
                self.total_logprob += delta.logprobs[index].drawn
            if is_shown:
                pieces.append(self._cut(self._detokenizer.add(token_id)))
                if delta.logprobs:
                    logprobs.append(self._named(token_id, delta.logprobs[index]))
            if self._is_stopped:
                break
        if delta.finish_reason is not None and not self._is_stopped:
            self.finish_reason = "length" if delta.finish_reason is EngineFinishReason.LENGTH else "stop"
            pieces.append(self._cut(self._detokenizer.finish()))
            pieces.append(self._stops.finish())
        self._gateway.metrics.count_tokens(generated=self.num_output_tokens - num_before)
        return Piece(self.index, "".join(pieces), tuple(logprobs))

    def _named(self, token_id: int, logprobs: TokenLogprobs) -> TokenLogprob:
        def spell(spelled_id: int) -> tuple[str, list[int]]:
            raw = self._gateway.tokenizer.token_bytes(spelled_id)
            return raw.decode(errors="replace"), list(raw)

        top = []
        for top_id, value in zip(logprobs.top_ids, logprobs.top, strict=True):
            text, raw = spell(top_id)
            top.append(TopLogprob(text, value, raw))
        text, raw = spell(token_id)
        return TokenLogprob(text, logprobs.drawn, raw, top)

    def _cut(self, text: str) -> str:
        shown, is_stopped = self._stops.add(text)
        if is_stopped:
            self._is_stopped = True
            self.finish_reason = "stop"
        return shown
