"""The n-gram proposer."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.ngram import MAX_N, MIN_N, NgramProposer
from outrider.speculative.proposer import DraftRequest


def propose(token_ids: list[int], max_tokens: int, proposer: NgramProposer | None = None) -> tuple[int, ...]:
    (draft,) = (proposer or NgramProposer()).propose([DraftRequest("r", token_ids, max_tokens)])
    return draft.token_ids


def test_what_followed_the_last_occurrence_is_proposed() -> None:
    """Of two continuations the newer one."""
    assert (9, 1, 2) == propose([1, 2, 8, 1, 2, 9, 1, 2], 3)


def test_a_longer_match_wins_over_a_newer_one() -> None:
    """More context is better evidence."""
    assert (7,) == propose([5, 1, 2, 7, 6, 1, 2, 8, 5, 1, 2], 1)


def test_a_loop_goes_on() -> None:
    """A copy that reaches the end of the text continues into itself."""
    assert (1, 2, 1, 2, 1) == propose([1, 2, 1, 2], 5)


def test_nothing_is_proposed_without_a_match() -> None:
    """An empty draft is a valid answer."""
    assert () == propose([1, 2, 3, 4], 4)
    assert () == propose([1], 4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 8))
def test_the_index_finds_what_a_search_finds(token_ids, max_tokens) -> None:
    """Grown token by token, the index proposes what scanning the whole text does."""
    proposer = NgramProposer()
    for length in range(1, len(token_ids) + 1):
        text = token_ids[:length]
        expected: tuple[int, ...] = ()
        for n in range(min(MAX_N, length), MIN_N - 1, -1):
            places = [end for end in range(n, length) if text[end - n : end] == text[-n:]]
            if places:
                following = text[places[-1] :]
                expected = tuple(following[i % len(following)] for i in range(max_tokens))
                break

        assert expected == propose(text, max_tokens, proposer)
