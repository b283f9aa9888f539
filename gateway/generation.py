"""One request on its way through the engine: its text as it grows, then its usage and figures."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from outrider.engine.detokenizer import Detokenizer, StopStrings
from outrider.engine.protocol import FinishReason as EngineFinishReason
from outrider.engine.protocol import RequestFigures, TokenDelta
from outrider.gateway.admission import Admitted
from outrider.gateway.responses import (
    CompletionDetails,
    FinishReason,
    PromptDetails,
    RequestMetrics,
    SpeculativeDecoding,
    Usage,
)
from outrider.gateway.state import Gateway
from outrider.telemetry.figures import InferenceResult, SpeculationFigures


class Generation:
    """Runs one admitted request. Iterate `texts` to its end; what else there is to tell is known then.

    Leaving the iteration early, by an error or a cancelled task, aborts the request in the engine.
    """

    def __init__(self, gateway: Gateway, admitted: Admitted, arrived: float) -> None:
        self.id = admitted.submit.request_id
        self.num_output_tokens = 0
        self.finish_reason: FinishReason = "stop"
        self.first_token: float | None = None  # monotonic seconds
        self.finished: float | None = None
        self._gateway = gateway
        self._admitted = admitted
        self._arrived = arrived
        self._figures: RequestFigures | None = None
        self._detokenizer = Detokenizer(gateway.tokenizer.decode)
        self._stops = StopStrings(admitted.stops)
        self._is_stopped = False  # a stop string was met

    async def texts(self) -> AsyncGenerator[str]:
        """The pieces of the answer; an empty one means tokens that show no text yet.

        Raises:
            ApiError: the engine failed the request.
        """
        admitted = self._admitted
        self._gateway.metrics.count_tokens(prompt=len(admitted.submit.prompt_ids))
        async with aclosing(self._gateway.engine.generate(admitted.submit, admitted.grammar)) as deltas:
            async for delta in deltas:
                if delta.figures is not None:
                    self._figures = delta.figures
                if self._is_stopped:
                    continue  # what the engine had computed before it heard of the end
                if self.first_token is None:
                    self.first_token = time.monotonic()
                text = self._add(delta)
                self.finished = time.monotonic()
                if self._is_stopped and delta.finish_reason is None:
                    self._gateway.engine.abort(self.id)
                yield text

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        num_prompt_tokens = len(self._admitted.submit.prompt_ids)
        return Usage(
            num_prompt_tokens,
            self.num_output_tokens,
            num_prompt_tokens + self.num_output_tokens,
            prompt_tokens_details=PromptDetails(0 if self._figures is None else self._figures.num_cached_tokens),
            completion_tokens_details=self._completion_details(),
        )

    @property
    def metrics(self) -> RequestMetrics:
        """Where the time went and what speculation did."""
        figures = self._figures or RequestFigures(0.0, 0.0, 0.0, 0, 0)
        first_token, finished = self.first_token or self._arrived, self.finished or self._arrived
        seconds = finished - first_token
        num_gaps = self.num_output_tokens - 1
        return RequestMetrics(
            time_to_first_token_ms=_milliseconds(first_token - self._arrived),
            generation_time_ms=_milliseconds(seconds),
            queue_time_ms=_milliseconds(figures.queue_seconds),
            prefill_time_ms=_milliseconds(figures.prefill_seconds),
            mean_itl_ms=_milliseconds(seconds / num_gaps) if num_gaps > 0 else None,
            tokens_per_second=round(num_gaps / seconds, 2) if num_gaps > 0 and seconds > 0 else None,
            num_steps=figures.num_steps,
            num_preemptions=figures.num_preemptions,
            speculative_decoding=self._speculative_decoding(figures),
        )

    def result(self) -> InferenceResult:
        """What the trace says of the outcome; of a request that failed, what there was until then."""
        admitted, figures = self._admitted, self._figures
        speculation = None if figures is None else _draft_totals(figures)
        return InferenceResult(
            response_id=self.id,
            response_model=self._gateway.model_name,
            finish_reasons=(self.finish_reason,) if self.finished is not None else (),
            input_tokens=len(admitted.submit.prompt_ids),
            output_tokens=self.num_output_tokens,
            cached_tokens=None if figures is None else figures.num_cached_tokens,
            queue_seconds=None if figures is None else figures.queue_seconds,
            prefill_seconds=None if figures is None else figures.prefill_seconds,
            decode_seconds=None if figures is None else figures.decode_seconds,
            speculation=speculation,
            grammar=admitted.grammar_figures,
        )

    def _add(self, delta: TokenDelta) -> str:
        """The text that a delta adds; sets `_is_stopped` when a stop string ends the answer within it."""
        pieces: list[str] = []
        num_before = self.num_output_tokens
        is_stop = delta.finish_reason is EngineFinishReason.STOP
        for index, token_id in enumerate(delta.token_ids):
            self.num_output_tokens += 1
            is_last = index == len(delta.token_ids) - 1
            if not (is_last and is_stop and token_id in self._admitted.stop_token_ids):
                pieces.append(self._cut(self._detokenizer.add(token_id)))
            if self._is_stopped:
                break
        if delta.finish_reason is not None and not self._is_stopped:
            self.finish_reason = "length" if delta.finish_reason is EngineFinishReason.LENGTH else "stop"
            pieces.append(self._cut(self._detokenizer.finish()))
            pieces.append(self._stops.finish())
        self._gateway.metrics.count_tokens(generated=self.num_output_tokens - num_before)
        return "".join(pieces)

    def _cut(self, text: str) -> str:
        shown, is_stopped = self._stops.add(text)
        if is_stopped:
            self._is_stopped = True
            self.finish_reason = "stop"
        return shown

    def _completion_details(self) -> CompletionDetails:
        totals = None if self._figures is None else _draft_totals(self._figures)
        if totals is None:
            return CompletionDetails()
        # The engine may have gone on behind a stop string; what was cut there is no part of the answer.
        num_accepted = min(totals.accepted_tokens, max(0, self.num_output_tokens - 1))
        return CompletionDetails(
            accepted_prediction_tokens=num_accepted, rejected_prediction_tokens=totals.drafted_tokens - num_accepted
        )

    def _speculative_decoding(self, figures: RequestFigures) -> SpeculativeDecoding | None:
        totals = _draft_totals(figures)
        if totals is None:
            return None
        histogram = [0] * max(len(method.acceptance_histogram) for method in figures.speculation)
        for method in figures.speculation:
            for length, count in enumerate(method.acceptance_histogram):
                histogram[length] += count
        return SpeculativeDecoding(
            mean_acceptance_length=totals.emitted_tokens / totals.steps,
            draft_acceptance_rate=totals.accepted_tokens / totals.drafted_tokens,
            acceptance_histogram=histogram,
            num_spec_steps=totals.steps,
            num_accepted_draft_tokens=totals.accepted_tokens,
            num_draft_tokens=totals.drafted_tokens,
            num_spec_tokens=self._admitted.submit.speculation.max_tokens,
            methods={
                method.method: {
                    "num_spec_steps": method.num_steps,
                    "num_draft_tokens": method.num_draft_tokens,
                    "num_accepted_draft_tokens": method.num_accepted_tokens,
                }
                for method in figures.speculation
            },
        )


def _draft_totals(figures: RequestFigures) -> SpeculationFigures | None:
    """Over all methods; None when nothing was drafted."""
    if not figures.speculation:
        return None
    num_steps = sum(method.num_steps for method in figures.speculation)
    num_accepted = sum(method.num_accepted_tokens for method in figures.speculation)
    return SpeculationFigures(
        method="+".join(method.method for method in figures.speculation),
        steps=num_steps,
        drafted_tokens=sum(method.num_draft_tokens for method in figures.speculation),
        accepted_tokens=num_accepted,
        emitted_tokens=num_accepted + num_steps,
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
