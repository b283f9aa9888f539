"""Text from tokens, piece by piece."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.engine.detokenizer import Detokenizer, StopStrings


def decode_bytes(token_ids) -> str:
    """A tokenizer whose tokens are bytes: the hardest case for characters of several bytes."""
    return bytes(token_ids).decode(errors="replace")


def pieces_of(token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(decode_bytes)
    return [*(detokenizer.add(token_id) for token_id in token_ids), detokenizer.finish()]


@given(st.text(max_size=50))
def test_the_pieces_joined_are_the_text(text) -> None:
    """Byte-exact for any text, and no piece holds a broken character."""
    pieces = pieces_of(list(text.encode()))

    assert text == "".join(pieces)
    assert ("\ufffd" in text) or not any("\ufffd" in piece for piece in pieces)


@given(st.binary(max_size=40))
def test_any_bytes_end_as_the_whole_decoded(data) -> None:
    """Bytes that are no UTF-8 come out as decoding the whole would show them."""
    assert decode_bytes(data) == "".join(pieces_of(list(data)))


@given(st.binary(max_size=40), st.lists(st.integers(1, 7), min_size=40, max_size=40))
def test_tokens_added_together_give_the_same_text(data, sizes) -> None:
    """However many come at once, and where a group ends inside a character."""
    detokenizer, left, pieces = Detokenizer(decode_bytes), list(data), []
    for size in sizes:
        pieces.append(detokenizer.add_all(left[:size]))
        left = left[size:]

    assert decode_bytes(data) == "".join([*pieces, detokenizer.finish()])


def test_a_character_shows_when_its_last_byte_arrives() -> None:
    """Streams never show half a character."""
    assert ["", "", "", "\N{GRINNING FACE}", ""] == pieces_of(list("\N{GRINNING FACE}".encode()))


def test_a_text_that_ends_in_half_a_character_says_so() -> None:
    """The replacement character comes at the end and not before."""
    assert ["a", "", "\ufffd"] == pieces_of([97, 0xE2])


def cut(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    """All that is shown of the pieces, and whether a stop string ended them."""
    checker = StopStrings(stops)
    shown = []
    for piece in pieces:
        text, is_stopped = checker.add(piece)
        shown.append(text)
        if is_stopped:
            return shown, True
    return [*shown, checker.finish()], False


def test_a_stop_string_over_several_pieces_is_cut_exactly() -> None:
    """Not one character of it is shown."""
    assert (["ab", "", ""], True) == cut(["abS", "TO", "Pcd"], ["STOP"])


def test_what_only_began_like_a_stop_string_is_shown_in_the_end() -> None:
    """Nothing is lost."""
    assert (["ab", "", "STOab", "ST"], False) == cut(["abS", "TO", "abST"], ["STOP"])


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_any_cutting_equals_cutting_the_whole(text, stops, data) -> None:
    """Where the pieces end changes nothing about what is shown."""
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    shown, is_stopped = cut(pieces, stops)

    assert bool(ends) == is_stopped
    if ends:  # cut where the first stop string to be complete begins
        begin = min(ends[0] - len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert "".join(shown) == text[:begin]
    else:
        assert "".join(shown) == text
