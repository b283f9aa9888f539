"""A request inside the engine: the one mutable record. Written by the scheduler and by `EngineCore.step` alone."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from outrider.engine.protocol import (
    RequestFigures,
    SamplingParams,
    SpeculationFigures,
    SpeculationParams,
    TokenLogprobs,
)
from outrider.speculative.proposer import DraftCounts

if TYPE_CHECKING:  # the scheduler's records need no grammar library
    from outrider.structured.grammar import Grammar


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
    status: Status = Status.WAITING
    num_computed: int = 0
    block_ids: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)  # of its full blocks, as far as they were needed
    num_published: int = 0  # leading blocks that others can share, or that were shared with it
    num_cached_tokens: int = 0  # of the prompt, not computed because their KV was there when it started
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)  # as far as the prompt is computed
    first_scheduled: float | None = None
    first_token: float | None = None
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

    def figures(self, now: float) -> RequestFigures:
        """Where the time went, when it ends at monotonic time `now`."""
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
        )

    def _whole_figures(self) -> SpeculationFigures:
        """Of all methods that drafted, together."""
        drafted = [method for method, counts in self.draft_counts.items() if counts.num_steps]
        return _figures("+".join(drafted), self.whole_drafts)

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.request_id} {self.status.name} {self.num_computed}/{len(self.token_ids)} computed, "
            f"{len(self.block_ids)} blocks>"
        )


def _figures(method: str, counts: DraftCounts) -> SpeculationFigures:
    return SpeculationFigures(
        method,
        counts.num_steps,
        counts.num_draft_tokens,
        counts.num_accepted_tokens,
        counts.histogram,
        counts.num_dropped,
    )
