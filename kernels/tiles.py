"""Cuts the rows of a batch into tiles that cross no sequence: the pieces of work of attention on a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Tiles:
    """Runs of neighbouring rows, each of one sequence. A tile of no rows is padding and does nothing.

    `max_rows` is the most rows that a tile may have; it is known on the host, so that a launch reads no tensor.
    """

    first_row: torch.Tensor  # (num_tiles,) int32
    num_rows: torch.Tensor  # (num_tiles,) int32
    max_rows: int


def tile_rows(row_counts: Sequence[int], max_rows: int) -> Tiles:
    """Cuts neighbouring sequences with so many rows each into tiles of at most `max_rows`, on the CPU.

    Raises:
        ValueError: if `max_rows` is not positive.
    """
    if max_rows < 1:
        raise ValueError(f"tile_rows takes tiles of at least one row, not {max_rows}")
    first_row: list[int] = []
    num_rows: list[int] = []
    start = 0
    for count in row_counts:
        first_row += range(start, start + count, max_rows)
        num_rows += (min(max_rows, count - offset) for offset in range(0, count, max_rows))
        start += count
    return Tiles(torch.tensor(first_row, dtype=torch.int32), torch.tensor(num_rows, dtype=torch.int32), max_rows)


def prefill_tile_size(num_heads: int, num_kv_heads: int) -> int:
    """How many rows a tile of a long prompt best has: with a group's query heads they fill a GPU's matrix products."""
    return max(1, 64 * num_kv_heads // num_heads)
