"""The definitions of row-wise operations, against transformers."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from outrider.kernels.paged_attention import AttentionBatch, allocate_kv
from outrider.kernels.rows import RotaryOptions, add_rms_norm, rotate_and_write, silu_and_multiply

HEADS, KV_HEADS, DIM, BLOCK_SIZE = 4, 2, 16, 8


def make_norm(size: int) -> LlamaRMSNorm:
    norm = LlamaRMSNorm(size, eps=1e-5).requires_grad_(False)
    norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(size))
    return norm


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-6)])
def test_the_norm_of_a_sum_is_that_of_transformers(dtype, tolerance) -> None:
    """The residual is changed in place and stays float32; transformers rounds to bfloat16 once more."""
    x, before = torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(0))
    x, residual, norm = x.to(dtype), before.clone(), make_norm(96)
    normed = add_rms_norm(x, residual, norm.weight, 1e-5, residual_scale=0.5)

    torch.testing.assert_close(residual, before + x.float() * 0.5)
    torch.testing.assert_close(normed, norm(residual).to(dtype), rtol=tolerance, atol=tolerance)
    assert normed.dtype == dtype


def test_a_norm_alone_leaves_the_residual() -> None:
    """Without x nothing is added."""
    before = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    residual, norm = before.clone(), make_norm(96)

    torch.testing.assert_close(add_rms_norm(None, residual, norm.weight, 1e-5), norm(before))
    assert torch.equal(before, residual)


@pytest.mark.parametrize("rotary_dim", [DIM, DIM // 2])
@pytest.mark.parametrize("has_norms", [False, True])
def test_heads_turn_as_in_transformers(has_norms, rotary_dim) -> None:
    """Queries and keys are normed, then their first rotary_dim values turn; values stay. A padding row is not kept."""
    mixed = torch.randn(6, (HEADS + 2 * KV_HEADS) * DIM, generator=torch.Generator().manual_seed(1))
    position = torch.tensor([3, 4, 5, 900, 901, 0], dtype=torch.int32)
    batch = AttentionBatch(
        block_table=torch.zeros(1, 1, dtype=torch.int32),
        row_sequence=torch.zeros(6, dtype=torch.int32),
        row_position=position,
        write_block=torch.tensor([0, 0, 1, 1, 1, -1]),
        write_offset=torch.tensor([3, 4, 0, 2, 7, 0]),
    )
    frequency = torch.logspace(0, -2, rotary_dim // 2)
    query_norm, key_norm = make_norm(DIM), make_norm(DIM)
    key_norm.weight.mul_(1.5)
    query = torch.full((6, HEADS, DIM), torch.nan)
    cache = allocate_kv(2, KV_HEADS, BLOCK_SIZE, DIM, torch.float32)
    keys, values = cache.keys.fill_(torch.nan), cache.values.fill_(torch.nan)
    norms = {"query_norm": query_norm.weight, "key_norm": key_norm.weight} if has_norms else {}
    rotate_and_write(mixed, query, keys, values, batch, RotaryOptions(frequency, scale=1.25, epsilon=1e-5, **norms))

    q, k, v = mixed.view(6, -1, DIM).split([HEADS, KV_HEADS, KV_HEADS], 1)
    if has_norms:
        q, k = query_norm(q), key_norm(k)
    angle = torch.cat([position[:, None] * frequency] * 2, -1)
    turned = apply_rotary_pos_emb(q[..., :rotary_dim], k[..., :rotary_dim], angle.cos() * 1.25, angle.sin() * 1.25)
    q, k = (torch.cat((part, head[..., rotary_dim:]), -1) for part, head in zip(turned, (q, k), strict=True))
    torch.testing.assert_close(query, q)
    for row in range(5):
        block, offset = batch.write_block[row], batch.write_offset[row]
        torch.testing.assert_close(keys[block, :, :, offset].flatten(1), k[row])
        torch.testing.assert_close(values[block, :, offset, :, 0], v[row])
    assert keys.isfinite().sum() == values.isfinite().sum() == 5 * KV_HEADS * DIM


def test_a_layer_without_rotary_positions_turns_nothing() -> None:
    """Queries come out as they went in."""
    mixed = torch.randn(1, 3 * DIM, generator=torch.Generator().manual_seed(2))
    one = torch.ones(1, dtype=torch.int32)
    batch = AttentionBatch(one[None], one, one * 7, one.long(), one.long())
    query, cache = torch.empty(1, 1, DIM), allocate_kv(2, 1, BLOCK_SIZE, DIM, torch.float32)
    rotate_and_write(mixed, query, cache.keys, cache.values, batch, RotaryOptions(torch.ones(DIM // 2), rotates=False))

    assert torch.equal(mixed[:, :DIM], query[:, 0])


def test_the_gate_comes_first() -> None:
    """silu(gate) * up, in float32."""
    gate, up = torch.randn(2, 5, 72, generator=torch.Generator().manual_seed(3)).bfloat16()
    expected = torch.nn.functional.silu(gate.float()) * up.float()

    assert torch.equal(expected.bfloat16(), silu_and_multiply(torch.cat((gate, up), -1)))
