"""GPU attention against the definition, and the promise that a row does not depend on its batch."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.gpu.attention import paged_attention_triton
from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    KvCache,
    TreeMask,
    allocate_kv_rows,
    paged_attention,
    paged_attention_reference,
    write_kv,
)
from outrider.kernels.tiles import tile_rows

# Relative to values of one and more. The interpreter cuts bfloat16 off instead of rounding: up to one place more.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}
SPLIT = 64  # short, so that short sequences have several
IN_PARTS, AT_ONCE = 1 << 40, 0  # bytes of workspace: each split by a program of its own, or all by one


def make_inputs(lengths, num_new, num_heads, num_kv_heads, head_dim, block_size, dtype, tree=False, seed=0):
    """Sequences of these lengths whose last `num_new` tokens are the rows, written to scattered blocks.

    Whatever belongs to no sequence is nan. With `tree` a sequence's rows are the nodes of a random tree.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks_per = [-(-length // block_size) for length in lengths]
    order = torch.randperm(sum(blocks_per) + 3, generator=generator).int()
    table = order[-1].repeat(len(lengths), max(blocks_per) + 1)
    rows = [(index, p) for index, length in enumerate(lengths) for p in range(length)]
    for index, ids in enumerate(order[: sum(blocks_per)].split(blocks_per)):
        table[index, : len(ids)] = ids
    sequence, place = torch.tensor(rows, dtype=torch.int32).unbind(1)
    blocks = table[sequence.long(), place.long() // block_size].long()
    everything = AttentionBatch(table, sequence, place, blocks, place.long() % block_size)
    cache = allocate_kv_rows(len(order), num_kv_heads, block_size, head_dim, dtype)
    key, value = torch.randn(2, len(rows), num_kv_heads, head_dim, generator=generator).to(dtype)
    for empty in (cache.keys, cache.values):
        empty.fill_(float("nan"))
    write_kv(key, value, cache, everything)

    counts = zip(lengths, num_new, strict=True)
    kept = [p >= length - count for length, count in counts for p in range(length)]
    batch = take(dataclasses.replace(everything, tree=random_tree(lengths, num_new, generator)), torch.tensor(kept))
    if tree:
        depth = torch.tensor([int(bits).bit_count() - 1 for bits in batch.tree.ancestors.tolist()])
        batch = dataclasses.replace(batch, row_position=(batch.tree.first + depth).int())
    else:
        batch = dataclasses.replace(batch, tree=None)
    query = torch.randn(sum(num_new), num_heads, head_dim, generator=generator).to(dtype)
    return query, cache.keys, cache.values, batch


def random_tree(lengths, num_new, generator):
    """Each new token becomes a child of a random earlier one; the tokens before them are no rows."""
    first, ancestors = [], []
    for length, count in zip(lengths, num_new, strict=True):
        nodes = [1]
        for node in range(1, count):
            parent = int(torch.randint(node, (), generator=generator))
            nodes.append(nodes[parent] | 1 << node)
        first += [length - count] * length
        ancestors += [1] * (length - count) + nodes
    signed = [bits - (1 << 64) if bits >> 63 else bits for bits in ancestors]
    return TreeMask(torch.tensor(first).int(), torch.tensor(signed))


def take(batch, rows):
    """The batch of these rows alone, without tiles."""
    tree = batch.tree and TreeMask(batch.tree.first[rows], batch.tree.ancestors[rows])
    names = ("row_sequence", "row_position", "write_block", "write_offset")
    chosen = {name: getattr(batch, name)[rows] for name in names}
    return dataclasses.replace(batch, **chosen, tree=tree, tiles=None)


def error_of(actual, expected):
    return ((actual.float() - expected.float()).abs() / expected.float().abs().clamp(min=1.0)).max()


@settings(max_examples=15)
@given(data=st.data())
def test_the_kernel_agrees_with_the_definition(data) -> None:
    """Random ragged batches, options and trees, lengths around the edges of blocks and splits; all rows are written."""
    block_size = data.draw(st.sampled_from([16, 32, 48]))
    edges = st.sampled_from([1, block_size - 1, block_size, block_size + 1, SPLIT, 2 * SPLIT + 5])
    lengths = data.draw(st.lists(edges, min_size=1, max_size=3))
    num_new = [data.draw(st.integers(1, min(length, 7))) for length in lengths]
    num_kv_heads, group = data.draw(st.sampled_from([(1, 1), (1, 5), (2, 3), (3, 1)]))
    head_dim, dtype = data.draw(st.sampled_from([8, 16, 24, 64])), data.draw(st.sampled_from(list(TOLERANCE)))
    tree = data.draw(st.booleans())
    inputs = make_inputs(lengths, num_new, num_kv_heads * group, num_kv_heads, head_dim, block_size, dtype, tree)
    query, key_cache, value_cache, batch = inputs
    options = AttentionOptions(
        scale=head_dim**-0.5,
        window=data.draw(st.sampled_from([None, 1, block_size - 1, SPLIT + 3])),
        softcap=data.draw(st.sampled_from([None, 1.5, 50.0])),
        sinks=data.draw(st.sampled_from([None, torch.linspace(-2, 4, num_kv_heads * group)])),
    )
    tiles = data.draw(st.sampled_from([None, 1, 3, 16]))
    tiled = dataclasses.replace(batch, tiles=tiles and tile_rows(num_new, tiles))
    workspace = data.draw(st.sampled_from([IN_PARTS, AT_ONCE]))
    out = torch.full_like(query, float("nan"))

    actual = paged_attention_triton(
        query, key_cache, value_cache, tiled, options, out=out, split=SPLIT, workspace=workspace
    )

    expected = paged_attention_reference(
        query, KvCache(key_cache.nan_to_num(), value_cache.nan_to_num()), batch, options
    )
    assert actual is out
    assert error_of(actual, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(dtype) -> None:
    """Not one bit follows the tile, the neighbours, the width of the block table or who walks the splits."""
    num_new = [9, 1, 3]
    query, *caches, batch = make_inputs([2 * SPLIT + 9, 33, 5], num_new, 6, 2, 16, 16, dtype)
    options = AttentionOptions(0.25, window=SPLIT + 9, sinks=torch.linspace(-1, 1, 6))
    tiled = dataclasses.replace(batch, tiles=tile_rows(num_new, 4))
    together = paged_attention_triton(query, *caches, tiled, options, split=SPLIT, workspace=AT_ONCE)

    assert torch.equal(together, paged_attention_triton(query, *caches, tiled, options, split=SPLIT))
    for row in (0, 8, 9, 12):
        alone = take(batch, slice(row, row + 1))
        narrow = dataclasses.replace(alone, block_table=batch.block_table[:, : int(alone.row_position) // 16 + 1])
        for one in (alone, narrow):
            assert torch.equal(
                together[row : row + 1],
                paged_attention_triton(query[row : row + 1], *caches, one, options, split=SPLIT),
            )


def test_a_long_sequence_agrees_with_the_definition() -> None:
    """The splits that are served, each of many steps."""
    query, key_cache, value_cache, batch = make_inputs([1100], [2], 2, 1, 16, 32, torch.float32)

    actual = paged_attention_triton(query, key_cache, value_cache, batch, AttentionOptions(0.25))

    expected = paged_attention_reference(
        query, KvCache(key_cache.nan_to_num(), value_cache.nan_to_num()), batch, AttentionOptions(0.25)
    )
    assert error_of(actual, expected) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("workspace", [IN_PARTS, AT_ONCE])
def test_padding_is_left_alone(workspace) -> None:
    """Tiles without rows do nothing, whatever their first row and the rows behind the last tile hold."""
    query, *caches, batch = make_inputs([SPLIT + 1, 4], [2, 1], 2, 1, 16, 16, torch.float32)
    tiles = tile_rows([2, 1], 2)
    expected = paged_attention_triton(query, *caches, batch, AttentionOptions(0.25), split=SPLIT)
    padding = torch.tensor([1 << 30, 0], dtype=torch.int32)
    wild = torch.full((2,), 1 << 30, dtype=torch.int32)
    padded = dataclasses.replace(
        batch,
        row_sequence=torch.cat((batch.row_sequence, wild)),
        row_position=torch.cat((batch.row_position, wild)),
        tiles=dataclasses.replace(
            tiles,
            first_row=torch.cat((tiles.first_row, padding)),
            num_rows=torch.cat((tiles.num_rows, torch.zeros_like(padding))),
        ),
    )
    query = torch.cat((query, torch.full_like(query[:2], float("nan"))))
    out = torch.full_like(query, 7.0)

    paged_attention_triton(query, *caches, padded, AttentionOptions(0.25), out=out, split=SPLIT, workspace=workspace)

    assert torch.equal(out[:3], expected)
    assert bool((out[3:] == 7.0).all())


def test_a_chain_is_a_tree_without_branches() -> None:
    """Both masks are one: a node sees what came before it."""
    query, *caches, batch = make_inputs([40], [5], 2, 1, 16, 16, torch.float32)
    options = AttentionOptions(0.25, window=11)
    nodes = torch.arange(5)
    chain = dataclasses.replace(batch, tree=TreeMask(torch.full((5,), 35).int(), (2 << nodes) - 1))

    expected = paged_attention_triton(query, *caches, batch, options)
    assert torch.equal(expected, paged_attention_triton(query, *caches, chain, options))


def test_ancestors_are_in_every_window() -> None:
    """A window shorter than a branch hides the text before the tree, and nothing of the branch."""
    query, key_cache, value_cache, batch = make_inputs([40], [5], 2, 1, 16, 16, torch.float32)
    options = AttentionOptions(0.25, window=2)
    chain = TreeMask(torch.full((5,), 35).int(), (2 << torch.arange(5)) - 1)
    batch = dataclasses.replace(batch, tree=chain)

    actual = paged_attention_triton(query, key_cache, value_cache, batch, options)

    expected = paged_attention_reference(
        query, KvCache(key_cache.nan_to_num(), value_cache.nan_to_num()), batch, options
    )
    assert error_of(actual, expected) <= TOLERANCE[torch.float32]


def test_the_largest_tree_is_seen() -> None:
    """The 64th node's bit is the sign of its number."""
    query, key_cache, value_cache, batch = make_inputs([70], [64], 1, 1, 16, 16, torch.float32)
    nodes = [1 | 1 << node if node < 63 else 1 - (1 << 63) for node in range(64)]
    star = TreeMask(torch.full((64,), 6).int(), torch.tensor(nodes))
    batch = dataclasses.replace(batch, tree=star, tiles=tile_rows([64], 64))

    actual = paged_attention_triton(query, key_cache, value_cache, batch, AttentionOptions(0.25))

    cpu_cache = KvCache(key_cache.nan_to_num(), value_cache.nan_to_num())
    assert error_of(actual, paged_attention(query, cpu_cache, batch, AttentionOptions(0.25))) <= 3e-6


@pytest.mark.parametrize(
    ("num_heads", "block_size", "dtype", "message"),
    [
        (2, 16, torch.float64, "paged_attention takes one dtype"),
        (3, 16, torch.float32, "a multiple of 2 query heads, not 3"),
        (2, 24, torch.float32, "blocks of a multiple of 16 places, not 24"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused(num_heads, block_size, dtype, message) -> None:
    """Wrong numbers are never returned in silence."""
    inputs = make_inputs([4], [1], num_heads, 2, 16, block_size, dtype)

    with pytest.raises(ValueError, match=message):
        paged_attention_triton(*inputs, AttentionOptions(0.25))
