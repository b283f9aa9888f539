"""Paged attention: the C kernel against the definition, and the promise that a row does not depend on its batch."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    KvCache,
    TreeMask,
    allocate_kv,
    paged_attention,
    paged_attention_reference,
    quantise,
    write_kv,
)

# Relative to values of one and more: in bfloat16 neighbouring numbers are 0.4 to 0.8 % apart.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2}

# Of queries and results, then of the cache.
DTYPES = [(dtype, kv_dtype) for dtype in TOLERANCE for kv_dtype in (dtype, torch.int8)]


def tolerance_of(dtypes) -> float:
    """With int8, queries and weights are rounded to 16 bits: measured 5e-4 at most, 1e-4 of the result as a whole."""
    return max(TOLERANCE[dtypes[0]], 1e-3 if dtypes[1] == torch.int8 else 0.0)


def make_inputs(lengths, num_new, num_heads, num_kv_heads, head_dim, block_size, dtypes, seed=0, factors=(1.0,)):
    """Sequences of these lengths whose last `num_new` tokens are the rows; blocks scattered over a larger cache.

    Each key and value is multiplied by one of the `factors`.
    """
    dtype, kv_dtype = dtypes
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
    cache = allocate_kv(num_blocks, num_kv_heads, block_size, head_dim, kv_dtype)
    slots = torch.arange(num_blocks * block_size)
    places = dataclasses.replace(batch, write_block=slots // block_size, write_offset=slots % block_size)
    shape = (len(slots), num_kv_heads, head_dim)
    factor = torch.tensor(factors)[torch.randint(len(factors), (2, *shape[:2], 1), generator=generator)]
    key, value = (torch.randn(2, *shape, generator=generator) * factor).to(dtype)
    write_kv(key, value, cache, places)
    return query, cache, batch


@settings(max_examples=40)
@given(data=st.data())
def test_the_kernel_agrees_with_the_definition(data) -> None:
    """Random ragged batches, head counts and lengths around the block's edges."""
    block_size = data.draw(st.sampled_from([16, 32, 64]))  # the kernel takes multiples of 32
    edges = st.sampled_from([1, block_size - 1, block_size, block_size + 1, 3 * block_size + 5])
    lengths = data.draw(st.lists(edges, min_size=1, max_size=4))
    num_new = [data.draw(st.integers(1, length)) for length in lengths]
    num_kv_heads, group = data.draw(st.sampled_from([1, 3])), data.draw(st.sampled_from([1, 2, 5]))
    head_dim, dtypes = data.draw(st.sampled_from([16, 64, 80, 128])), data.draw(st.sampled_from(DTYPES))
    inputs = make_inputs(lengths, num_new, num_kv_heads * group, num_kv_heads, head_dim, block_size, dtypes)

    options = AttentionOptions(
        scale=head_dim**-0.5,
        window=data.draw(st.sampled_from([None, 1, block_size - 1, block_size + 3])),
        softcap=data.draw(st.sampled_from([None, 1.5, 50.0])),
        sinks=data.draw(st.sampled_from([None, torch.linspace(-2, 4, num_kv_heads * group)])),
    )
    actual = paged_attention(*inputs, options)

    expected = paged_attention_reference(*inputs, options)
    error = (actual.float() - expected.float()).abs() / expected.float().abs().clamp(min=1.0)
    assert error.max() <= tolerance_of(dtypes)


@pytest.mark.parametrize("dtypes", DTYPES)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(dtypes) -> None:
    """Prefill in one piece, token by token, or among strangers: not one bit changes."""
    query, cache, batch = make_inputs([70, 33, 5], [70, 1, 5], 6, 2, 64, 32, dtypes)
    together = paged_attention(query, cache, batch, AttentionOptions(0.125))

    for row in range(len(query)):
        one = slice(row, row + 1)
        alone = AttentionBatch(
            batch.block_table,
            batch.row_sequence[one],
            batch.row_position[one],
            batch.write_block[one],
            batch.write_offset[one],
        )

        assert torch.equal(paged_attention(query[one], cache, alone, AttentionOptions(0.125)), together[one])


