"""Drafts from how often something followed."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.proposer import DraftRequest
from outrider.speculative.suffix import MIN_PROBABILITY, READ_AT_ONCE, SuffixProposer


def propose(token_ids: list[int], max_tokens: int = 4, proposer: SuffixProposer | None = None) -> list[int]:
    (draft,) = (proposer or SuffixProposer()).propose([DraftRequest("r", token_ids, max_tokens)])
    return list(draft.token_ids)


def test_the_frequent_continuation_is_preferred_to_the_recent_one() -> None:
    """Three times 5, then once 6."""
    assert [5] == propose([1, 2, 5, 1, 2, 5, 1, 2, 5, 1, 2, 6, 9, 1, 2], max_tokens=1)


def test_a_long_repetition_is_followed_to_the_end() -> None:
    """As sure as can be."""
    text = [1, 2, 3, 4, 5, 6, 7, 8]

    assert [4, 5, 6, 7] == propose([*text, 9, 1, 2, 3])


def test_a_longer_tail_is_trusted_where_a_shorter_one_is_not_sure() -> None:
    """Behind 2 came 5 or 6, behind 1, 2 always 5."""
    assert [5] == propose([1, 2, 5, 3, 2, 6, 3, 2, 6, 1, 2], max_tokens=1)


def test_it_stops_where_anything_may_follow() -> None:
    """Behind 0 came twenty different tokens."""
    text = [token for other in range(1, 21) for token in (0, other)]

    assert 1 / 20 < MIN_PROBABILITY
    assert [] == propose([*text, 0])


def test_a_long_prompt_is_read_over_several_steps() -> None:
    """Each step costs no more than so many tokens."""
    proposer, text = SuffixProposer(), [*range(10, 10 + READ_AT_ONCE), 1, 2, 3, 4, 1, 2]

    assert [] == propose(text, proposer=proposer)
    assert [3, 4, 1, 2] == propose(text, proposer=proposer)


def test_nothing_is_known_of_a_new_token() -> None:
    """Nor of a text of one token, or of none."""
    assert [] == propose([1, 2, 3])
    assert [] == propose([1])
    assert [] == propose([])


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 6))
def test_token_by_token_or_at_once_is_the_same(token_ids, max_tokens) -> None:
    """And no draft is longer than it may be."""
    proposer = SuffixProposer()
    for end in range(len(token_ids) + 1):
        stepwise = propose(token_ids[:end], max_tokens, proposer)

    assert stepwise == propose(token_ids, max_tokens)
    assert len(stepwise) <= max_tokens
