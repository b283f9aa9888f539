"""An answer whose grammar enforces only a part of its schema: checked when it is whole, and drawn again if need be."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import msgspec

from outrider.engine.protocol import RequestFigures, Submit
from outrider.gateway.admission import Admitted, AnswerCheck
from outrider.gateway.errors import ApiError, invalid_answer, unavailable
from outrider.gateway.generation import Generation, Piece, joined
from outrider.gateway.responses import FinishReason
from outrider.gateway.state import Gateway
from outrider.structured.errors import WorkerError
from outrider.structured.finding import Violation
from outrider.telemetry.inference_trace import InferenceTrace

_GOLDEN = 0x9E3779B97F4A7C15  # far from every neighbour: seeds that follow one another belong to other answers


def retry_of(submit: Submit, attempt: int) -> Submit:
    """The same request with a seed derived from its own; `attempt` counts from 1."""
    seed = (submit.params.seed + attempt * _GOLDEN) % 2**64
    params = msgspec.structs.replace(submit.params, seed=seed)
    return msgspec.structs.replace(submit, request_id=f"{submit.request_id}-retry{attempt}", params=params)


class CheckedGeneration:
    """Runs one answer until the check lets it pass, or retries are used up. To be used like a `Generation`.

    A stream is passed on as it comes, since nothing of it can be recalled; else nothing is, until it has been checked.
    An answer that was cut for its length is not checked: its finish reason tells that it is not whole.
    """

    def __init__(self, gateway: Gateway, admitted: Admitted, index: int, trace: InferenceTrace) -> None:
        assert admitted.check is not None, "only what is left to the validator needs it"
        self.index = index
        self._gateway = gateway
        self._admitted = admitted
        self._trace = trace
        self._check: AnswerCheck = admitted.check
        self._attempts = [Generation(gateway, admitted, index, trace)]

    @property
    def attempts(self) -> tuple[Generation, ...]:
        """All that was generated for this answer, the one that counts last."""
        return tuple(self._attempts)

    @property
    def first_token(self) -> float | None:
        """Monotonic seconds."""
        return self._attempts[0].first_token

    @property
    def finished(self) -> float | None:
        """Monotonic seconds."""
        return self._attempts[-1].finished

    @property
    def figures(self) -> RequestFigures | None:
        """Of the attempt that counts."""
        return self._attempts[-1].figures

    @property
    def total_logprob(self) -> float:
        """Of the attempt that counts."""
        return self._attempts[-1].total_logprob

    @property
    def echo(self) -> Piece:
        """What the answer begins with."""
        return self._attempts[-1].echo

    @property
    def num_output_tokens(self) -> int:
        """Of all attempts, so far."""
        return sum(attempt.num_output_tokens for attempt in self._attempts)

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended, in OpenAI's words."""
        return self._attempts[-1].finish_reason

    @property
    def has_ended(self) -> bool:
        """Whether the answer is whole."""
        return self._attempts[-1].has_ended

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The pieces of the answer; of one that stays invalid the last piece says what is wrong.

        Raises:
            ApiError: the engine failed the request, or a streamed answer is invalid.
        """
        while True:
            held: list[Piece] = []
            async with aclosing(self._attempts[-1].pieces()) as pieces:
                async for piece in pieces:
                    held.append(piece)
                    if self._check.is_streamed and piece.finish_reason is None:
                        yield piece
            violations = await self._violations(joined(held))
            if violations and await self._may_retry():
                self._gateway.metrics.count_validation_retry()
                submits = list(self._admitted.submits)
                submits[self.index] = retry_of(submits[self.index], len(self._attempts))
                admitted = replace(self._admitted, submits=tuple(submits))
                self._attempts.append(Generation(self._gateway, admitted, self.index, self._trace))
                continue
            last = replace(held.pop(), violations=violations)
            if self._check.is_streamed:
                if violations:
                    raise invalid_answer(f"The answer does not satisfy the schema: {_told(violations)}")
            else:
                for piece in held:
                    yield piece
            yield last
            return

    async def _violations(self, answer: Piece) -> tuple[Violation, ...]:
        """What is wrong with the finished answer."""
        if self.finish_reason == "length" or answer.calls:
            return ()
        try:
            violations = await self._gateway.checker.check(self._check.schema, answer.content)
        except WorkerError as error:
            raise unavailable(f"The answer cannot be checked: {error}") from error
        self._gateway.metrics.count_validation(is_valid=not violations)
        return violations

    async def _may_retry(self) -> bool:
        """Whether another attempt is left; each counts as a request of its client."""
        if len(self._attempts) > self._check.max_retries:
            return False
        try:
            await self._admitted.reserve(0, self._admitted.submits[self.index].params.max_tokens, 1)
        except ApiError:
            return False
        return True


def _told(violations: tuple[Violation, ...]) -> str:
    return "; ".join(f"at `{one.path or '/'}`, {one.message}" for one in violations[:5])
