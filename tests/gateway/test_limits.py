"""The limits against a reference model, on clocks that tests move by hand."""

import asyncio
import math
import re
import time
import types
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.gateway.errors import ApiError
from outrider.gateway.limiter import Limiter
from outrider.gateway.limits import Claim, Cost, Decision, Kind, Limits, Reading, claims, corrections, go_duration
from outrider.gateway.meters import MemoryMeters, MetersLostError

DAY = 86_400
RATES = {Kind.REQUESTS: "requests_per_minute", Kind.INPUT: "input_tokens_per_minute"}


class Clock:
    """Time that stands until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def taken(meters: MemoryMeters, wanted: list[Claim]) -> Decision:
    """What meters in memory say; they never wait, so no loop is needed."""
    with pytest.raises(StopIteration) as caught:
        meters.take(wanted, "lease").send(None)
    return caught.value.value


class Reference:
    """A bucket of exact numbers: full at first, refilled evenly, in debt when more was used than was there."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.level = Fraction(limit)
        self.now = Fraction(now)

    def refill(self, now: float) -> None:
        self.level = min(Fraction(self.limit), self.level + (Fraction(now) - self.now) * self.limit / 60)
        self.now = Fraction(now)

    def add(self, amount: int) -> None:
        self.level = min(Fraction(self.limit), self.level + amount)