def copy_tokens(cache, block, offset, other, batch) -> None:
    """Copies tokens of one cache to the slots of another, bit for bit."""
    pair = cache.keys.shape[-1]
    keys = cache.keys[block, :, :, offset].flatten(2)
    write_kv(keys, cache.values[block, :, offset // pair, :, offset % pair], KvCache(other.keys, other.values), batch)
    if cache.key_scales is not None:
        other.key_scales[batch.write_block, :, batch.write_offset] = cache.key_scales[block, :, offset]
        other.value_scales[batch.write_block, :, batch.write_offset] = cache.value_scales[block, :, offset]


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
    dtypes, window = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from([None, 70]))
    options = AttentionOptions(0.25, window=window, softcap=data.draw(st.sampled_from([None, 5.0])))
    text, num_nodes = data.draw(st.sampled_from([0, 1, 31, 32, 40, 150])), data.draw(st.sampled_from([1, 2, 7, 40, 64]))
    seed = data.draw(st.integers(0, 9))
    query, cache, batch = make_inputs([text + num_nodes], [num_nodes], 4, 2, 16, 32, dtypes, seed)
    branches = draw_tree(data, num_nodes)
    ancestors = torch.tensor([sum(1 << node for node in branch) for branch in branches], dtype=torch.uint64)
    tree = TreeMask(torch.full((num_nodes,), text, dtype=torch.int32), ancestors.view(torch.int64))
    depth = torch.tensor([len(branch) - 1 for branch in branches])
    nodes = dataclasses.replace(batch, row_position=(text + depth).int(), tree=tree)

    in_tree = paged_attention(query, cache, nodes, options)

    expected = paged_attention_reference(query, cache, nodes, options).float()
    assert ((in_tree.float() - expected).abs() / expected.abs().clamp(min=1)).max() <= tolerance_of(dtypes)
    for row in {0, num_nodes // 2, num_nodes - 1}:
        places = torch.tensor([*range(text), *(text + node for node in branches[row])])
        block, offset, position = batch.block_table[0, places // 32].long(), places % 32, torch.arange(len(places))
        table = torch.arange(-(-len(places) // 32), dtype=torch.int32)[None]
        alone = AttentionBatch(table, position.int()[-1:] * 0, position.int()[-1:], (position // 32), position % 32)
        own = allocate_kv(table.shape[1], 2, 32, 16, dtypes[1])
        copy_tokens(cache, block, offset, own, alone)
        assert torch.equal(paged_attention(query[row : row + 1], own, alone, options)[0], in_tree[row])


@pytest.mark.parametrize("dtypes", DTYPES)
def test_every_number_of_the_result_is_written(dtypes, monkeypatch) -> None:
    """What the memory held before never shows."""
    inputs = make_inputs([70, 33, 5], [70, 1, 5], 5, 1, 80, 32, dtypes)
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))

    assert paged_attention(*inputs, AttentionOptions(0.125)).isfinite().all()


@pytest.mark.parametrize("dtypes", DTYPES)
def test_where_a_sequence_lies_in_the_cache_changes_nothing(dtypes) -> None:
    """The reduction follows logical positions, not block ids."""
    query, cache, batch = make_inputs([100], [3], 4, 2, 64, 32, dtypes)
    order = torch.randperm(len(cache.keys), generator=torch.Generator().manual_seed(9))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    moved = AttentionBatch(
        place[batch.block_table.long()].int(),
        batch.row_sequence,
        batch.row_position,
        batch.write_block,
        batch.write_offset,
    )

    other = allocate_kv(len(order), 2, 32, 64, dtypes[1])
    for name in ("keys", "values", "key_scales", "value_scales"):
        if getattr(cache, name) is not None:
            getattr(other, name).copy_(getattr(cache, name)[order])

    expected = paged_attention(query, cache, batch, AttentionOptions(0.125))
    assert torch.equal(paged_attention(query, other, moved, AttentionOptions(0.125)), expected)


def test_keys_and_values_land_in_their_slots() -> None:
    """Each row's key and value are written to its block and offset, and nothing else is touched."""
    cache = allocate_kv(4, 2, 16, 8, torch.bfloat16)
    key_cache, value_cache = cache.keys.zero_(), cache.values.zero_()
    key, value = torch.randn(2, 2, 8).bfloat16(), torch.randn(2, 2, 8).bfloat16()
    blocks, offsets = torch.tensor([3, 1]), torch.tensor([0, 15])
    nothing = torch.zeros(1, dtype=torch.int32)

    write_kv(key, value, cache, AttentionBatch(nothing[None], nothing, nothing, blocks, offsets))

    assert torch.equal(key, key_cache[blocks, :, :, offsets].reshape(2, 2, 8))
    assert torch.equal(value, value_cache[blocks, :, offsets // 2, :, offsets % 2])
    assert key.abs().sum() == key_cache.abs().sum()


def test_a_query_of_another_dtype_than_the_cache_is_refused() -> None:
    """Wrong numbers are never returned in silence."""
    query, cache, batch = make_inputs([4], [1], 2, 1, 16, 16, (torch.float32, torch.float32))

    with pytest.raises(ValueError, match="paged_attention takes a query of the cache's dtype"):
        paged_attention(query.bfloat16(), cache, batch, AttentionOptions(0.25))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_int8_is_off_by_half_a_step_of_its_vector(dtype) -> None:
    """Rounded to one of 255 numbers, whatever the vector's magnitude; zero and what is almost zero become zero."""
    x = torch.randn(7, 2, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    x *= torch.tensor([0.0, 1e-44, 1e-39, 1e-30, 1.0, 3e4, 7e37])[:, None, None].to(dtype)
    x[4, 0, :3] = torch.tensor([127.0, 2.5, -3.5])  # ties go to the even one

    integers, scales = quantise(x)

    assert integers.dtype == torch.int8
    assert scales.dtype == torch.float32
    assert not integers[:3].any()
    assert torch.equal(scales, x.abs().amax(-1).float() / 127)
    assert integers[3:].abs().amax(-1).eq(127).all()
    assert integers[4, 0, :3].tolist() == [127, 2, -4]
    off = (integers[3:].double() * scales[3:, :, None] - x[3:].double()).abs() / scales[3:, :, None]
    assert off.max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_int8_of_any_magnitude_agrees_with_the_definition(dtype) -> None:
    """Tokens of zeros, tiny and huge ones beside each other, behind one another and in a window."""
    query, cache, batch = make_inputs(
        [70, 97, 5], [70, 2, 5], 6, 2, 64, 32, (dtype, torch.int8), factors=(0.0, 1e-42, 1e-20, 1.0, 4.0)
    )
    for window in (None, 40):
        options = AttentionOptions(0.125, window=window)
        actual = paged_attention(query, cache, batch, options).float()
        expected = paged_attention_reference(query, cache, batch, options).float()
        assert ((actual - expected).abs() / expected.abs().clamp(min=4)).max() <= tolerance_of((dtype, torch.int8))

    huge = make_inputs([40], [40], 2, 2, 16, 32, (dtype, torch.int8), factors=(1e30,))
    huge[0].mul_(1e-30)
    actual, expected = (f(*huge, AttentionOptions(0.25)).float() for f in (paged_attention, paged_attention_reference))
    assert ((actual - expected).abs() / 1e30).max() <= tolerance_of((dtype, torch.int8))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_int8_attention_is_close_to_that_of_its_keys_and_values(dtype) -> None:
    """What is lost is the rounding to 255 numbers and nothing else: 1 % of values of about one."""
    query, full, batch = make_inputs([130, 40], [9, 40], 6, 2, 64, 32, (dtype, dtype))
    _, small, _ = make_inputs([130, 40], [9, 40], 6, 2, 64, 32, (dtype, torch.int8))

    actual, expected = (
        paged_attention(query, cache, batch, AttentionOptions(0.125)).float() for cache in (small, full)
    )

    assert 0 < (actual - expected).abs().mean() / expected.abs().mean() < 0.02


def test_scales_of_no_numbers_beside_a_sequence_are_never_used() -> None:
    """Blocks are used again: what a former sequence left behind the last token, or before the window, is not read."""
    options = AttentionOptions(0.25, window=37)
    query, cache, batch = make_inputs([77], [1], 2, 1, 16, 32, (torch.bfloat16, torch.int8))
    expected = paged_attention(query, cache, batch, options)

    blocks = batch.block_table[0].long()
    for scales in (cache.key_scales, cache.value_scales):
        scales[blocks[0]] = torch.nan  # 40 places lie before the window, 32 of them in this block
        scales[blocks[1], :, :8] = torch.nan
        scales[blocks[2], :, 13:] = torch.nan

    assert torch.equal(paged_attention(query, cache, batch, options), expected)


def test_an_int8_cache_that_is_not_laid_out_for_c_runs_through_the_definition() -> None:
    """Scales that do not lie behind their page are still the right ones."""
    query, cache, batch = make_inputs([40], [40], 2, 1, 16, 32, (torch.float32, torch.int8))
    copied = KvCache(*(getattr(cache, name).clone() for name in ("keys", "values", "key_scales", "value_scales")))
    options = AttentionOptions(0.25)

    actual = paged_attention(query, copied, batch, options)

    assert torch.equal(actual, paged_attention_reference(query, cache, batch, options))
