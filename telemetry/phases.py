"""The phases of an inference: their names and attributes. Times are seconds of the monotonic clock."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes
from outrider.telemetry.spans import Phase

QueueReason: TypeAlias = Literal["gateway", "arrival", "preempted", "unanswered"]


class Figures(Protocol):
    """Figures that have attributes."""

    def attributes(self) -> Attributes:
        """What a span says of them."""
        ...


def admission(start: float, end: float, decision: str, retry_after_ms: int | None) -> Phase:
    """Checked, tokenised and, for some, its grammar compiled; "refused" is no error of the phase."""
    attributes: Attributes = {names.ADMISSION_DECISION: decision, names.ADMISSION_RETRY_AFTER_MS: retry_after_ms}
    return Phase(name=names.ADMISSION_SPAN, start=start, end=end, attributes=attributes)


def grammar_compile(start: float, end: float, figures: Figures, *, has_failed: bool = False) -> Phase:
    """Waited for the grammar's compiler."""
    return Phase(name=names.GRAMMAR_SPAN, start=start, end=end, attributes=figures.attributes(), has_failed=has_failed)


def queue(
    start: float, end: float, *, reason: QueueReason, depth: int | None = None, choice: int | None = None
) -> Phase:
    """Waited: in the gateway for its turn, or in the engine, since its arrival or since it was preempted.

    "unanswered" is one of which the engine had told nothing when it ended: waiting, or in its prefill.
    """
    attributes: Attributes = {names.QUEUE_REASON: reason, names.QUEUE_DEPTH: depth, names.CHOICE_INDEX: choice}
    return Phase(name=names.QUEUE_SPAN, start=start, end=end, attributes=attributes)


def prefill(start: float, end: float, *, tokens: int, cached_tokens: int, chunks: int) -> Phase:
    """From its first step to its first token. `tokens` includes the cached ones; `chunks` are steps."""
    attributes: Attributes = {
        names.PREFILL_TOKENS: tokens,
        names.PREFILL_CACHED_TOKENS: cached_tokens,
        names.PREFILL_CHUNKS: chunks,
    }
    return Phase(name=names.PREFILL_SPAN, start=start, end=end, attributes=attributes)


def decode(
    start: float,
    end: float,
    *,
    tokens: int,
    steps: int | None,
    gap_seconds: tuple[float, float, float] | None,
    choice: int | None,
    parts: Sequence[Figures | None],
) -> Phase:
    """From the first token to the last, as one summary.

    Args:
        start: Of the phase.
        end: Of the phase.
        tokens: All that were emitted, the first too.
        steps: Those after the first token; None where the end was not told.
        gap_seconds: Median, 99th percentile and longest time between steps that gave tokens.
        choice: Index of the answer, where there are several.
        parts: Drafts and grammar, where there were any.
    """
    median, late, longest = (None, None, None) if gap_seconds is None else (one * 1000 for one in gap_seconds)
    attributes: Attributes = {
        names.DECODE_TOKENS: tokens,
        names.DECODE_STEPS: steps,
        names.DECODE_ITL_MS_P50: median,
        names.DECODE_ITL_MS_P99: late,
        names.DECODE_ITL_MS_MAX: longest,
        names.CHOICE_INDEX: choice,
    }
    for part in parts:
        if part is not None:
            attributes |= part.attributes()
    return Phase(name=names.DECODE_SPAN, start=start, end=end, attributes=attributes)
