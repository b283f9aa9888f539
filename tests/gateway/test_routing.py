"""Where requests go: pure decisions."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.gateway.routing import IMBALANCE_REQUESTS, Load, PrefixMemory, choose, prefix_chain

LOADS = st.lists(
    st.builds(Load, num_requests=st.integers(0, 100), kv_use=st.floats(0, 1), matched=st.floats(0, 1)),
    min_size=1,
    max_size=6,
)


def test_the_engine_that_has_the_prefix_is_taken() -> None:
    """Among equally busy ones, and before one that is only a little less busy."""
    assert 1 == choose([Load(3, 0.2), Load(3, 0.2, 0.9)])
    assert 1 == choose([Load(2, 0.2), Load(3, 0.2, 0.9)])


def test_the_less_busy_engine_is_taken() -> None:
    """Where no prefix is known."""
    assert 1 == choose([Load(3, 0.2), Load(1, 0.2)])
    assert 0 == choose([Load(1, 0.1), Load(1, 0.9)])


@given(loads=LOADS)
def test_no_engine_is_drowned_for_its_prefixes(loads) -> None:
    """One with far more requests than another is never taken, whatever it has computed."""
    taken = loads[choose(loads)].num_requests
    least = min(load.num_requests for load in loads)

    assert taken - least <= IMBALANCE_REQUESTS or taken <= 1.5 * least


@given(loads=LOADS)
def test_an_engine_that_is_better_in_nothing_is_not_taken(loads) -> None:
    """Unless the others are no better."""
    taken = loads[choose(loads)]

    assert not any(
        other.num_requests < taken.num_requests and other.kv_use < taken.kv_use and other.matched > taken.matched
        for other in loads
    )


def test_a_prefix_is_known_as_far_as_it_is_the_same() -> None:
    """In whole blocks, and for the same salt alone."""
    memory = PrefixMemory()
    first, fork = list(range(128)), [*range(64), *range(64)]
    memory.remember(prefix_chain(first, "a"), 100)

    found = [memory.matched(prefix_chain(ids, salt)) for ids, salt in ((first, "a"), (fork, "a"), (first, "b"))]

    assert [1.0, 0.5, 0.0] == found
    assert 0.0 == memory.matched(prefix_chain([1], "a"))


def test_old_prefixes_are_forgotten_from_their_ends() -> None:
    """A memory holds as much as the engine's cache does."""
    memory = PrefixMemory()
    old, new = prefix_chain(list(range(128)), ""), prefix_chain(list(range(500, 628)), "")
    memory.remember(old, 6)
    memory.remember(new, 6)

    assert (0.5, 1.0) == (memory.matched(old), memory.matched(new))