steps = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 2), st.floats(0, 240)),  # seconds since the last one
        st.integers(0, 120),  # reserved, in hundredths of the limit: up to more than ever fits
        st.integers(0, 200),  # used in the end, as above: up to far more than was reserved
        st.booleans(),  # whether it waits as it was told
    ),
    min_size=60,
    max_size=200,
)


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 200_000), kind=st.sampled_from(sorted(RATES)), history=steps)
def test_rates_admit_what_the_reference_bucket_admits(limit, kind, history) -> None:
    """Over hours: never more than a burst and the refill, never less but for rounding, and waits are true."""
    clock = Clock()
    meters, reference = MemoryMeters(clock), Reference(limit, clock.now)
    for gap, share, used_share, waits in history:
        clock.now += gap
        amount = 1 if kind is Kind.REQUESTS else max(1, limit * share // 100)
        used = 1 if kind is Kind.REQUESTS else limit * used_share // 100
        claim = Claim("key:a", kind, limit, amount)
        decision = taken(meters, [claim])
        if decision.denied_by is not None and amount <= limit and waits:
            clock.now += decision.retry_after
            decision = taken(meters, [claim])
            assert decision.denied_by is None, "Retry-After was not true"
        reference.refill(clock.now)
        room = reference.level - amount
        rounding = Fraction(limit, 60) / 10**6 + Fraction(limit, 10**9)
        if decision.denied_by is None:
            assert room >= -rounding, "it took more than a burst and the refill"
            reference.add(-amount)
            meters.correct(corrections([claim], Cost(used, 0)), "lease")
            reference.add(amount - used)
        else:
            assert room <= rounding, "it refused what there was room for"


@settings(max_examples=20)
@given(limit=st.integers(1, 600))
def test_the_burst_passes_at_once_and_the_next_does_not(limit) -> None:
    """What the headers promise as remaining does pass."""
    meters = MemoryMeters(Clock())
    claim = Claim("global", Kind.REQUESTS, limit, 1)

    remaining = [taken(meters, [claim]).headers()["x-ratelimit-remaining-requests"] for _ in range(limit)]

    assert [str(left) for left in range(limit - 1, -1, -1)] == remaining
    assert taken(meters, [claim]).denied_by is not None


def test_an_even_stream_at_the_rate_always_passes() -> None:
    """Rounding does not build up over a day, whatever burst came first."""
    clock = Clock()
    meters, claim = MemoryMeters(clock), Claim("global", Kind.REQUESTS, 7, 1)
    while taken(meters, [claim]).denied_by is None:
        pass
    start = clock.now

    for count in range(1, 7 * 60 * 24):
        clock.now = start + count * 60 / 7
        assert taken(meters, [claim]).denied_by is None


def test_a_request_that_one_limit_refuses_takes_nothing_of_the_others() -> None:
    """All or nothing: a refused request leaves no trace."""
    meters = MemoryMeters(Clock())
    wide, narrow = Claim("tenant:t", Kind.INPUT, 100, 60), Claim("key:a", Kind.CONCURRENCY, 1, 1)
    assert taken(meters, [narrow]).denied_by is None

    assert taken(meters, [wide, narrow]).denied_by is not None
    meters.correct([(narrow, -1)], "lease")

    assert taken(meters, [wide, narrow]).denied_by is None


def test_a_daily_budget_begins_anew_at_midnight() -> None:
    """In UTC, and the wait that is told leads there."""
    wall = Clock(20_000 * DAY + 80_000.0)
    meters = MemoryMeters(Clock(), wall)
    scopes = [("tenant:t", Limits(tokens_per_day=100))]
    assert taken(meters, claims(scopes, Cost(60, 40), wall.now)).denied_by is None
    refused = taken(meters, claims(scopes, Cost(1, 0), wall.now))

    wall.now += refused.retry_after

    assert 6400.0 == refused.retry_after
    assert taken(meters, claims(scopes, Cost(1, 0), wall.now)).denied_by is None


def test_all_meters_of_a_key_are_charged_in_their_own_units() -> None:
    """Requests, prompt and answer; the guess of an answer is at most what fits, so that one always can."""
    limits = Limits(
        requests_per_minute=5,
        input_tokens_per_minute=50,
        output_tokens_per_minute=20,
        tokens_per_day=40,
        concurrency=2,
    )

    wanted = claims([("key:a", limits)], Cost(30, 500), 3.0 * DAY)

    assert [
        ("key:a:requests:5", 1),
        ("key:a:input-tokens:50", 30),
        ("key:a:output-tokens:20", 20),
        ("key:a:daily-tokens:3", 40),
        ("key:a:concurrency", 1),
    ] == [(claim.meter, claim.amount) for claim in wanted]
    assert [0, 0, -15, -5, -1] == [change for _, change in corrections(wanted, Cost(30, 5))]


@types.coroutine
def pause():
    """Where a request waits; the test resumes it, or throws into it."""
    yield


def test_a_hundred_thousand_aborted_requests_leak_no_lease() -> None:
    """Refused, finished, failed, cancelled at any place or forgotten: nothing stays behind."""
    limiter = Limiter()
    scopes = [("global", Limits(concurrency=40, tokens_per_day=10**8)), ("key:a", Limits(concurrency=40))]

    async def request() -> None:
        with limiter.lease(scopes) as lease:
            await pause()
            await lease.take(Cost(10, 20), "m")
            await pause()

    ends = (asyncio.CancelledError, ConnectionResetError, GeneratorExit, ApiError)
    outcomes: Counter[type[BaseException]] = Counter()
    for start in range(0, 100_000, 100):
        running = [request() for _ in range(100)]
        for number, coroutine in enumerate(running):
            try:
                coroutine.send(None)
                if number % 7:
                    coroutine.send(None)
                if number % 9 == 0:
                    coroutine.send(None)
            except (ApiError, StopIteration) as error:
                outcomes[type(error)] += 1
                running[number] = None
        for number, coroutine in enumerate(running):
            if coroutine is not None:
                end = ends[(start + number) % 4]
                try:
                    coroutine.throw(end(500, "") if end is ApiError else end())
                except end:
                    outcomes[end] += 1

    assert 100_000 == outcomes.total()
    assert min(outcomes.values()) > 1_000, outcomes
    assert [0, 0] == [limiter.local.held(f"{scope}:concurrency") for scope, _ in scopes]
    assert 0 == limiter.local.held(claims(scopes, Cost(0, 0), time.time())[0].meter)


async def refusal(limits: Limits, cost: Cost, *before: Cost) -> ApiError:
    limiter = Limiter()
    for one in before:
        await limiter.lease([("tenant:acme", limits)]).take(one, "demo")
    with pytest.raises(ApiError) as caught:
        await limiter.lease([("tenant:acme", limits)]).take(cost, "demo")
    return caught.value


@pytest.mark.parametrize(
    ("limits", "kind", "text"),
    [
        ({"requests_per_minute": 1}, "requests", r"requests per minute \(RPM\): Limit 1, Used 1, Requested 1\."),
        (
            {"input_tokens_per_minute": 90},
            "tokens",
            r"input tokens per minute \(ITPM\): Limit 90, Used \d+, Requested 60",
        ),
        (
            {"output_tokens_per_minute": 9},
            "tokens",
            r"output tokens per minute \(OTPM\): Limit 9, Used \d, Requested 8",
        ),
        ({"concurrency": 1}, "concurrency", r"requests at once: Limit 1, Used 1, Requested 1"),
        ({"tokens_per_day": 100}, "insufficient_quota", r"tokens per day \(TPD\): Limit 100, Used 68, Requested 68"),
    ],
)
async def test_a_refusal_names_the_limit_and_the_wait(limits, kind, text) -> None:
    """In the words that clients match, and in both headers, never rounded down."""
    error = await refusal(Limits(**limits), Cost(60, 8), Cost(60, 8))

    assert (429, kind) == (error.status, error.body.type)
    assert re.search(f"^Rate limit reached for `demo` in tenant acme on {text}", error.body.message)
    told = re.search(r"Please try again in (\d+(?:\.\d+)?)(ms|s)\.$", error.body.message)
    assert told is not None
    wait_ms = int(error.headers["retry-after-ms"])
    assert wait_ms - 1 <= float(told[1]) * (1 if told[2] == "ms" else 1000) <= wait_ms + 10
    assert math.ceil(wait_ms / 1000) == int(error.headers["Retry-After"])
    assert ("x-should-retry" in error.headers) == (kind == "insufficient_quota")


async def test_what_never_fits_is_refused_for_good() -> None:
    """A client that waited would wait in vain."""
    error = await refusal(Limits(input_tokens_per_minute=50), Cost(60, 8))

    assert "false" == error.headers["x-should-retry"]
    assert "Retry-After" not in error.headers
    assert "Limit 50, Used 0, Requested 60. No wait makes room for so many: shorten the prompt." in str(error)


async def test_the_headers_tell_of_the_tightest_limit_of_each_unit() -> None:
    """By OpenAI's names; both ways of tokens besides."""
    scopes = [
        ("global", Limits(requests_per_minute=600, input_tokens_per_minute=1000)),
        ("key:a", Limits(requests_per_minute=60, output_tokens_per_minute=120)),
    ]

    with Limiter().lease(scopes) as lease:
        headers = await lease.take(Cost(100, 60), "m")

    assert {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-input-tokens": "1000",
        "x-ratelimit-remaining-input-tokens": "900",
        "x-ratelimit-reset-input-tokens": "6s",
        "x-ratelimit-limit-output-tokens": "120",
        "x-ratelimit-remaining-output-tokens": "60",
        "x-ratelimit-reset-output-tokens": "30s",
        "x-ratelimit-limit-tokens": "120",
        "x-ratelimit-remaining-tokens": "60",
        "x-ratelimit-reset-tokens": "30s",
    } == headers


class Lost:
    """Shared meters that do not answer."""

    async def take(self, claims, lease) -> Decision:
        raise MetersLostError("gone")

    def correct(self, changes, lease) -> None:
        raise AssertionError("nothing was taken there")

    async def close(self) -> None: ...


@pytest.mark.parametrize(("when_lost", "passed"), [("open", 5), ("closed", 0), ("local", 2)])
async def test_lost_meters_degrade_as_configured(when_lost, passed) -> None:
    """Open lets all pass, closed none, with a 503, and local counts here."""
    limiter = Limiter(Lost(), when_lost)
    statuses = []
    for _ in range(5):
        try:
            with limiter.lease([("global", Limits(requests_per_minute=2))]) as lease:
                await lease.take(Cost(1, 1), "m")
                lease.used = Cost(1, 1)
                statuses.append(200)
        except ApiError as error:
            statuses.append(error.status)

    assert [200] * passed + [503 if when_lost == "closed" else 429] * (5 - passed) == statuses


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.1201, "121ms"), (1.5, "1.5s"), (59.94, "59.94s"), (360, "6m0s"), (90.5, "1m30.5s")],
)
def test_durations_are_written_as_openai_does(seconds, text) -> None:
    """Clients parse them."""
    assert text == go_duration(seconds)


def test_readings_of_a_debt_wait_until_it_is_paid() -> None:
    """A long answer that nobody foresaw is paid for by later requests."""
    reading = Reading(Claim("key:a", Kind.OUTPUT, 60, 10), used=120.0)

    assert 70.0 == reading.wait(0.0)


async def test_a_lease_that_takes_more_is_settled_as_one() -> None:
    """A second draw counts as a request, holds no second place, and what it did not use comes back."""
    limiter = Limiter()
    limits = Limits(requests_per_minute=3, tokens_per_day=1000, concurrency=1)
    with limiter.lease([("key:a", limits)]) as lease:
        await lease.take(Cost(10, 100), "m")
        headers = await lease.take(Cost(0, 100), "m")
        lease.used = Cost(10, 30, lease.num_requests)

    assert "1" == headers["x-ratelimit-remaining-requests"]
    assert {"key:a:daily-tokens": 40} == {
        meter.rpartition(":")[0]: count for meter, count in limiter.local._counts.items()
    }
