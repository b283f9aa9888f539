"""Which rows a step computes, as tensors on the model's device: for the runner, and for the loader's checks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from outrider.engine.config import BLOCK_SIZE
from outrider.kernels.paged_attention import AttentionBatch, TreeMask
from outrider.kernels.tiles import Tiles, tile_rows
from outrider.speculative.tree import TokenTree


def from_list(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """An int64 tensor of them; by way of numpy, which takes half as long as torch."""
    tensor = torch.from_numpy(np.array(numbers, dtype=np.int64))
    return tensor if device.type == "cpu" else tensor.to(device)


def make_batch(
    block_ids: Sequence[Sequence[int]],
    spans: Sequence[range],
    device: torch.device,
    tile_size: int,
    trees: Sequence[TokenTree] = (),
) -> tuple[AttentionBatch, torch.Tensor]:
    """The batch of some places of several sequences, and the positions of their tokens, (num_rows,) int64.

    Args:
        block_ids: of each sequence
        spans: which of its places are computed
        device: of the tensors
        tile_size: most neighbouring rows that a GPU attends to together, where there are any
        trees: of each sequence the nodes that its last places hold; none for places that hold text alone
    """
    lengths = np.array([len(span) for span in spans])
    row_sequence = np.repeat(np.arange(len(spans), dtype=np.int32), lengths)
    # A span's places go on from its first, wherever its rows lie among the others.
    places = np.arange(len(row_sequence)) + np.repeat(
        [span.start for span in spans] - lengths.cumsum() + lengths, lengths
    )
    table = np.zeros((len(block_ids), max(map(len, block_ids))), dtype=np.int32)
    for index, mine in enumerate(block_ids):
        table[index, : len(mine)] = mine
    position, tree = places, None
    if not all(one.is_chain for one in trees):
        position = places.copy()
        tree = _mask(spans, trees, position)
    batch = AttentionBatch(
        block_table=torch.from_numpy(table),
        row_sequence=torch.from_numpy(row_sequence),
        row_position=torch.from_numpy(position.astype(np.int32)),
        write_block=torch.from_numpy(table[row_sequence, places // BLOCK_SIZE].astype(np.int64)),
        write_offset=torch.from_numpy(places % BLOCK_SIZE),
        tree=tree,
    )
    if device.type == "cpu":
        return batch, torch.from_numpy(position)
    counts: list[int] = lengths.tolist()
    tiles = tile_rows(counts, tile_size if max(counts) > 1 else 1)
    on_device = AttentionBatch(
        block_table=batch.block_table.to(device),
        row_sequence=batch.row_sequence.to(device),
        row_position=batch.row_position.to(device),
        write_block=batch.write_block.to(device),
        write_offset=batch.write_offset.to(device),
        tree=None if tree is None else TreeMask(tree.first.to(device), tree.ancestors.to(device)),
        tiles=Tiles(tiles.first_row.to(device), tiles.num_rows.to(device), tiles.max_rows),
    )
    return on_device, torch.from_numpy(position).to(device)


def _mask(
    spans: Sequence[range], trees: Sequence[TokenTree], positions: np.ndarray[Any, np.dtype[np.int64]]
) -> TreeMask:
    """What the rows see; the positions of nodes become those of their depths."""
    first = positions.astype(np.int32)
    ancestors = np.ones(len(positions), dtype=np.uint64)
    row = 0
    for span, tree in zip(spans, trees, strict=True):
        row += len(span)
        if tree:
            begin, place = row - len(tree), span.stop - len(tree)
            first[begin:row] = place
            ancestors[begin:row] = tree.ancestors
            positions[begin:row] = [place + len(path) - 1 for path in tree.paths]
    # The highest bit of 64 is the sign.
    return TreeMask(torch.from_numpy(first), torch.from_numpy(ancestors.view(np.int64)))
