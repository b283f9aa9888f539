"""Sample-then-match, and how its outcomes are counted."""

from outrider.speculative.match import match
from outrider.speculative.proposer import DraftCounts


def test_without_a_draft_the_drawn_token_is_emitted() -> None:
    """Plain decoding is the special case."""
    assert [5] == match([], [5])


def test_a_wrong_draft_costs_nothing() -> None:
    """The token drawn in its place is emitted, and what was drawn behind the wrong one is not."""
    assert [9] == match([5, 6], [9, 6, 7])


def test_accepted_tokens_and_the_one_that_differs_are_emitted() -> None:
    """The draw that refuted the draft is itself a sample."""
    assert [5, 8] == match([5, 6], [5, 8, 7])


def test_a_draft_accepted_whole_gives_a_bonus_token() -> None:
    """k drafted tokens can give k + 1."""
    assert [5, 6, 7] == match([5, 6], [5, 6, 7])


def test_counts_keep_a_histogram_of_accepted_lengths() -> None:
    """Index j counts the steps that accepted j tokens."""
    counts = DraftCounts()
    counts.add(4, 2)
    counts.add(4, 0)
    counts.add(3, 2)

    assert (3, 11, 4, [1, 0, 2]) == (
        counts.num_steps,
        counts.num_draft_tokens,
        counts.num_accepted_tokens,
        counts.histogram,
    )
