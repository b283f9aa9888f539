"""What the engines last told of themselves: their running totals turned into increments, their levels summed.

Owns the memory that this takes. Knows nothing of Prometheus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Label = TypeVar("Label")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLevels:
    """What holds in one engine now.

    Attributes:
        running: Requests in the batch.
        waiting: Requests that the engine has taken in and does not run yet.
        kv_blocks_total: Blocks that the engine has.
        kv_blocks_used: Blocks that a request holds; one kept only for prefix reuse is free.
        resident_memory_bytes: Of the engine's process.
    """

    running: int = 0
    waiting: int = 0
    kv_blocks_total: int = 0
    kv_blocks_used: int = 0
    resident_memory_bytes: int = 0

    def __add__(self, other: "EngineLevels") -> "EngineLevels":
        return EngineLevels(
            running=self.running + other.running,
            waiting=self.waiting + other.waiting,
            kv_blocks_total=self.kv_blocks_total + other.kv_blocks_total,
            kv_blocks_used=self.kv_blocks_used + other.kv_blocks_used,
            resident_memory_bytes=self.resident_memory_bytes + other.resident_memory_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTotals:
    """What one engine counted since it started; no count falls while it lives.

    Attributes:
        step_seconds: Time spent inside steps.
        mask_seconds: The part of it that grammar masks took.
        cached_tokens: Prompt tokens whose KV was found in the prefix cache.
        draft_tokens: By proposer: nodes verified.
        accepted_draft_tokens: By proposer: those of them that became output.
        draft_steps: By proposer and how many of its tokens were accepted: steps that verified a draft of it.
        dropped_drafts: By proposer: offers that were not used because it failed.
        tokens_by_origin: Emitted tokens by who gave them: a proposer, or the model itself behind a draft or without.
    """

    steps: int = 0
    step_seconds: float = 0.0
    mask_seconds: float = 0.0
    preemptions: int = 0
    cached_tokens: int = 0
    draft_tokens: Mapping[str, int] = field(default_factory=dict)
    accepted_draft_tokens: Mapping[str, int] = field(default_factory=dict)
    draft_steps: Mapping[tuple[str, int], int] = field(default_factory=dict)
    dropped_drafts: Mapping[str, int] = field(default_factory=dict)
    tokens_by_origin: Mapping[str, int] = field(default_factory=dict)

    def since(self, earlier: "EngineTotals") -> "EngineTotals":
        """What was counted after `earlier`.

        If any count fell, the engine started anew and counts from zero: then everything here is new, also a count that
        has outgrown its old value since.
        """
        difference = EngineTotals(
            steps=self.steps - earlier.steps,
            step_seconds=self.step_seconds - earlier.step_seconds,
            mask_seconds=self.mask_seconds - earlier.mask_seconds,
            preemptions=self.preemptions - earlier.preemptions,
            cached_tokens=self.cached_tokens - earlier.cached_tokens,
            draft_tokens=_difference(self.draft_tokens, earlier.draft_tokens),
            accepted_draft_tokens=_difference(self.accepted_draft_tokens, earlier.accepted_draft_tokens),
            draft_steps=_difference(self.draft_steps, earlier.draft_steps),
            dropped_drafts=_difference(self.dropped_drafts, earlier.dropped_drafts),
            tokens_by_origin=_difference(self.tokens_by_origin, earlier.tokens_by_origin),
        )
        return self if difference._has_fallen() else difference

    def _has_fallen(self) -> bool:
        counts = (self.steps, self.step_seconds, self.preemptions, self.cached_tokens)
        by_label = (
            *(self.draft_tokens, self.accepted_draft_tokens),
            *(self.draft_steps, self.dropped_drafts, self.tokens_by_origin),
        )
        return min(*counts, *(count for one in by_label for count in one.values())) < 0


class EngineBook:
    """The last word of every engine, by its name."""

    def __init__(self) -> None:
        self._levels: dict[str, EngineLevels] = {}
        self._totals: dict[str, EngineTotals] = {}

    def __repr__(self) -> str:
        return f"EngineBook({len(self._levels)} of {len(self._totals)} engines here)"

    def enter(self, engine: str, levels: EngineLevels, totals: EngineTotals) -> EngineTotals:
        """Takes a report in and returns what it adds."""
        added = totals.since(self._totals.get(engine, EngineTotals()))
        self._levels[engine] = levels
        self._totals[engine] = totals
        return added

    def leave(self, engine: str) -> None:
        """Drops its levels; its totals stay, because it may only have lost its connection."""
        self._levels.pop(engine, None)

    def levels(self) -> EngineLevels:
        """The sum over the engines that are here."""
        return sum(self._levels.values(), EngineLevels())


def _difference(later: Mapping[Label, int], earlier: Mapping[Label, int]) -> dict[Label, int]:
    return {name: later.get(name, 0) - earlier.get(name, 0) for name in later.keys() | earlier.keys()}
