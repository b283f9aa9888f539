"""Which rows a step computes, as tensors on the model's device: for the runner, and for the loader's checks."""

from collections.abc import Sequence

import torch

from outrider.engine.config import BLOCK_SIZE
from outrider.kernels.paged_attention import AttentionBatch, TreeMask
from outrider.kernels.tiles import Tiles, tile_rows
from outrider.speculative.tree import TokenTree


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
    positions: list[int] = []
    row_sequence: list[int] = []
    write_block: list[int] = []
    write_offset: list[int] = []
    for index, (mine, span) in enumerate(zip(block_ids, spans, strict=True)):
        positions += span
        row_sequence += [index] * len(span)
        write_block += [mine[place // BLOCK_SIZE] for place in span]
        write_offset += [place % BLOCK_SIZE for place in span]
    tree = None
    if not all(one.is_chain for one in trees):
        tree = _mask(spans, trees, positions)
    table = torch.zeros(len(block_ids), max(map(len, block_ids)), dtype=torch.int32)
    for index, mine in enumerate(block_ids):
        table[index, : len(mine)] = torch.tensor(mine, dtype=torch.int32)
    position = torch.tensor(positions)
    batch = AttentionBatch(
        block_table=table,
        row_sequence=torch.tensor(row_sequence, dtype=torch.int32),
        row_position=position.int(),
        write_block=torch.tensor(write_block),
        write_offset=torch.tensor(write_offset),
        tree=tree,
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
        tree=None if tree is None else TreeMask(tree.first.to(device), tree.ancestors.to(device)),
        tiles=Tiles(tiles.first_row.to(device), tiles.num_rows.to(device), tiles.max_rows),
    )
    return on_device, position.to(device)


def _mask(spans: Sequence[range], trees: Sequence[TokenTree], positions: list[int]) -> TreeMask:
    """What the rows see; the positions of nodes become those of their depths."""
    first = list(positions)
    ancestors = [1] * len(positions)
    row = 0
    for span, tree in zip(spans, trees, strict=True):
        row += len(span)
        begin, place = row - len(tree), span.stop - len(tree)
        first[begin:row] = [place] * len(tree)
        ancestors[begin:row] = tree.ancestors
        positions[begin:row] = [place + len(path) - 1 for path in tree.paths]
    # The highest bit of 64 is the sign.
    signed = [bits - (1 << 64) if bits >> 63 else bits for bits in ancestors]
    return TreeMask(torch.tensor(first, dtype=torch.int32), torch.tensor(signed))
