"""All answers to one request, run side by side, and what there is to tell of them together."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import zip_longest

from msgspec import UNSET

from outrider.engine.protocol import RequestFigures, SpeculationFigures
from outrider.gateway.admission import Admitted
from outrider.gateway.generation import Generation, Piece
from outrider.gateway.phases import engine_phases
from outrider.gateway.responses import (
    CompletionDetails,
    PromptDetails,
    RequestMetrics,
    SpeculativeDecoding,
    StructuredOutput,
    Usage,
)
from outrider.gateway.state import Gateway
from outrider.gateway.validation import CheckedGeneration
from outrider.telemetry.figures import GrammarFigures, InferenceResult, MethodFigures
from outrider.telemetry.figures import SpeculationFigures as DraftTotals
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.phases import Figures
from outrider.telemetry.spans import Phase


class Choices:
    """Runs one admitted request. Iterate `pieces` to its end; what else there is to tell is known then.

    Leaving the iteration early, by an error or a cancelled task, aborts what still runs.
    """

    def __init__(self, gateway: Gateway, admitted: Admitted, arrived: float, trace: InferenceTrace) -> None:
        self.id = admitted.submits[0].request_id
        self.echo = admitted.echo  # what every text begins with
        kind = Generation if admitted.check is None else CheckedGeneration
        self.generations = [kind(gateway, admitted, index, trace) for index in range(len(admitted.submits))]
        self._gateway = gateway
        self._admitted = admitted
        self._arrived = arrived

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The pieces of all answers as they come.

        Raises:
            ApiError: the engine failed one of them; the others are aborted.
        """
        self._gateway.metrics.count_tokens(prompt=len(self._admitted.submits[0].prompt_ids))
        if len(self.generations) == 1:
            async with aclosing(self.generations[0].pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            return
        # Pieces, and the index of each answer that has ended.
        inbox: asyncio.Queue[Piece | int] = asyncio.Queue()
        tasks = [asyncio.create_task(_pump(generation, inbox)) for generation in self.generations]
        try:
            num_running = len(tasks)
            while num_running:
                item = await inbox.get()
                if isinstance(item, Piece):
                    yield item
                else:
                    num_running -= 1
                    await tasks[item]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def best(self) -> Sequence[Generation | CheckedGeneration]:
        """The answers to return: all, or those with the highest mean log-probability, in that order."""
        if len(self.generations) == self._admitted.num_choices:
            return self.generations
        ranked = sorted(self.generations, key=lambda one: -one.total_logprob / max(1, one.num_output_tokens))
        return ranked[: self._admitted.num_choices]

    @property
    def num_output_tokens(self) -> int:
        """Of all answers so far."""
        return sum(generation.num_output_tokens for generation in self.generations)

    @property
    def first_token(self) -> float | None:
        """Monotonic seconds of the first token of any answer."""
        return min((one.first_token for one in self.generations if one.first_token is not None), default=None)

    @property
    def finished(self) -> float | None:
        """Monotonic seconds of the newest token of any answer."""
        return max((one.finished for one in self.generations if one.finished is not None), default=None)

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        num_prompt_tokens = len(self._admitted.submits[0].prompt_ids)
        figures = self._figures()
        return Usage(
            num_prompt_tokens,
            self.num_output_tokens,
            num_prompt_tokens + self.num_output_tokens,
            prompt_tokens_details=PromptDetails(0 if figures is None else figures.num_cached_tokens),
            completion_tokens_details=self._completion_details(figures),
        )

    @property
    def metrics(self) -> RequestMetrics:
        """Where the time went and what speculation did; of several answers the longest times and all steps."""
        figures = self._figures() or RequestFigures(0.0, 0.0, 0.0, 0, 0)
        first_token, finished = self.first_token or self._arrived, self.finished or self._arrived
        seconds = finished - first_token
        num_gaps = self.num_output_tokens - len(self.generations)
        return RequestMetrics(
            time_to_first_token_ms=_milliseconds(first_token - self._arrived),
            generation_time_ms=_milliseconds(seconds),
            queue_time_ms=_milliseconds(figures.queue_seconds),
            prefill_time_ms=_milliseconds(figures.prefill_seconds),
            mean_itl_ms=_milliseconds(seconds / num_gaps * len(self.generations)) if num_gaps > 0 else None,
            tokens_per_second=round(num_gaps / seconds, 2) if num_gaps > 0 and seconds > 0 else None,
            num_steps=figures.num_steps,
            num_preemptions=figures.num_preemptions,
            speculative_decoding=self._speculative_decoding(figures),
            structured_output=self._structured_output(),
        )

    def result(self) -> InferenceResult:
        """What the trace says of the outcome; of a request that failed, what there was until then."""
        admitted, figures = self._admitted, self._figures()
        speculation = None if figures is None else self._draft_totals(figures)
        is_whole = all(attempt.has_all_figures for one in self.generations for attempt in one.attempts)
        return InferenceResult(
            response_id=self.id,
            response_model=self._gateway.model_name,
            finish_reasons=tuple(one.finish_reason for one in self.generations if one.has_ended),
            input_tokens=len(admitted.submits[0].prompt_ids),
            output_tokens=self.num_output_tokens,
            cached_tokens=None if figures is None else figures.num_cached_tokens,
            queue_seconds=None if figures is None else figures.queue_seconds,
            prefill_seconds=None if figures is None else figures.prefill_seconds,
            decode_seconds=figures.decode_seconds if figures is not None and is_whole else None,
            speculation=speculation,
            methods=() if figures is None else tuple(_told(method) for method in figures.speculation),
            grammar=self._grammar_figures,
            cache_writes=None if figures is None else figures.num_cache_writes,
            preemptions=None if figures is None else figures.num_preemptions,
            phases=tuple(phase for one in self.generations for phase in self._phases(one)),
        )

    def _phases(self, checked: Generation | CheckedGeneration) -> list[Phase]:
        """Of one answer; those of an attempt that failed its check too."""
        is_one = len(self.generations) == 1
        return [
            phase
            for attempt in checked.attempts
            for phase in engine_phases(
                attempt,
                choice=None if is_one else checked.index,
                parts=() if attempt.figures is None else self._decode_parts(attempt.figures, is_one=is_one),
            )
        ]

    def _decode_parts(self, figures: RequestFigures, *, is_one: bool) -> tuple[Figures | None, ...]:
        whole = None if is_one else self._draft_totals(figures)  # one answer's are the request's
        return (whole, *map(_told, figures.speculation), self._grammar_figures)

    @property
    def _grammar_figures(self) -> GrammarFigures | None:
        told = self._admitted.grammar_figures
        return None if told is None else replace(told, validation_retries=self._num_retries)

    @property
    def _num_retries(self) -> int:
        return sum(len(one.attempts) - 1 for one in self.generations)

    def _structured_output(self) -> StructuredOutput | None:
        grammar = self._admitted.grammar
        if grammar is None:
            return None
        return StructuredOutput("validated" if grammar.left else "exact", list(grammar.left), self._num_retries)

    def _figures(self) -> RequestFigures | None:
        """The engine's figures of all answers: the longest times, sums of all else."""
        attempts = [attempt for one in self.generations for attempt in one.attempts]
        known = [attempt.figures for attempt in attempts if attempt.figures is not None]
        if len(known) <= 1:
            return known[0] if known else None
        return RequestFigures(
            queue_seconds=max(figures.queue_seconds for figures in known),
            prefill_seconds=max(figures.prefill_seconds for figures in known),
            decode_seconds=max(figures.decode_seconds for figures in known),
            num_steps=sum(figures.num_steps for figures in known),
            num_preemptions=sum(figures.num_preemptions for figures in known),
            # The prompt is counted once, so what the first answer found of it is all that counts.
            num_cached_tokens=known[0].num_cached_tokens,
            speculation=_merged([method for figures in known for method in figures.speculation]),
            whole_drafts=_sum([figures.whole_drafts for figures in known if figures.whole_drafts is not None]),
            num_cache_writes=sum(figures.num_cache_writes for figures in known),
        )

    def _draft_totals(self, figures: RequestFigures) -> DraftTotals | None:
        """Over all methods; None when nothing was drafted."""
        whole = figures.whole_drafts
        if whole is None:
            return None
        return DraftTotals(
            method=whole.method,
            steps=whole.num_steps,
            drafted_tokens=whole.num_draft_tokens,
            accepted_tokens=whole.num_accepted_tokens,
            emitted_tokens=whole.num_accepted_tokens + whole.num_steps,
            max_tokens=self._admitted.submits[0].speculation.max_tokens,
            acceptance_histogram=tuple(whole.acceptance_histogram),
        )

    def _completion_details(self, figures: RequestFigures | None) -> CompletionDetails:
        totals = None if figures is None else self._draft_totals(figures)
        if totals is None:
            return CompletionDetails()
        # The engine may have gone on behind a stop string; what was cut there is no part of the answer.
        num_accepted = min(totals.accepted_tokens, max(0, self.num_output_tokens - len(self.generations)))
        return CompletionDetails(
            accepted_prediction_tokens=num_accepted, rejected_prediction_tokens=totals.drafted_tokens - num_accepted
        )

    def _speculative_decoding(self, figures: RequestFigures) -> SpeculativeDecoding | None:
        totals = self._draft_totals(figures)
        if totals is None or figures.whole_drafts is None:
            return None
        allowed, requested = self._admitted.submits[0].speculation.max_tokens, self._admitted.requested_draft_tokens
        return SpeculativeDecoding(
            mean_acceptance_length=totals.emitted_tokens / totals.steps,
            draft_acceptance_rate=totals.accepted_tokens / totals.drafted_tokens,
            acceptance_histogram=figures.whole_drafts.acceptance_histogram,
            num_spec_steps=totals.steps,
            num_accepted_draft_tokens=totals.accepted_tokens,
            num_draft_tokens=totals.drafted_tokens,
            num_spec_tokens=allowed,
            max_tokens=allowed,
            requested_max_tokens=UNSET if requested is None or requested <= allowed else requested,
            methods={
                method.method: {
                    "num_spec_steps": method.num_steps,
                    "num_draft_tokens": method.num_draft_tokens,
                    "num_accepted_draft_tokens": method.num_accepted_tokens,
                    "num_dropped_drafts": method.num_dropped,
                }
                for method in figures.speculation
            },
        )


def _told(figures: SpeculationFigures) -> MethodFigures:
    """For the trace."""
    return MethodFigures(
        method=figures.method,
        steps=figures.num_steps,
        drafted_tokens=figures.num_draft_tokens,
        accepted_tokens=figures.num_accepted_tokens,
        acceptance_histogram=tuple(figures.acceptance_histogram),
        dropped_drafts=figures.num_dropped,
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _merged(figures: list[SpeculationFigures]) -> list[SpeculationFigures]:
    """One entry for each method."""
    by_method: dict[str, list[SpeculationFigures]] = {}
    for one in figures:
        by_method.setdefault(one.method, []).append(one)
    return [merged for several in by_method.values() if (merged := _sum(several)) is not None]


def _sum(figures: list[SpeculationFigures]) -> SpeculationFigures | None:
    """All of them as one, None of none."""
    if not figures:
        return None
    lengths = zip_longest(*(one.acceptance_histogram for one in figures), fillvalue=0)
    return SpeculationFigures(
        "+".join(dict.fromkeys(one.method for one in figures)),
        sum(one.num_steps for one in figures),
        sum(one.num_draft_tokens for one in figures),
        sum(one.num_accepted_tokens for one in figures),
        [sum(counts) for counts in lengths],
        sum(one.num_dropped for one in figures),
    )


async def _pump(generation: Generation | CheckedGeneration, inbox: "asyncio.Queue[Piece | int]") -> None:
    try:
        async with aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                inbox.put_nowait(piece)
    finally:
        inbox.put_nowait(generation.index)
