"""Latent attention: the C kernel against the definition, and the promise that a row does not depend on its batch."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.latent_attention import (
    _cpu_kernel,
    allocate_latents,
    latent_attention,
    latent_attention_reference,
    move_latents,
    write_latents,
)
from outrider.kernels.paged_attention import AttentionBatch, TreeMask

# Relative to values of one and more: in bfloat16 neighbouring numbers are 0.4 to 0.8 % apart.
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1e-2}


def make_inputs(lengths, num_new, num_heads, latent_dim, block_size, dtype, seed=0):
    """Sequences of these lengths whose last `num_new` tokens are the rows; whatever no row reads is no number."""
    generator = torch.Generator().manual_seed(seed)
    blocks_per = [-(-length // block_size) for length in lengths]
    num_blocks = sum(blocks_per) + 3
    order = torch.randperm(num_blocks, generator=generator)
    table = torch.zeros(len(lengths), max(blocks_per), dtype=torch.int32)
    cache = allocate_latents(num_blocks, block_size, latent_dim, dtype).fill_(float("nan"))
    for index, (length, count) in enumerate(zip(lengths, blocks_per, strict=True)):
        blocks, order = order[:count], order[count:]
        table[index, :count] = blocks
        places = torch.arange(length)
        latents = torch.randn(length, latent_dim, generator=generator)
        cache[blocks[places // block_size], places % block_size] = latents.to(dtype)
    row_sequence = [index for index, count in enumerate(num_new) for _ in range(count)]
    row_position = [p for length, count in zip(lengths, num_new, strict=True) for p in range(length - count, length)]
    unused = torch.zeros(len(row_sequence), dtype=torch.int64)
    batch = AttentionBatch(table, torch.tensor(row_sequence).int(), torch.tensor(row_position).int(), unused, unused)
    query = torch.randn(len(row_sequence), num_heads, latent_dim, generator=generator).to(dtype)
    return query, cache, batch


def error_of(actual: torch.Tensor, inputs, **options) -> float:
    """How far it is from the definition, relative to values of one and more."""
    query, cache, batch = inputs
    expected = latent_attention_reference(query, cache.nan_to_num(), batch, **options).float()
    return float(((actual.float() - expected).abs() / expected.abs().clamp(min=1.0)).max())


def alone(batch: AttentionBatch, row: int) -> AttentionBatch:
    """One row's batch."""
    one = slice(row, row + 1)
    return dataclasses.replace(
        batch,
        row_sequence=batch.row_sequence[one],
        row_position=batch.row_position[one],
        write_block=batch.write_block[one],
        write_offset=batch.write_offset[one],
    )


@settings(max_examples=40)
@given(data=st.data())
def test_the_kernel_agrees_with_the_definition(data) -> None:
    """Random ragged batches, head counts around the vector's width and lengths around the block's and tile's edges."""
    assert _cpu_kernel() is not None
    block_size = data.draw(st.sampled_from([1, 16, 32, 40]))
    edges = st.sampled_from([1, block_size, block_size + 1, 3 * block_size + 5, 63, 64, 65, 200])
    lengths = data.draw(st.lists(edges, min_size=1, max_size=3))
    num_new = [data.draw(st.integers(1, min(length, 9))) for length in lengths]
    num_heads, rope = data.draw(st.sampled_from([1, 4, 15, 16, 17, 40, 128])), data.draw(st.sampled_from([2, 8, 64]))
    value_dim, dtype = data.draw(st.sampled_from([16, 80, 256, 512])), data.draw(st.sampled_from(list(TOLERANCE)))
    inputs = make_inputs(lengths, num_new, num_heads, value_dim + rope, block_size, dtype)
    options = {"scale": (value_dim + rope) ** -0.5, "value_dim": value_dim}

    actual = latent_attention(*inputs, **options)

    assert actual.shape == (sum(num_new), num_heads, value_dim)
    assert actual.is_contiguous()
    assert error_of(actual, inputs, **options) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_number_of_the_result_is_written(dtype) -> None:
    """Its memory may hold anything before: here no numbers."""
    query, cache, batch = make_inputs([1, 65, 33], [1, 3, 1], 37, 88, 32, dtype)
    torch.use_deterministic_algorithms(True)  # fills what is newly allocated with NaN
    try:
        assert query.new_empty(3).isnan().all()
        actual = latent_attention(query, cache, batch, scale=0.1, value_dim=80)
    finally:
        torch.use_deterministic_algorithms(False)

    assert actual.isfinite().all()


@pytest.mark.parametrize(("latent_dim", "value_dim"), [(24, 8), (33, 32), (700, 16), (576, 528)])
def test_shapes_that_the_kernel_does_not_take_are_computed_in_torch(latent_dim, value_dim) -> None:
    """Slower, and the same numbers."""
    inputs = make_inputs([40], [2], 4, latent_dim, 16, torch.float32)
    options = {"scale": 0.1, "value_dim": value_dim}

    expected = latent_attention_reference(inputs[0], inputs[1].nan_to_num(), inputs[2], **options)
    query, cache, batch = inputs
    assert torch.equal(latent_attention(query, cache.nan_to_num(), batch, **options), expected)


