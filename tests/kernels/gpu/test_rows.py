"""Row-wise operations in Triton against their definitions, under Triton's interpreter."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels import rows as definition
from outrider.kernels.gpu import rows
from outrider.kernels.paged_attention import AttentionBatch
from outrider.kernels.rows import RotaryOptions

NUM_BLOCKS, BLOCK_SIZE = 3, 4
DTYPES = [torch.float32, torch.bfloat16]
# The interpreter cuts float32 off where it makes bfloat16 of it: off by at most one unit in the last place.
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-6, "equal_nan": True},
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-5, "equal_nan": True},
}


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normal values, in rows that lie further apart in memory than they are long."""
    wide = torch.randn(*shape[:-1], shape[-1] + 8, generator=torch.Generator().manual_seed(seed))
    return wide.to(dtype)[..., : shape[-1]]


def gpu_caches(num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Caches in the layout of GPUs, full of NaN; their block -1 exists and is nobody's."""
    keys, values = torch.full((2, 1 + NUM_BLOCKS, num_kv_heads, BLOCK_SIZE, head_dim), math.nan, dtype=dtype)
    return keys.transpose(2, 3).unsqueeze(-1), values.unsqueeze(-1)


def slots(num_rows: int, padding: int, seed: int) -> AttentionBatch:
    """Rows at random positions in different slots, the last ones padding."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randperm(NUM_BLOCKS * BLOCK_SIZE, generator=generator)[:num_rows]
    block = place // BLOCK_SIZE
    block[max(num_rows - padding, 0) :] = -1
    position = torch.randint(0, 3000, (num_rows,), generator=generator, dtype=torch.int32)
    unused = torch.zeros(0, dtype=torch.int32)
    return AttentionBatch(unused, unused, position, block, place % BLOCK_SIZE)


def turn(implementation, layer: dict, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query and caches after the operation on poisoned memory."""
    keys, values = gpu_caches(layer["num_kv_heads"], layer["head_dim"], dtype)
    query = torch.full((layer["num_rows"], layer["num_heads"], layer["head_dim"]), math.nan, dtype=dtype)
    implementation(layer["heads"], query, keys[1:], values[1:], layer["batch"], RotaryOptions(**layer["options"]))
    return query, keys, values


@st.composite
def layers(draws, dtype: torch.dtype) -> dict:
    num_rows, seed = draws(st.integers(0, 6)), draws(st.integers(0, 99))
    num_heads, num_kv_heads = draws(st.sampled_from([(1, 1), (3, 1), (4, 2)]))
    head_dim = draws(st.sampled_from([16, 64, 80]))
    half = draws(st.sampled_from([head_dim // 2, head_dim // 4, 3]))
    norms = draw(2, head_dim, seed=seed) + 1
    has_norms = draws(st.booleans())
    return {
        "num_rows": num_rows,
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "heads": draw(num_rows, (num_heads + 2 * num_kv_heads) * head_dim, dtype=dtype, seed=seed),
        "batch": slots(num_rows, draws(st.integers(0, 3)), seed),
        "options": {
            "frequency": torch.logspace(0, -3, half),
            "scale": draws(st.sampled_from([1.0, 1.25])),
            "query_norm": norms[0].contiguous() if has_norms else None,
            "key_norm": norms[1].contiguous() if has_norms else None,
            "epsilon": 1e-5,
            "rotates": draws(st.booleans()),
        },
    }


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)
@given(data=st.data())
def test_heads_are_normed_rotated_and_written_as_defined(dtype, data) -> None:
    """Any sizes; every query is written, and of the cache the rows' slots and nothing else."""
    layer = data.draw(layers(dtype))

    expected = turn(definition.rotate_and_write_reference, layer, dtype)
    for wanted, got in zip(expected, turn(rows.rotate_and_write, layer, dtype), strict=True):
        # Angles of thousands of radians are off by the rounding of their product: 3000 * 2**-24.
        torch.testing.assert_close(got, wanted, **TOLERANCE[dtype] | {"atol": 2e-3})
        assert torch.equal(wanted.isnan(), got.isnan())


def test_rows_turn_alike_in_any_batch() -> None:
    """A row's bits do not depend on its place in a tile."""
    heads, batch = draw(6, 3 * 80), slots(6, 0, 1)
    norms = {"query_norm": torch.ones(80), "key_norm": torch.ones(80), "epsilon": 1e-6}
    options = {"frequency": torch.logspace(0, -3, 40)} | norms
    layer = {"num_rows": 6, "num_heads": 1, "num_kv_heads": 1, "head_dim": 80, "options": options}
    together = turn(rows.rotate_and_write, layer | {"heads": heads, "batch": batch}, torch.float32)[0]
    for row in range(6):
        parts = {name: getattr(batch, name)[row : row + 1] for name in ("row_position", "write_block", "write_offset")}
        alone = layer | {"num_rows": 1, "heads": heads[row : row + 1], "batch": replace(batch, **parts)}

        assert torch.equal(together[row], turn(rows.rotate_and_write, alone, torch.float32)[0][0])


@pytest.mark.parametrize("hidden_size", [1, 64, 96, 1000])
@pytest.mark.parametrize("residual_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_normed_as_defined(dtype, residual_dtype, hidden_size) -> None:
    """The residual takes the sum, in its own dtype; the norm has the model's."""
    x, weight = draw(3, hidden_size, dtype=dtype, seed=1), draw(1, hidden_size, seed=2)[0].contiguous() + 1
    residuals = [draw(3, hidden_size, dtype=residual_dtype) for _ in range(2)]
    functions = (definition.add_rms_norm_reference, rows.add_rms_norm)
    expected, got = (
        function(x, residual, weight, 1e-5, residual_scale=0.22)
        for function, residual in zip(functions, residuals, strict=True)
    )

    coarser = torch.bfloat16 if torch.bfloat16 in {dtype, residual_dtype} else torch.float32
    units = 2 if residual_dtype == dtype == torch.bfloat16 else 1  # both are cut off
    torch.testing.assert_close(residuals[1], residuals[0], **TOLERANCE[residual_dtype])
    torch.testing.assert_close(got, expected, rtol=units * TOLERANCE[coarser]["rtol"], atol=1e-4)
    assert got.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_alone_leaves_the_residual(dtype) -> None:
    """As before the first layer."""
    residual = draw(3, 96)
    before = residual.clone()
    got = rows.add_rms_norm(None, residual, torch.ones(96), 1e-6, dtype=dtype)

    torch.testing.assert_close(
        got, definition.add_rms_norm_reference(None, before, torch.ones(96), 1e-6, dtype=dtype), **TOLERANCE[dtype]
    )
    assert torch.equal(before, residual)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # a GPU says nothing
@pytest.mark.parametrize("size", [1, 72, 1100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_are_gated_as_defined(dtype, size) -> None:
    """Large gates of either sign too."""
    gate_up = draw(3, 2 * size, dtype=dtype) * 10
    gate_up[0, 0], gate_up[1, 0] = -200, 200

    torch.testing.assert_close(
        rows.silu_and_multiply(gate_up), definition.silu_and_multiply_reference(gate_up), **TOLERANCE[dtype]
    )


def test_operations_refuse_what_they_do_not_take() -> None:
    """By name: a wrong stride or dtype would read other memory."""
    keys, values = gpu_caches(1, 16, torch.float32)
    query, heads = torch.empty(2, 1, 16), torch.empty(2, 48)
    batch, frequency, norm = slots(2, 0, 0), torch.ones(8), torch.ones(16)
    refused = [
        ((heads[:, :47], query, keys, values), {}),
        ((heads, query[0], keys, values), {}),
        ((heads, query, keys[0], values), {}),
        ((heads, torch.empty(2, 1, 32)[:, :, ::2], keys, values), {}),
        ((heads, query, keys[:, :, :8], values), {}),
        ((heads, query, keys.reshape(-1, 1, 8, BLOCK_SIZE, 2), values), {}),
        ((heads, query, keys, values[:, :, :2]), {}),
        ((heads.double(), query, keys, values), {}),
        ((heads, query, keys, values), {"query_norm": norm}),
        ((heads, query, keys, values), {"query_norm": norm, "key_norm": norm.bfloat16()}),
        ((heads, query, keys, values), {"frequency": torch.ones(9)}),
        ((heads, query, keys, values), {"frequency": torch.ones(16)[::2]}),
    ]
    for tensors, options in refused:
        with pytest.raises(ValueError, match="rotate_and_write"):
            rows.rotate_and_write(*tensors, batch, RotaryOptions(**{"frequency": frequency} | options))
    for x, weight in [(torch.empty(2, 8), torch.ones(16)), (None, torch.ones(15)), (None, torch.ones(16).bfloat16())]:
        with pytest.raises(ValueError, match="add_rms_norm"):
            rows.add_rms_norm(x, torch.empty(2, 16), weight, 1e-6)
    for gate_up in (torch.empty(2, 3), torch.empty(4, 2).t(), torch.empty(2, 4, dtype=torch.int32)):
        with pytest.raises(ValueError, match="silu_and_multiply"):
            rows.silu_and_multiply(gate_up)
