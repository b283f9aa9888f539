"""Sample-then-match, and how its outcomes are counted."""

from outrider.speculative.match import match
from outrider.speculative.proposer import Draft, DraftCounts
from outrider.speculative.tree import ROOT, TokenTree, merge


def chain(*token_ids: int) -> TokenTree:
    return merge({"a": Draft(token_ids)}, 64)


def test_without_a_draft_the_drawn_token_is_emitted() -> None:
    """Plain decoding is the special case."""
    assert ([5], []) == match(TokenTree(), [5])


def test_a_wrong_draft_costs_nothing() -> None:
    """The token drawn in its place is emitted, and what was drawn behind the wrong one is not."""
    assert ([9], []) == match(chain(5, 6), [9, 6, 7])


def test_accepted_tokens_and_the_one_that_differs_are_emitted() -> None:
    """The draw that refuted the draft is itself a sample."""
    assert ([5, 8], [0]) == match(chain(5, 6), [5, 8, 7])


def test_a_draft_accepted_whole_gives_a_bonus_token() -> None:
    """k drafted tokens can give k + 1."""
    assert ([5, 6, 7], [0, 1]) == match(chain(5, 6), [5, 6, 7])


def test_the_branch_that_is_drawn_is_followed() -> None:
    """Whatever lies beside it: 5 with 6 and 8 behind it, and 9 with 6."""
    tree = TokenTree((5, 6, 8, 9, 6), (ROOT, 0, 0, ROOT, 3), (("a",),) * 5)

    assert ([5, 8, 1], [0, 2]) == match(tree, [5, 8, 0, 1, 0, 0])
    assert ([9, 6, 4], [3, 4]) == match(tree, [9, 0, 0, 0, 6, 4])
    assert ([9, 8], [3]) == match(tree, [9, 0, 0, 0, 8, 4])


def test_no_token_matches_nothing() -> None:
    """A place where none could be drawn ends the walk."""
    assert ([5, None], [0]) == match(chain(5, 6), [5, None, 7])


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
