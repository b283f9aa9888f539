"""What is learned from the answers of one tenant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.speculative import answers
from outrider.speculative.answers import Answers, Reading
from outrider.speculative.followers import MAX_TAIL, Followers

KEPT = 30


@pytest.fixture(autouse=True)
def _keep_little(monkeypatch) -> None:
    monkeypatch.setattr(answers, "KEPT", KEPT)


@settings(max_examples=60)
@given(data=st.data())
def test_counts_are_those_of_the_newest_pieces_alone(data) -> None:
    """However answers grow beside one another, in whatever pieces they are read, ended or not."""
    known = Answers()
    texts = [data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=40)) for _ in range(3)]
    prompts = [data.draw(st.integers(0, len(text))) for text in texts]
    growing = [text[:prompt] for text, prompt in zip(texts, prompts, strict=True)]
    readings: list[Reading] = [known.begin(text, len(text)) for text in growing]
    pieces: list[tuple[int, range]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        which = data.draw(st.integers(0, 2))
        stop = data.draw(st.integers(len(growing[which]), len(texts[which])))
        growing[which].extend(texts[which][len(growing[which]) : stop])
        before, at_once = readings[which].num_read, data.draw(st.integers(1, 9))

        assert known.read(readings[which], at_once) == min(at_once, stop - before)
        if readings[which].num_read > before:
            pieces.append((which, range(before, readings[which].num_read)))
    while sum(len(places) for _, places in pieces) > KEPT:
        pieces.pop(0)

    fresh = Followers()
    for which, places in pieces:
        first = max(0, prompts[which] - MAX_TAIL)
        fresh.add(texts[which][first:], range(places.start - first, places.stop - first))
    assert known.followers._counts == fresh._counts


def test_what_an_ended_answer_has_not_told_yet_is_read_with_others() -> None:
    """And first, in no larger pieces."""
    known = Answers()
    ended, other = known.begin([1, 2, *range(10, 20)], 2), known.begin([5], 1)
    assert known.read(ended, 4) == 4
    known.end(ended)

    assert known.read(other, 4) == 4
    assert known.followers.best([16], 1)[0].token_ids == (17,)
    assert known.followers.best([17], 1)[0].token_ids == ()
    assert known.read(other, 4) == 2
    assert known.followers.best([17], 1)[0].token_ids == (18,)
    assert known.read(other, 4) == 0


def test_a_prompt_is_no_answer() -> None:
    """But what is behind it follows it."""
    known = Answers()
    assert known.read(known.begin([1, 2, 3, 4], 3), 100) == 1

    assert known.followers.best([1, 2], 1)[0].token_ids == ()
    assert known.followers.best([1, 2, 3], 1)[0].token_ids == (4,)
