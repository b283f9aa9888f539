"""One answer on its way through the engine: its text as it grows, then its figures."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from outrider.engine.answer_text import AnswerText
from outrider.engine.protocol import FinishReason as EngineFinishReason
from outrider.engine.protocol import RequestFigures, TokenDelta, TokenLogprobs
from outrider.gateway.admission import Admitted
from outrider.gateway.answer_reader import AnswerReader, joined_calls
from outrider.gateway.replicas import Resume
from outrider.gateway.responses import CallDelta, FinishReason, TokenLogprob, TopLogprob
from outrider.gateway.state import Gateway
from outrider.structured.finding import Violation
from outrider.telemetry import names
from outrider.telemetry.inference_trace import InferenceTrace


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to the answer `index`; an empty text means tokens that show none yet.

    The last piece of an answer has no text, but the reason why it ended. `text` is what the model wrote; content,
    reasoning and calls are what it says, and may come later than the text that tells them.
    """

    index: int
    text: str = ""
    content: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()  # one of each index
    logprobs: tuple[TokenLogprob, ...] = ()
    offsets: tuple[int, ...] = ()  # where in the answer's text each of these tokens begins
    finish_reason: FinishReason | None = None
    violations: tuple[Violation, ...] = ()  # with the last piece: in what the answer differs from its schema
    origins: tuple[str, ...] = ()  # where asked for: one for each of its tokens, those without text too

    @property
    def is_silent(self) -> bool:
        """Whether it has nothing to show."""
        return not (self.content or self.reasoning or self.calls or self.finish_reason)


def joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces of one answer, in their order, as one."""
    return Piece(
        index=pieces[0].index,
        text="".join(piece.text for piece in pieces),
        content="".join(piece.content for piece in pieces),
        reasoning="".join(piece.reasoning for piece in pieces),
        calls=joined_calls(call for piece in pieces for call in piece.calls),
        logprobs=tuple(one for piece in pieces for one in piece.logprobs),
        offsets=tuple(one for piece in pieces for one in piece.offsets),
        finish_reason=pieces[-1].finish_reason,
        violations=pieces[-1].violations,
        origins=tuple(one for piece in pieces for one in piece.origins),
    )


class Generation:
    """Runs one answer of an admitted request. Iterate `pieces` to its end; what else there is to tell is known then.

    Leaving the iteration early, by an error or a cancelled task, aborts it in the engine.
    """

    def __init__(self, gateway: Gateway, admitted: Admitted, index: int, trace: InferenceTrace) -> None:
        self.index = index
        self.submitted: float | None = None  # monotonic seconds
        self.first_token: float | None = None
        self.finished: float | None = None
        self.figures: RequestFigures | None = None  # as far as the engine has told
        self.has_all_figures = False
        self.total_logprob = 0.0  # of its tokens, where log-probabilities were asked for
        self._gateway = gateway
        self._trace = trace
        self._admitted = admitted
        self._submit = admitted.submits[index]
        self._prompt_logprobs: list[TokenLogprobs] = []
        decode = gateway.tokenizer.decoder(admitted.answer.marks)
        self._text = AnswerText(decode, admitted.stops, admitted.stop_token_ids)
        self._reader = AnswerReader(admitted.answer)

    @property
    def attempts(self) -> "tuple[Generation, ...]":
        """All that was generated for this answer."""
        return (self,)

    @property
    def echo(self) -> Piece:
        """What the answer begins with, known once its first piece is: the prompt's text where that is asked for."""
        prompt_ids = self._submit.prompt_ids
        is_scored = self._submit.params.num_prompt_logprobs is not None
        if not is_scored or len(self._prompt_logprobs) < len(prompt_ids) - 1:  # it may have ended before
            return Piece(self.index, self._admitted.echo)
        _, offsets = AnswerText(self._gateway.tokenizer.decode, (), frozenset()).add(
            TokenDelta("", prompt_ids), with_offsets=True
        )
        text, raw = self._spelled(prompt_ids[0])
        first = TokenLogprob(text, None, raw, [])
        named = [self._named(*pair) for pair in zip(prompt_ids[1:], self._prompt_logprobs, strict=True)]
        return Piece(self.index, self._admitted.echo, logprobs=(first, *named), offsets=tuple(offsets))

    @property
    def num_prompt_tokens(self) -> int:
        """Given, cached or not."""
        return len(self._submit.prompt_ids)

    @property
    def num_output_tokens(self) -> int:
        """So far."""
        return self._text.num_tokens

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended, in OpenAI's words."""
        if self._text.finish_reason is EngineFinishReason.LENGTH:
            return "length"
        return "tool_calls" if self._reader.ends_with_calls else "stop"

    @property
    def has_ended(self) -> bool:
        """Whether the answer is whole."""
        return self._text.finish_reason is not None

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The pieces of the answer, at least two.

        Raises:
            ApiError: the engine failed the request.
        """
        self.submitted = time.monotonic()
        async with aclosing(self._generate()) as deltas:
            async for delta in deltas:
                if delta.figures is not None:
                    self.figures, self.has_all_figures = delta.figures, delta.finish_reason is not None
                if self._text.is_stopped:
                    continue  # what the engine had computed before it heard of the end
                if self.first_token is None:
                    self.first_token = time.monotonic()
                piece = self._add(delta)
                self.finished = time.monotonic()
                if self._text.is_stopped and delta.finish_reason is None:
                    self._gateway.engine.abort(self._submit.request_id)
                yield piece
        yield Piece(self.index, **self._reader.finish(), finish_reason=self.finish_reason)

    def _generate(self) -> AsyncGenerator[TokenDelta]:
        return self._gateway.engine.generate(self._submit, self._admitted.grammar, self._note_resume)

    def _note_resume(self, resume: Resume) -> None:
        self._gateway.metrics.count_resumed(resume.reason)
        self._trace.event(
            names.RESUMED_EVENT,
            {
                names.RESUMED_REASON: resume.reason,
                names.RESUMED_FROM: resume.lost,
                names.RESUMED_ON: resume.engine,
                names.RESUMED_OUTPUT_TOKENS: resume.num_output_tokens,
                names.RESUMED_SECONDS: resume.seconds,
            },
        )

    def _add(self, delta: TokenDelta) -> Piece:
        """What a delta adds."""
        if delta.prompt_logprobs:
            self._prompt_logprobs = delta.prompt_logprobs
        num_before = self.num_output_tokens
        text, offsets = self._text.add(delta)
        num_added = self.num_output_tokens - num_before
        self._gateway.metrics.count_tokens(generated=num_added)
        self.total_logprob += sum(logprobs.drawn for logprobs in delta.logprobs[:num_added])
        shown = zip(offsets, delta.token_ids, delta.logprobs, strict=False)  # no log-probabilities where none are asked
        named = [(offset, self._named(token_id, logprobs)) for offset, token_id, logprobs in shown]
        return Piece(
            self.index,
            text,
            **self._reader.feed(text),
            logprobs=tuple(one for _, one in named),
            offsets=tuple(offset for offset, _ in named),
            origins=tuple(delta.origins[:num_added]),
        )

    def _named(self, token_id: int, logprobs: TokenLogprobs) -> TokenLogprob:
        top = []
        for top_id, value in zip(logprobs.top_ids, logprobs.top, strict=True):
            text, raw = self._spelled(top_id)
            top.append(TopLogprob(text, value, raw))
        text, raw = self._spelled(token_id)
        return TokenLogprob(text, logprobs.drawn, raw, top)

    def _spelled(self, token_id: int) -> tuple[str, list[int]]:
        """A token's text, as far as it is one, and its bytes."""
        raw = self._gateway.tokenizer.token_bytes(token_id)
        return raw.decode(errors="replace"), list(raw)
