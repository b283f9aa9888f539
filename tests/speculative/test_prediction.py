"""Drafts from the client's own prediction."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.prediction import PredictionProposer
from outrider.speculative.proposer import DraftRequest

PROMPT = [90, 91]
PREDICTION = [1, 2, 3, 4, 5, 6, 7, 8, 9]


def propose(proposer: PredictionProposer, answer: list[int], max_tokens: int = 3, prediction=PREDICTION) -> list[int]:
    (draft,) = proposer.propose([DraftRequest("r", PROMPT + answer, max_tokens, len(PROMPT), prediction)])
    return list(draft.token_ids)


def test_the_beginning_is_drafted_before_any_token() -> None:
    """And what follows, as long as the answer does."""
    proposer = PredictionProposer()

    assert [1, 2, 3] == propose(proposer, [])
    assert [3, 4, 5] == propose(proposer, [1, 2])
    assert [9] == propose(proposer, PREDICTION[:8])
    assert [] == propose(proposer, PREDICTION)


def test_behind_a_replaced_part_it_is_found_again() -> None:
    """Two tokens that agree are enough; until then nothing is offered."""
    proposer = PredictionProposer()

    assert [] == propose(proposer, [1, 2, 50])
    assert [] == propose(proposer, [1, 2, 50, 5])
    assert [7, 8, 9] == propose(proposer, [1, 2, 50, 5, 6])


def test_of_several_places_the_one_that_agrees_longest_counts_then_the_nearest() -> None:
    """Not the first one that will do."""
    text = [1, 2, 3, 7, 1, 2, 4, 8, 1, 2, 5]
    assert [4, 8, 1] == propose(PredictionProposer(), [0, 7, 1, 2], prediction=text)
    proposer = PredictionProposer()
    propose(proposer, [1, 2, 3, 7, 1, 2, 4, 8], prediction=text)
    assert [5] == propose(proposer, [1, 2, 3, 7, 1, 2, 4, 8, 0, 1, 2], prediction=text)


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_what_is_offered_stands_in_the_prediction(prediction, answer, max_tokens) -> None:
    """Token by token or in one piece, whatever the answer is."""
    stepwise, whole = PredictionProposer(), PredictionProposer()
    for end in range(len(answer) + 1):
        offered = propose(stepwise, answer[:end], max_tokens, prediction)
    assert offered == propose(whole, answer, max_tokens, prediction)
    assert len(offered) <= max_tokens
    text = ",".join(map(str, prediction))
    assert ",".join(map(str, offered)) in text


def test_a_request_without_a_prediction_gets_nothing() -> None:
    """Beside one that has."""
    drafts = PredictionProposer().propose([DraftRequest("a", [1], 3), DraftRequest("b", [1], 3, 1, [7, 8])])

    assert [(), (7, 8)] == [draft.token_ids for draft in drafts]
