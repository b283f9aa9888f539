"""Tiles cover every row once and cross no sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.kernels.tiles import prefill_tile_size, tile_rows


def test_rows_are_cut_within_their_sequences() -> None:
    """A sequence's last tile is as short as it must be."""
    tiles = tile_rows([5, 1, 0, 4], 2)

    assert [0, 2, 4, 5, 6, 8] == tiles.first_row.tolist()
    assert [2, 2, 1, 1, 2, 2] == tiles.num_rows.tolist()
    assert tiles.max_rows == 2


@given(counts=st.lists(st.integers(0, 40), max_size=5), max_rows=st.integers(1, 20))
def test_every_row_is_in_one_tile(counts, max_rows) -> None:
    """Neighbouring tiles meet, none is empty or too large, and none crosses a sequence."""
    tiles = tile_rows(counts, max_rows)
    spans = [
        range(first, first + num) for first, num in zip(tiles.first_row.tolist(), tiles.num_rows.tolist(), strict=True)
    ]

    assert [row for span in spans for row in span] == list(range(sum(counts)))
    assert all(0 < len(span) <= max_rows for span in spans)
    owner = [index for index, count in enumerate(counts) for _ in range(count)]
    assert all(owner[span[0]] == owner[span[-1]] for span in spans)


def test_a_tile_has_a_row() -> None:
    """Tiles of no rows would never end."""
    with pytest.raises(ValueError, match="at least one row, not 0"):
        tile_rows([1], 0)


@pytest.mark.parametrize(("num_heads", "num_kv_heads", "expected"), [(32, 8, 16), (15, 3, 12), (71, 1, 1), (4, 4, 64)])
def test_a_prompts_tile_fills_a_matrix_product(num_heads, num_kv_heads, expected) -> None:
    """64 rows of query heads, as far as a group divides them."""
    assert expected == prefill_tile_size(num_heads, num_kv_heads)
