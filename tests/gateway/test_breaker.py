"""The circuit breaker over simulated time."""

from outrider.gateway.breaker import FIRST_PAUSE, LONGEST_PAUSE, MAX_FAILURES, Breaker


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for index in range(MAX_FAILURES):
        assert breaker.allows(now + index)
        breaker.fail(now + index)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """And not before."""
    assert not broken().allows(MAX_FAILURES)


def test_a_success_between_failures_counts_them_anew() -> None:
    """Only a row of them says that the engine is ill."""
    breaker = Breaker()
    for index in range(4 * MAX_FAILURES):
        breaker.fail(index)
        if index % 3 == 2:
            breaker.succeed()

    assert breaker.allows(100.0)


def test_one_step_that_fails_many_requests_is_one_failure() -> None:
    """They fail in the same moment."""
    breaker = Breaker()
    for _ in range(10 * MAX_FAILURES):
        breaker.fail(1.0)

    assert breaker.allows(1.0)


def test_after_the_pause_one_request_tries() -> None:
    """And its success lets all others through."""
    breaker = broken()
    now = MAX_FAILURES - 1 + FIRST_PAUSE
    assert breaker.allows(now)
    breaker.begin()

    assert not breaker.allows(now)
    breaker.succeed()
    assert breaker.allows(now)


def test_pauses_grow_to_a_bound() -> None:
    """Each probe that fails doubles them."""
    breaker, now, pauses = broken(), 0.0, []
    for _ in range(5):
        pauses.append(breaker.pause)
        now = breaker.opens_at
        breaker.begin()
        breaker.fail(now)

    assert [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE] == pauses


def test_a_probe_whose_client_left_makes_room_for_another() -> None:
    """Nothing was learned from it."""
    breaker = broken()
    breaker.begin()
    breaker.leave()

    assert breaker.allows(breaker.opens_at)
