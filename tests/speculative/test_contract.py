"""What every proposer promises; each entry of the table runs through the same tests."""

import pytest

from outrider.speculative.proposer import DraftRequest
from outrider.speculative.table import make_proposers

TEXT = [3, 4, 5, 6] * 5


def make(name: str):
    return make_proposers(lambda text: [ord(character) for character in text])[name]


@pytest.fixture(params=make_proposers(lambda _: []))
def name(request) -> str:
    return request.param


@pytest.fixture
def proposer(name):
    return make(name)


def test_one_draft_per_request_in_order(proposer) -> None:
    """Requests with nothing to offer get an empty draft."""
    requests = [DraftRequest("a", TEXT, 3), DraftRequest("b", [1], 3), DraftRequest("c", TEXT, 1)]

    drafts = proposer.propose(requests)

    assert 3 == len(drafts)
    assert all(len(draft.token_ids) <= request.max_tokens for draft, request in zip(drafts, requests, strict=True))


def test_no_requests_no_drafts(proposer) -> None:
    """An empty batch is fine."""
    assert [] == proposer.propose([])


def test_the_request_is_left_as_it_was(proposer) -> None:
    """The token list is the engine's own."""
    tokens = list(TEXT)
    proposer.propose([DraftRequest("a", tokens, 4)])

    assert TEXT == tokens


def test_a_forgotten_request_can_begin_anew(name, proposer) -> None:
    """An id that returns is another request; forgetting an unknown one is fine."""
    proposer.forget("never seen")
    proposer.propose([DraftRequest("a", TEXT, 4)])
    proposer.forget("a")

    fresh = make(name)
    other = [9, 8, 7, 9, 8]
    assert fresh.propose([DraftRequest("a", other, 4)]) == proposer.propose([DraftRequest("a", other, 4)])
