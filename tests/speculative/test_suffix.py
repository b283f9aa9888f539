"""Drafts from how often something followed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.followers import MIN_PROBABILITY
from outrider.speculative.proposer import DraftRequest
from outrider.speculative.suffix import MAX_TENANTS, READ_AT_ONCE, SuffixProposer


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


def answer(proposer: SuffixProposer, name: str, text: list[int], tenant: str = "", num_prompt_tokens: int = 2) -> None:
    """A request that says the text behind its first tokens, and ends."""
    growing = text[:num_prompt_tokens]
    for token_id in text[num_prompt_tokens:]:
        proposer.propose([DraftRequest(name, growing, 4, num_prompt_tokens, tenant=tenant)])
        growing.append(token_id)
    proposer.forget(name)


def ask(proposer: SuffixProposer, name: str, text: list[int], tenant: str = "") -> tuple[int, ...]:
    (draft,) = proposer.propose([DraftRequest(name, text, 4, len(text), tenant=tenant)])
    return draft.token_ids


def test_what_an_answer_said_is_offered_to_the_next_request() -> None:
    """To its end, though the request has ended; only where that is wanted."""
    for is_shared in (True, False):
        proposer = SuffixProposer(is_shared=is_shared)
        answer(proposer, "a", [1, 2, 3, 4, 5, 6, 7, 8])

        assert ask(proposer, "b", [9, 9, 4, 5]) == ((6, 7, 8) if is_shared else ())


def test_a_running_answer_is_learned_from_as_well() -> None:
    """As far as it has come."""
    proposer, running = SuffixProposer(is_shared=True), [1, 2, 3, 4, 5]
    requests = [DraftRequest("a", running, 4, 1), DraftRequest("b", [7, 2, 3], 4, 3)]

    assert [draft.token_ids for draft in proposer.propose(requests)] == [(), (4, 5)]


def test_the_better_of_own_and_shared_text_is_offered() -> None:
    """By how many tokens are expected to be accepted; the own one where both promise the same."""
    proposer = SuffixProposer(is_shared=True)
    answer(proposer, "a", [1, 2, 3, 4, 5, 6])

    assert ask(proposer, "b", [3, 4, 8, 3, 4]) == (8, 3, 4, 8)
    assert ask(proposer, "c", [8, 7, 3, 4, 8, 7, 3, 9, 8, 7, 3]) == (4, 5, 6)
    assert ask(proposer, "d", [4, 9, 4, 7, 0, 3, 4]) == (9, 4, 7, 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 5), min_size=1, max_size=12)), max_size=12))
def test_tenants_never_see_what_another_has_said(texts) -> None:
    """What is offered to one is what would be offered if there were no others; each has tokens of its own."""
    together, alone = SuffixProposer(is_shared=True), [SuffixProposer(is_shared=True) for _ in range(3)]
    for number, (tenant, text) in enumerate(texts):
        for proposer in (together, alone[tenant]):
            answer(proposer, f"r{number}", text, f"t{tenant}", num_prompt_tokens=1)
        for one in range(3):
            expected = alone[one].propose([DraftRequest("ask", text[:2], 4, 1, tenant=f"t{one}")])
            assert expected == together.propose([DraftRequest(f"ask{one}", text[:2], 4, 1, tenant=f"t{one}")])
            alone[one].forget("ask")
            together.forget(f"ask{one}")


def test_tenants_that_asked_longest_ago_are_forgotten() -> None:
    """So memory is bounded; a request that outlives its tenant's answers is learned from again."""
    proposer = SuffixProposer(is_shared=True)
    answer(proposer, "old", [1, 2, 3, 4, 5], "t")
    running = [7, 8, 9, 10]
    proposer.propose([DraftRequest("running", running, 4, 1, tenant="t")])
    for number in range(MAX_TENANTS):
        answer(proposer, "a", [1, 2, 3], str(number))
    assert len(proposer._tenants) == MAX_TENANTS

    proposer.propose([DraftRequest("running", running, 4, 1, tenant="t")])
    assert ask(proposer, "b", [0, 2, 3], "t") == ()
    assert ask(proposer, "b", [0, 8], "t") == (9, 10)
    assert set(proposer._tenants) == {"t", *map(str, range(1, MAX_TENANTS))}


@pytest.mark.parametrize("num_requests", [1, 3])
def test_a_step_learns_no_more_than_so_many_tokens(num_requests) -> None:
    """Of all requests together; the rest comes later."""
    proposer = SuffixProposer(is_shared=True)
    texts = [[*range(1000 * number, 1000 * number + READ_AT_ONCE)] for number in range(num_requests)]
    requests = [DraftRequest(str(number), text, 1, 0) for number, text in enumerate(texts)]
    for steps in range(1, num_requests + 1):
        proposer.propose(requests)
        assert proposer._tenants[""]._num_tokens == steps * READ_AT_ONCE
