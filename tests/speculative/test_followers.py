"""Counts of what followed what."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.followers import MAX_TAIL, MIN_PROBABILITY, Followers
from outrider.speculative.proposer import Draft

TEXTS = st.lists(st.integers(0, 3), max_size=40)


def best_by_definition(text: list[int], max_tokens: int) -> tuple[list[int], float]:
    """Every tail followed to its end, over a text that is searched anew for each token."""

    def followers(tail: list[int]) -> list[int]:
        size = len(tail)
        return [text[at] for at in range(size, len(text)) if text[at - size : at] == tail] if tail else []

    best: tuple[list[int], float] = [], 0.0
    for length in range(min(MAX_TAIL, len(text)), 0, -1):
        tail, path, probability, expected = text[-length:], [], 1.0, 0.0
        if not followers(tail):
            continue
        while len(path) < max_tokens:
            while tail and not followers(tail):
                tail = tail[1:]
            found = followers(tail)
            if not found:
                break
            token_id = max(dict.fromkeys(found), key=found.count)
            share = found.count(token_id) / len(found)
            if share < MIN_PROBABILITY:
                break
            probability *= share
            expected += probability
            path.append(token_id)
            tail = [*tail, token_id][-MAX_TAIL:]
        if expected > best[1] + 1e-9:
            best = path, expected
    return best


@given(TEXTS, st.integers(1, 6))
def test_what_is_offered_is_what_a_search_of_the_text_finds(text, max_tokens) -> None:
    """Paths that cannot be the best are not followed, and none is missed."""
    followers = Followers()
    followers.add(text, range(len(text)))
    draft, expected = followers.best(text, max_tokens)
    path, wanted = best_by_definition(text, max_tokens)

    assert abs(expected - wanted) < 1e-9
    assert len(draft.token_ids) == len(path) == len(draft.scores)
    assert list(draft.token_ids[:1]) == path[:1]


@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_what_is_taken_back_was_never_there(texts, data) -> None:
    """Any places of any texts."""
    kept = [data.draw(st.sets(st.integers(0, max(0, len(text) - 1)))) for text in texts]
    both, fresh = Followers(), Followers()
    for text in texts:
        both.add(text, range(len(text)))
    for text, places in zip(texts, kept, strict=True):
        for place in range(len(text)):
            if place in places:
                fresh.add(text, range(place, place + 1))
            else:
                both.best(text, 4)
                both.remove(text, range(place, place + 1))

    assert both._counts == fresh._counts
    for text in texts:
        assert both.best(text, 1)[1] == fresh.best(text, 1)[1]


def test_nothing_is_offered_of_no_text() -> None:
    """Nor behind a tail that was never followed."""
    followers = Followers()
    assert (Draft(), 0.0) == followers.best([1, 2], 4)
    followers.add([1, 2], range(2))
    assert (Draft(), 0.0) == followers.best([1, 2], 4)