def test_every_head_is_multi_query_attention_to_the_latents() -> None:
    """The definition itself, against torch's attention."""
    query, cache, batch = make_inputs([70], [70], 3, 40, 16, torch.float32)

    actual = latent_attention_reference(query, cache.nan_to_num(), batch, scale=0.2, value_dim=32)

    latents = cache[batch.block_table[0].long()].flatten(0, 1)[None, :70]
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(0, 1), latents, latents[..., :32], is_causal=True, scale=0.2
    )
    assert torch.allclose(actual, expected.transpose(0, 1), atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(dtype) -> None:
    """Prefill in one piece, token by token, or among strangers, on one thread or two: not one bit changes."""
    query, cache, batch = make_inputs([70, 33, 5], [70, 1, 5], 20, 72, 32, dtype)
    options = {"scale": 0.125, "value_dim": 64}
    together = latent_attention(query, cache, batch, **options)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(num_threads, 2))
    try:
        assert torch.equal(latent_attention(query, cache, batch, **options), together)
    finally:
        torch.set_num_threads(num_threads)

    for row in range(len(query)):
        assert torch.equal(
            latent_attention(query[row : row + 1], cache, alone(batch, row), **options)[0], together[row]
        )


def test_a_head_has_the_same_bits_whatever_heads_are_beside_it() -> None:
    """Heads share a token's load and nothing else."""
    query, cache, batch = make_inputs([100], [2], 37, 72, 32, torch.bfloat16)
    together = latent_attention(query, cache, batch, scale=0.125, value_dim=64)

    for head in (0, 15, 16, 36):
        only = latent_attention(query[:, head : head + 1].contiguous(), cache, batch, scale=0.125, value_dim=64)
        assert torch.equal(only[:, 0], together[:, head])


def test_where_a_sequence_lies_in_the_cache_changes_nothing() -> None:
    """The reduction follows logical positions, not block ids."""
    query, cache, batch = make_inputs([100], [3], 4, 72, 32, torch.bfloat16)
    order = torch.randperm(len(cache), generator=torch.Generator().manual_seed(9))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    moved = dataclasses.replace(batch, block_table=place[batch.block_table.long()].int())

    expected = latent_attention(query, cache, batch, scale=0.125, value_dim=64)
    assert torch.equal(latent_attention(query, cache[order], moved, scale=0.125, value_dim=64), expected)


@settings(max_examples=40)
@given(data=st.data())
def test_a_node_of_a_tree_has_the_bits_of_its_branch_alone(data) -> None:
    """Whatever lies between its ancestors in the cache: as if the branch were all there is, behind the text before."""
    dtype, options = data.draw(st.sampled_from(list(TOLERANCE))), {"scale": 0.2, "value_dim": 32}
    text, num_nodes = data.draw(st.sampled_from([0, 1, 31, 63, 64, 150])), data.draw(st.sampled_from([1, 2, 7, 40, 64]))
    inputs = make_inputs([text + num_nodes], [num_nodes], 5, 40, 16, dtype, seed=data.draw(st.integers(0, 9)))
    query, cache, batch = inputs
    branches: list[list[int]] = []  # from the root to each node
    for node in range(num_nodes):
        parent = data.draw(st.integers(-1, node - 1))
        branches.append([*(branches[parent] if parent >= 0 else []), node])
    ancestors = torch.tensor([sum(1 << node for node in branch) for branch in branches], dtype=torch.uint64)
    tree = TreeMask(torch.full((num_nodes,), text, dtype=torch.int32), ancestors.view(torch.int64))
    depth = torch.tensor([len(branch) - 1 for branch in branches])
    nodes = dataclasses.replace(batch, row_position=(text + depth).int(), tree=tree)

    in_tree = latent_attention(query, cache, nodes, **options)

    assert error_of(in_tree, (query, cache, nodes), **options) <= TOLERANCE[dtype]
    for row in {0, num_nodes // 2, num_nodes - 1}:
        places = torch.tensor([*range(text), *(text + node for node in branches[row])])
        position = torch.arange(len(places))
        table = torch.arange(-(-len(places) // 16), dtype=torch.int32)[None]
        last = position[-1:].int()
        chain = AttentionBatch(table, last * 0, last, position // 16, position % 16)
        branch = allocate_latents(table.shape[1], 16, 40, dtype)
        write_latents(cache[batch.block_table[0, places // 16].long(), places % 16], branch, chain)
        assert torch.equal(latent_attention(query[row : row + 1], branch, chain, **options)[0], in_tree[row])


def test_latents_land_in_their_slots_and_move() -> None:
    """Each row's latent is written to its block and offset, nothing else is touched; all moves read first."""
    cache = allocate_latents(4, 16, 8, torch.bfloat16).zero_()
    latents, blocks, offsets = torch.randn(2, 8).bfloat16(), torch.tensor([3, 1]), torch.tensor([0, 15])
    nothing = torch.zeros(1, dtype=torch.int32)

    write_latents(latents, cache, AttentionBatch(nothing[None], nothing, nothing, blocks, offsets))

    assert torch.equal(latents, cache[blocks, offsets])
    assert latents.abs().sum() == cache.abs().sum()

    move_latents([cache], torch.tensor([[3, 0], [1, 15]]), torch.tensor([[1, 15], [0, 2]]))

    assert torch.equal(latents, cache[[1, 0], [15, 2]])


def test_a_query_of_another_dtype_than_the_cache_is_refused() -> None:
    """Wrong numbers are never returned in silence."""
    query, cache, batch = make_inputs([4], [1], 2, 24, 16, torch.float32)

    with pytest.raises(ValueError, match="latent_attention takes a query of the cache's dtype"):
        latent_attention(query.bfloat16(), cache, batch, scale=0.25, value_dim=16)
