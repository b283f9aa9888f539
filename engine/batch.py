"""Which rows a step computes, as tensors on the model's device: for the runner, and for the loader's checks."""

from collections.abc import Sequence

import torch

from outrider.engine.config import BLOCK_SIZE
from outrider.kernels.paged_attention import AttentionBatch
from outrider.kernels.tiles import Tiles, tile_rows


def make_batch(
    block_ids: Sequence[Sequence[int]], spans: Sequence[range], device: torch.device, tile_size: int
) -> tuple[AttentionBatch, torch.Tensor]:
    """The batch of some positions of several sequences, and those positions, (num_rows,) int64.

    Args:
        block_ids: of each sequence
        spans: which of its positions are computed
        device: of the tensors
        tile_size: most neighbouring rows that a GPU attends to together, where there are any
    """
    positions: list[int] = []
    row_sequence: list[int] = []
    write_block: list[int] = []
    for index, (mine, span) in enumerate(zip(block_ids, spans, strict=True)):
        positions += span
        row_sequence += [index] * len(span)
        write_block += [mine[position // BLOCK_SIZE] for position in span]
    table = torch.zeros(len(block_ids), max(map(len, block_ids)), dtype=torch.int32)
    for index, mine in enumerate(block_ids):
        table[index, : len(mine)] = torch.tensor(mine, dtype=torch.int32)
    position = torch.tensor(positions)
    batch = AttentionBatch(
        block_table=table,
        row_sequence=torch.tensor(row_sequence, dtype=torch.int32),
        row_position=position.int(),
        write_block=torch.tensor(write_block),
        write_offset=position % BLOCK_SIZE,
    )
    if device.type == "cpu":
        return batch, position
    counts = [len(span) for span in spans]
    tiles = tile_rows(counts, tile_size if max(counts) > 1 else 1)
    on_device = AttentionBatch(
        block_table=batch.block_table.to(device),
        row_sequence=batch.row_sequence.to(device),
        row_position=batch.row_position.to(device),
        write_block=batch.write_block.to(device),
        write_offset=batch.write_offset.to(device),
        tiles=Tiles(tiles.first_row.to(device), tiles.num_rows.to(device), tiles.max_rows),
    )
    return on_device, position.to(device)
