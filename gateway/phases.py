"""What a request went through, as the phases of its trace: from the engine's figures, or from what the gateway saw."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from outrider.engine.protocol import RequestFigures
from outrider.gateway.errors import ApiError
from outrider.gateway.generation import Generation
from outrider.telemetry import phases
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.spans import Phase

Parts = Sequence[phases.Figures | None]


@contextmanager
def admission(inference: InferenceTrace) -> Iterator[None]:
    """The phase in which a request is checked and prepared; an error in it is a refusal."""
    started = time.monotonic()
    decision, retry_after = "refused", None
    try:
        yield
        decision = "admitted"
    except ApiError as error:
        milliseconds = error.headers.get("retry-after-ms")
        retry_after = None if milliseconds is None else int(milliseconds)
        raise
    finally:
        inference.phase(phases.admission(started, time.monotonic(), decision, retry_after))


def engine_phases(
    generation: Generation,
    *,
    choice: int | None,
    parts: Parts,
) -> list[Phase]:
    """Of one answer, as far as it came.

    Args:
        generation: The answer, ended or given up.
        choice: Its index where there are several; all but the first share the first one's prefill.
        parts: What was drafted for it and by whom, and the grammar it followed.
    """
    if generation.submitted is None:
        return []
    figures, until = generation.figures, generation.finished or time.monotonic()
    if figures is None:  # the client left, or the engine was lost, before its first token
        return [phases.queue(generation.submitted, time.monotonic(), reason="unanswered", choice=choice)]
    # Both clocks are this machine's; what is left between them is cut off where it leaves the inference.
    arrived = figures.arrived_at - time.time() + time.monotonic()
    found = [
        phases.queue(
            arrived + start,
            arrived + end,
            reason="preempted" if index else "arrival",
            depth=None if index else figures.num_waiting,
            choice=choice,
        )
        for index, (start, end) in enumerate(figures.waits)
    ]
    prefilled = arrived + figures.queue_seconds + figures.prefill_seconds
    if figures.num_steps and not choice:
        found.append(
            phases.prefill(
                arrived + figures.queue_seconds,
                prefilled,
                tokens=generation.num_prompt_tokens,
                cached_tokens=figures.num_cached_tokens,
                chunks=figures.num_chunks,
            )
        )
    if generation.first_token is not None:
        found.append(_decode(generation, figures, (prefilled, until), choice, parts))
    return found


def _decode(
    generation: Generation, figures: RequestFigures, bounds: tuple[float, float], choice: int | None, parts: Parts
) -> Phase:
    gaps = figures.token_gaps
    start, until = bounds
    return phases.decode(
        start,
        start + figures.decode_seconds if generation.has_all_figures else until,
        tokens=generation.num_output_tokens,
        steps=figures.num_steps - figures.num_chunks if generation.has_all_figures else None,
        gap_seconds=None if gaps is None else (gaps.median, gaps.percentile_99, gaps.longest),
        choice=choice,
        parts=parts,
    )
