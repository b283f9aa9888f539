"""Paged attention: the C kernel against the definition, and the promise that a row does not depend on its batch."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    TreeMask,
    allocate_kv,
    paged_attention,
    paged_attention_reference,
    write_kv,
)

# Relative to values of one and more: in bfloat16 neighbouring numbers are 0.4 to 0.8 % apart.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2}


def make_inputs(lengths, num_new, num_heads, num_kv_heads, head_dim, block_size, dtype, seed=0):
    """Sequences of these lengths whose last `num_new` tokens are the rows; blocks scattered over a larger cache."""
    generator = torch.Generator().manual_seed(seed)
    blocks_per = [-(-length // block_size) for length in lengths]
    num_blocks = sum(blocks_per) + 3
    order = torch.randperm(num_blocks, generator=generator).int()
    table = torch.zeros(len(lengths), max(blocks_per), dtype=torch.int32)
    taken = 0
    for index, count in enumerate(blocks_per):
        table[index, :count] = order[taken : taken + count]
        taken += count
    row_sequence = [index for index, count in enumerate(num_new) for _ in range(count)]
    row_position = [p for length, count in zip(lengths, num_new, strict=True) for p in range(length - count, length)]
    unused = torch.zeros(len(row_sequence), dtype=torch.int64)
    batch = AttentionBatch(table, torch.tensor(row_sequence).int(), torch.tensor(row_position).int(), unused, unused)
    query = torch.randn(len(row_sequence), num_heads, head_dim, generator=generator).to(dtype)
    key_cache, value_cache = allocate_kv(num_blocks, num_kv_heads, block_size, head_dim, dtype)
    key_cache.copy_(torch.randn(key_cache.shape, generator=generator))
    value_cache.copy_(torch.randn(value_cache.shape, generator=generator))
    return query, key_cache, value_cache, batch


@settings(max_examples=40)
@given(data=st.data())
def test_the_kernel_agrees_with_the_definition(data) -> None:
    """Random ragged batches, head counts and lengths around the block's edges."""
    block_size = data.draw(st.sampled_from([16, 32, 64]))  # the kernel takes multiples of 32
    edges = st.sampled_from([1, block_size - 1, block_size, block_size + 1, 3 * block_size + 5])
    lengths = data.draw(st.lists(edges, min_size=1, max_size=4))
    num_new = [data.draw(st.integers(1, length)) for length in lengths]
    num_kv_heads, group = data.draw(st.sampled_from([1, 3])), data.draw(st.sampled_from([1, 2, 5]))
    head_dim, dtype = data.draw(st.sampled_from([16, 64, 80, 128])), data.draw(st.sampled_from(list(TOLERANCE)))
    inputs = make_inputs(lengths, num_new, num_kv_heads * group, num_kv_heads, head_dim, block_size, dtype)

    options = AttentionOptions(
        scale=head_dim**-0.5,
        window=data.draw(st.sampled_from([None, 1, block_size - 1, block_size + 3])),
        softcap=data.draw(st.sampled_from([None, 1.5, 50.0])),
        sinks=data.draw(st.sampled_from([None, torch.linspace(-2, 4, num_kv_heads * group)])),
    )
    actual = paged_attention(*inputs, options)

    expected = paged_attention_reference(*inputs, options)
    error = (actual.float() - expected.float()).abs() / expected.float().abs().clamp(min=1.0)
    assert error.max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(dtype) -> None:
    """Prefill in one piece, token by token, or among strangers: not one bit changes."""
    query, key_cache, value_cache, batch = make_inputs([70, 33, 5], [70, 1, 5], 6, 2, 64, 32, dtype)
    together = paged_attention(query, key_cache, value_cache, batch, AttentionOptions(0.125))

    for row in range(len(query)):
        one = slice(row, row + 1)
        alone = AttentionBatch(
            batch.block_table,
            batch.row_sequence[one],
            batch.row_position[one],
            batch.write_block[one],
            batch.write_offset[one],
        )

        assert torch.equal(
            paged_attention(query[one], key_cache, value_cache, alone, AttentionOptions(0.125)), together[one]
        )


