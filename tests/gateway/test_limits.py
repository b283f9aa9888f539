"""The requests-per-minute limit against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.gateway.limits import RequestLimit, go_duration, rate_headers


@given(
    per_minute=st.integers(1, 600),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
)
def test_no_window_lets_more_than_a_burst_and_the_rate_through(per_minute, burst, gaps) -> None:
    """In any span of time at most rate x span + burst requests pass; a refused one passes when it was told to."""
    limit = RequestLimit(per_minute, burst)
    now, passed = 1000.0, []
    for gap in gaps:
        now += gap
        decision = limit.take(now)
        if not decision.allowed:
            now += decision.retry_after
            assert limit.take(now).allowed, "Retry-After was not true"
        passed.append(now)

    for index, start in enumerate(passed):
        for count, stop in enumerate(passed[index:], start=1):
            assert count <= (stop - start) * per_minute / 60 + burst + 1e-6


@given(per_minute=st.integers(1, 600), burst=st.integers(1, 20))
def test_the_burst_passes_at_once_and_the_next_does_not(per_minute, burst) -> None:
    """Never under-admits: what the headers promise as remaining does pass."""
    limit = RequestLimit(per_minute, burst)

    remaining = [limit.take(5.0).remaining for _ in range(burst)]

    assert list(range(burst - 1, -1, -1)) == remaining
    assert not limit.take(5.0).allowed


def test_an_even_stream_at_the_rate_always_passes() -> None:
    """Rounding does not build up over an hour."""
    limit = RequestLimit(per_minute=7, burst=1)

    assert all(limit.take(i * 60 / 7).allowed for i in range(420))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.1201, "121ms"), (1.5, "1.5s"), (59.94, "59.94s"), (360, "6m0s"), (90.5, "1m30.5s")],
)
def test_durations_are_written_as_openai_does(seconds, text) -> None:
    """Clients parse them."""
    assert text == go_duration(seconds)


def test_the_headers_tell_limit_remaining_and_reset() -> None:
    """Three headers by OpenAI's names."""
    limit = RequestLimit(60, 10)
    decision = limit.take(0.0)

    assert {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1s",
    } == rate_headers(limit, decision)
