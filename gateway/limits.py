"""Limits as pure decisions: what a request claims, whether it may pass, what its sender is told. Time is an argument.

Every limit is a meter that holds at most `limit` units. Rates drain evenly over a minute, which makes of a request
meter GCRA (ITU-T I.371) and of a token meter a token bucket: both are one number, the time at which the meter will be
empty. A daily budget does not drain, and is a new meter each day (UTC). Concurrency counts the leases that are held.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

MAX_LIMIT = 10**9
DAY_SECONDS = 86_400
CONCURRENCY_WAIT = 1.0  # seconds: when a lease will be free is not known

# A client that waited exactly as long as it was told must pass, however its clock and ours round.
ROUNDING_SECONDS = 1e-7

Bound = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What an operator allows a key, a tenant, a model, or all together; None is no limit."""

    requests_per_minute: Bound | None = None
    input_tokens_per_minute: Bound | None = None
    output_tokens_per_minute: Bound | None = None
    tokens_per_day: Bound | None = None  # input and output, by UTC days
    concurrency: Bound | None = None  # requests at once, waiting ones included


class Kind(StrEnum):
    """What a meter counts; the words as messages and storage have them."""

    REQUESTS = "requests"
    INPUT = "input-tokens"
    OUTPUT = "output-tokens"
    DAILY = "daily-tokens"
    CONCURRENCY = "concurrency"


RATES = frozenset({Kind.REQUESTS, Kind.INPUT, Kind.OUTPUT})  # what drains over a minute


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request takes: exact prompt tokens, and the answer's as estimated or as counted."""

    input_tokens: int
    output_tokens: int
    requests: int = 1

    def of(self, kind: Kind) -> int:
        """In the units of a kind of meter."""
        if kind is Kind.INPUT:
            return self.input_tokens
        if kind is Kind.OUTPUT:
            return self.output_tokens
        return self.input_tokens + self.output_tokens if kind is Kind.DAILY else self.requests


NOTHING = Cost(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Claim:
    """One request's share of one meter."""

    scope: str  # "global", "model:NAME", "tenant:NAME" or "key:ID"
    kind: Kind
    limit: int
    amount: int
    day: int = 0  # of daily budgets: days since 1970

    meter: str = field(init=False)  # its name, one for all requests that share it
    per_second: float = field(init=False)  # units that drain in a second; 0 where nothing drains

    def __post_init__(self) -> None:
        # A rate's meter is a time, worth other units under another limit: one that is changed begins anew.
        place = f":{self.limit}" if self.kind in RATES else f":{self.day}" if self.kind is Kind.DAILY else ""
        object.__setattr__(self, "meter", f"{self.scope}:{self.kind}{place}")
        object.__setattr__(self, "per_second", self.limit / 60 if self.kind in RATES else 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A claim beside what its meter held when the request came. `used` is in units, debts included."""

    claim: Claim
    used: float

    @property
    def fits(self) -> bool:
        """Whether the claim may pass."""
        slack = self.claim.per_second * ROUNDING_SECONDS
        return self.used + self.claim.amount <= self.claim.limit + slack

    @property
    def can_ever_fit(self) -> bool:
        """Whether an empty meter holds it."""
        return self.claim.amount <= self.claim.limit

    def wait(self, wall: float) -> float:
        """Seconds until the claim passes if no other comes first, 0 if it does now; `wall` is Unix time."""
        if self.fits:
            return 0.0
        if self.claim.kind is Kind.CONCURRENCY:
            return CONCURRENCY_WAIT
        if self.claim.kind is Kind.DAILY:
            return (self.claim.day + 1) * DAY_SECONDS - wall
        return (self.used + self.claim.amount - self.claim.limit) / self.claim.per_second


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request passes all its limits; nothing of it is taken where it does not."""

    readings: tuple[Reading, ...]
    wall: float  # Unix time of the decision, seconds

    denied_by: Reading | None = field(init=False)  # the limit that lets it wait longest; None when the request passes

    def __post_init__(self) -> None:
        refused = [reading for reading in self.readings if not reading.fits]
        longest = max(refused, key=lambda one: (not one.can_ever_fit, one.wait(self.wall)), default=None)
        object.__setattr__(self, "denied_by", longest)

    @property
    def retry_after(self) -> float:
        """Seconds until every limit lets it pass, if no other comes first."""
        return max((reading.wait(self.wall) for reading in self.readings), default=0.0)

    def headers(self) -> dict[str, str]:
        """OpenAI's rate headers, for answers of any kind: of each unit, the limit that is nearest to its end."""
        headers: dict[str, str] = {}
        passed = self.denied_by is None
        fullest: dict[str, float] = {}
        for reading in self.readings:
            claim = reading.claim
            used = reading.used + claim.amount if passed else reading.used
            for unit in _UNITS.get(claim.kind, ()):
                if used / claim.limit > fullest.get(unit, -1.0):
                    fullest[unit] = used / claim.limit
                    headers[f"x-ratelimit-limit-{unit}"] = str(claim.limit)
                    headers[f"x-ratelimit-remaining-{unit}"] = str(max(0, math.floor(claim.limit - used + 1e-6)))
                    headers[f"x-ratelimit-reset-{unit}"] = go_duration(used / claim.per_second)
        return headers


# OpenAI knows tokens alone; who limits both ways is told of both, and of the tighter one by the name that clients know.
_UNITS = {
    Kind.REQUESTS: ("requests",),
    Kind.INPUT: ("input-tokens", "tokens"),
    Kind.OUTPUT: ("output-tokens", "tokens"),
}


def claims(scopes: Iterable[tuple[str, Limits]], cost: Cost, wall: float) -> list[Claim]:
    """What a request claims of every limit that is set, at Unix time `wall`.

    The answer's length is a guess: no more of it is claimed than an empty meter holds.
    """
    found = []
    for scope, limits in scopes:
        for kind, name in _FIELDS.items():
            limit = getattr(limits, name)
            if limit is not None:
                day = int(wall // DAY_SECONDS) if kind is Kind.DAILY else 0
                found.append(Claim(scope, kind, limit, _amount(kind, cost, limit), day))
    return found


_FIELDS = {
    Kind.REQUESTS: "requests_per_minute",
    Kind.INPUT: "input_tokens_per_minute",
    Kind.OUTPUT: "output_tokens_per_minute",
    Kind.DAILY: "tokens_per_day",
    Kind.CONCURRENCY: "concurrency",
}


def _amount(kind: Kind, cost: Cost, limit: int) -> int:
    if kind is Kind.OUTPUT:
        return min(cost.output_tokens, limit)
    if kind is Kind.DAILY:
        return cost.input_tokens + min(cost.output_tokens, max(0, limit - cost.input_tokens))
    return cost.of(kind)


def merged(first: Sequence[Claim], more: Sequence[Claim]) -> tuple[Claim, ...]:
    """What a request claims in all, once for each meter."""
    by_meter = {claim.meter: claim for claim in first}
    for claim in more:
        known = by_meter.get(claim.meter)
        by_meter[claim.meter] = claim if known is None else replace(claim, amount=known.amount + claim.amount)
    return tuple(by_meter.values())


def corrections(taken: Sequence[Claim], used: Cost) -> list[tuple[Claim, int]]:
    """By how many units each meter must rise for the claims to become what was used; a lease is always given back."""
    return [
        (claim, -claim.amount if claim.kind is Kind.CONCURRENCY else used.of(claim.kind) - claim.amount)
        for claim in taken
    ]


def go_duration(seconds: float) -> str:
    """As OpenAI writes durations: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3g}s" if minutes else f"{rest:.4g}s"