def draw_tree(data, num_nodes: int) -> list[list[int]]:
    """Each node's branch, from the root to itself; parents come before their children."""
    branches: list[list[int]] = []
    for node in range(num_nodes):
        parent = data.draw(st.integers(-1, node - 1))
        branches.append([*(branches[parent] if parent >= 0 else []), node])
    return branches


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_node_of_a_tree_has_the_bits_of_its_branch_alone(data) -> None:
    """Whatever lies between its ancestors in the cache: as if the branch were all there is, behind the text before."""
    dtype, window = data.draw(st.sampled_from(list(TOLERANCE))), data.draw(st.sampled_from([None, 70]))
    options = AttentionOptions(0.25, window=window, softcap=data.draw(st.sampled_from([None, 5.0])))
    text, num_nodes = data.draw(st.sampled_from([0, 1, 31, 32, 40, 150])), data.draw(st.sampled_from([1, 2, 7, 40, 64]))
    inputs = make_inputs([text + num_nodes], [num_nodes], 4, 2, 16, 32, dtype, seed=data.draw(st.integers(0, 9)))
    query, key_cache, value_cache, batch = inputs
    branches = draw_tree(data, num_nodes)
    ancestors = torch.tensor([sum(1 << node for node in branch) for branch in branches], dtype=torch.uint64)
    tree = TreeMask(torch.full((num_nodes,), text, dtype=torch.int32), ancestors.view(torch.int64))
    depth = torch.tensor([len(branch) - 1 for branch in branches])
    nodes = dataclasses.replace(batch, row_position=(text + depth).int(), tree=tree)

    in_tree = paged_attention(query, key_cache, value_cache, nodes, options)

    expected = paged_attention_reference(query, key_cache, value_cache, nodes, options).float()
    assert ((in_tree.float() - expected).abs() / expected.abs().clamp(min=1)).max() <= TOLERANCE[dtype]
    pair = key_cache.shape[-1]
    for row in {0, num_nodes // 2, num_nodes - 1}:
        places = torch.tensor([*range(text), *(text + node for node in branches[row])])
        block, offset, position = batch.block_table[0, places // 32].long(), places % 32, torch.arange(len(places))
        table = torch.arange(-(-len(places) // 32), dtype=torch.int32)[None]
        alone = AttentionBatch(table, position.int()[-1:] * 0, position.int()[-1:], (position // 32), position % 32)
        caches = allocate_kv(table.shape[1], 2, 32, 16, dtype)
        keys = key_cache[block, :, :, offset].flatten(2)
        write_kv(keys, value_cache[block, :, offset // pair, :, offset % pair], *caches, alone)
        assert torch.equal(paged_attention(query[row : row + 1], *caches, alone, options)[0], in_tree[row])


def test_where_a_sequence_lies_in_the_cache_changes_nothing() -> None:
    """The reduction follows logical positions, not block ids."""
    query, key_cache, value_cache, batch = make_inputs([100], [3], 4, 2, 64, 32, torch.bfloat16)
    order = torch.randperm(len(key_cache), generator=torch.Generator().manual_seed(9))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    moved = AttentionBatch(
        place[batch.block_table.long()].int(),
        batch.row_sequence,
        batch.row_position,
        batch.write_block,
        batch.write_offset,
    )

    expected = paged_attention(query, key_cache, value_cache, batch, AttentionOptions(0.125))
    assert torch.equal(
        paged_attention(query, key_cache[order], value_cache[order], moved, AttentionOptions(0.125)), expected
    )


def test_keys_and_values_land_in_their_slots() -> None:
    """Each row's key and value are written to its block and offset, and nothing else is touched."""
    key_cache, value_cache = (cache.zero_() for cache in allocate_kv(4, 2, 16, 8, torch.bfloat16))
    key, value = torch.randn(2, 2, 8).bfloat16(), torch.randn(2, 2, 8).bfloat16()
    blocks, offsets = torch.tensor([3, 1]), torch.tensor([0, 15])
    nothing = torch.zeros(1, dtype=torch.int32)

    write_kv(key, value, key_cache, value_cache, AttentionBatch(nothing[None], nothing, nothing, blocks, offsets))

    assert torch.equal(key, key_cache[blocks, :, :, offsets].reshape(2, 2, 8))
    assert torch.equal(value, value_cache[blocks, :, offsets // 2, :, offsets % 2])
    assert key.abs().sum() == key_cache.abs().sum()


def test_a_query_of_another_dtype_than_the_cache_is_refused() -> None:
    """Wrong numbers are never returned in silence."""
    query, key_cache, value_cache, batch = make_inputs([4], [1], 2, 1, 16, 16, torch.float32)

    with pytest.raises(ValueError, match="paged_attention takes a query of the cache's dtype"):
        paged_attention(query.bfloat16(), key_cache, value_cache, batch, AttentionOptions(0.25))
