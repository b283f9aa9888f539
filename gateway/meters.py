"""The meters behind the limits, in this process's memory, and what any keeper of meters offers."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from outrider.gateway.limits import RATES, Claim, Decision, Kind, Reading


class MetersLostError(Exception):
    """The meters cannot be reached. The message says why."""


class Meters(Protocol):
    """Where limits are counted."""

    async def take(self, claims: Sequence[Claim], lease: str) -> Decision:
        """Takes all of the claims or none, in one step that no other request comes between.

        A caller that is cancelled meanwhile has taken nothing.

        Raises:
            MetersLostError: nobody can tell.
        """
        ...

    def correct(self, changes: Iterable[tuple[Claim, int]], lease: str) -> None:
        """Raises each meter by so many units, and ends the lease. Never waits and never fails."""
        ...

    async def close(self) -> None:
        """Ends what runs behind it."""
        ...


class MemoryMeters:
    """Meters of one gateway alone. The clocks are arguments for tests: monotonic seconds, and Unix time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._empty_at: dict[str, float] = {}  # of rates, by meter: clock time
        self._counts: dict[str, int] = {}  # of budgets and leases, by meter; no zeros

    async def take(self, claims: Sequence[Claim], lease: str) -> Decision:  # noqa: ARG002, leases are counted here
        """Takes all of the claims or none."""
        now = self._clock()
        decision = Decision(tuple(Reading(claim, self._used(claim, now)) for claim in claims), self._wall())
        if decision.denied_by is None:
            self._add(((claim, claim.amount) for claim in claims), now)
        return decision

    def correct(self, changes: Iterable[tuple[Claim, int]], lease: str) -> None:  # noqa: ARG002, as above
        """Raises each meter by so many units."""
        self._add(changes, self._clock())

    async def close(self) -> None:
        """Nothing runs."""

    def held(self, meter: str) -> int:
        """What a budget or concurrency meter holds."""
        return self._counts.get(meter, 0)

    def _used(self, claim: Claim, now: float) -> float:
        if claim.kind in RATES:
            return max(0.0, self._empty_at.get(claim.meter, now) - now) * claim.per_second
        return self._counts.get(claim.meter, 0)

    def _add(self, changes: Iterable[tuple[Claim, int]], now: float) -> None:
        for claim, amount in changes:
            meter = claim.meter
            if claim.kind in RATES:
                self._empty_at[meter] = max(self._empty_at.get(meter, now), now) + amount / claim.per_second
                continue
            if claim.kind is Kind.DAILY and meter not in self._counts:
                self._counts.pop(f"{claim.scope}:{claim.kind}:{claim.day - 2}", None)  # nobody can claim it any more
            self._counts[meter] = self._counts.get(meter, 0) + amount
            if not self._counts[meter]:
                del self._counts[meter]
