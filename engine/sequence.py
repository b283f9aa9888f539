"""A request inside the engine: the one mutable record. Written by the scheduler and by `EngineCore.step` alone."""

import math
import time
from array import array
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from outrider.engine.protocol import (
    RequestFigures,
    SamplingParams,
    SpeculationFigures,
    SpeculationParams,
    TokenGaps,
    TokenLogprobs,
)
from outrider.speculative.proposer import DraftCounts

if TYPE_CHECKING:  # the scheduler's records need no grammar library
    from outrider.structured.grammar import Grammar

MAX_WAITS = 16  # that are told of; who is preempted more often is in greater trouble


class Status(Enum):
    """Where a sequence is."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """One request's tokens and its place in the KV cache.

    token_ids = prompt, then output. The first `num_computed` of them have their KV in `block_ids`; all others are
    computed by coming steps.
    """

    request_id: str
    token_ids: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    speculation: SpeculationParams
    arrived: float  # monotonic seconds
    grammar: "Grammar | None" = None
    priority: int = 0  # lower values first
    order: int = 0  # of arrival, given by the scheduler
    cache_salt: str = ""
    token_origins: bool = False  # whether its deltas tell where their tokens come from
    trace_id: str = ""
    status: Status = Status.WAITING
    num_computed: int = 0
    block_ids: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)  # of its full blocks, as far as they were needed
    num_published: int = 0  # leading blocks that others can share, or that were shared with it
    num_published_tokens: int = 0  # of the prompt, in such blocks
    num_cached_tokens: int = 0  # of the prompt, not computed because their KV was there when it started
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)  # as far as the prompt is computed
    waiting_since: float | None = None  # while it waits: its arrival, or when it was preempted
    waits: list[tuple[float, float]] = field(default_factory=list)  # the first of them, seconds since its arrival
    num_waiting: int = 0  # others that waited when it arrived
    first_scheduled: float | None = None
    first_token: float | None = None
    newest_token: float | None = None
    token_gaps: "array[float]" = field(default_factory=lambda: array("d"))  # seconds between steps that gave it tokens
    num_chunks: int = 0  # steps before its first token
    num_steps: int = 0
    num_preemptions: int = 0
    draft_counts: dict[str, DraftCounts] = field(default_factory=dict)  # by method
    whole_drafts: DraftCounts = field(default_factory=DraftCounts)

    @property
    def num_output_tokens(self) -> int:
        """How many tokens follow the prompt."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def needs_prompt_logits(self) -> bool:
        """Whether the model's opinion of a prompt token is asked for and not known yet."""
        return self.params.num_prompt_logprobs is not None and len(self.prompt_logprobs) < self.num_prompt_tokens - 1

    @property
    def rank(self) -> tuple[int, int]:
        """Its place among others: by priority, then by arrival."""
        return self.priority, self.order

    def end_wait(self, now: float) -> None:
        """Notes that it runs again, at monotonic time `now`."""
        if self.waiting_since is not None and len(self.waits) < MAX_WAITS:
            self.waits.append((self.waiting_since - self.arrived, now - self.arrived))
        self.waiting_since = None

    def note_tokens(self, now: float) -> None:
        """Notes that a step gave it tokens."""
        if self.first_token is None:
            self.first_token = now
        if self.newest_token is not None:
            self.token_gaps.append(now - self.newest_token)
        self.newest_token = now

    def figures(self, now: float) -> RequestFigures:
        """Where the time went until monotonic time `now`."""
        scheduled = now if self.first_scheduled is None else self.first_scheduled
        first_token = now if self.first_token is None else self.first_token
        return RequestFigures(
            queue_seconds=scheduled - self.arrived,
            prefill_seconds=first_token - scheduled,
            decode_seconds=now - first_token,
            num_steps=self.num_steps,
            num_preemptions=self.num_preemptions,
            num_cached_tokens=self.num_cached_tokens,
            speculation=[_figures(method, counts) for method, counts in self.draft_counts.items()],
            whole_drafts=self._whole_figures() if self.whole_drafts.num_steps else None,
            arrived_at=time.time() - (time.monotonic() - self.arrived),
            waits=self._waits_until(now),
            num_waiting=self.num_waiting,
            num_chunks=self.num_chunks,
            num_cache_writes=max(0, self.num_published_tokens - self.num_cached_tokens),
            token_gaps=_told(self.token_gaps),
        )

    def _waits_until(self, now: float) -> list[tuple[float, float]]:
        """Its waits, the one under way with them."""
        if self.waiting_since is None:
            return self.waits
        return [*self.waits, (self.waiting_since - self.arrived, now - self.arrived)]

    def _whole_figures(self) -> SpeculationFigures:
        """Of all methods that drafted, together."""
        drafted = [method for method, counts in self.draft_counts.items() if counts.num_steps]
        return _figures("+".join(drafted), self.whole_drafts)

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.request_id} {self.status.name} {self.num_computed}/{len(self.token_ids)} computed, "
            f"{len(self.block_ids)} blocks>"
        )


def _told(gaps: "array[float]") -> TokenGaps | None:
    if not gaps:
        return None
    ordered = sorted(gaps)
    return TokenGaps(_percentile(ordered, 0.5), _percentile(ordered, 0.99), ordered[-1])


def _percentile(ordered: list[float], share: float) -> float:
    """By nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def _figures(method: str, counts: DraftCounts) -> SpeculationFigures:
    return SpeculationFigures(
        method,
        counts.num_steps,
        counts.num_draft_tokens,
        counts.num_accepted_tokens,
        counts.histogram,
        counts.num_dropped,
    )
