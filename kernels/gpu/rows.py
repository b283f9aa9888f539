"""Row-wise operations of a Llama-like layer in Triton: norms, rotary positions and cache writes, activations.

`kernels/rows.py` defines them and picks between these and plain torch. All arithmetic is float32; loads are converted
at once, because Triton's interpreter computes with the bits of bfloat16. What a row becomes does not depend on how
many rows there are: tiles have one size. Launches follow from shapes alone, so a CUDA graph can hold them.
"""

import torch
import triton
import triton.language as tl

from outrider.kernels.paged_attention import AttentionBatch
from outrider.kernels.rows import RotaryOptions

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_ROW = 32768  # values that one program holds in its registers

_TILE_ROWS = 4  # rows of one head per program: a warp each
_TILE_ACTIVATIONS = 1024


def add_rms_norm(
    x: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
    *,
    residual_scale: float = 1.0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`kernels.rows.add_rms_norm` on the GPU; rows may have any stride."""
    if residual.dim() != 2:
        raise ValueError("add_rms_norm takes a residual of rows")
    num_rows, size = residual.shape
    dtype = dtype or (residual if x is None else x).dtype
    if x is not None and (x.shape != residual.shape or x.stride(1) != 1):
        raise ValueError("add_rms_norm takes x of the residual's shape, its rows contiguous")
    if residual.stride(1) != 1 or weight.shape != (size,) or not weight.is_contiguous() or size > MAX_ROW:
        raise ValueError(f"add_rms_norm takes contiguous rows of at most {MAX_ROW} values and a weight as long")
    if weight.dtype != torch.float32 or not {residual.dtype, dtype, (residual if x is None else x).dtype} <= {*DTYPES}:
        raise ValueError("add_rms_norm takes a float32 weight, and float32, bfloat16 or float16 elsewhere")
    out = torch.empty(num_rows, size, dtype=dtype, device=residual.device)
    block = triton.next_power_of_2(size)
    _add_rms_norm_kernel[num_rows,](
        x,
        residual,
        weight,
        out,
        0 if x is None else x.stride(0),
        residual.stride(0),
        residual_scale,
        epsilon,
        size,
        block,
        num_warps=min(max(block // 512, 1), 16),
    )
    return out


def rotate_and_write(
    query_key_value: torch.Tensor,
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: RotaryOptions,
) -> None:
    """`kernels.rows.rotate_and_write` on the GPU, in one launch. Caches have P = 1 and any strides."""
    if query.dim() != 3 or key_cache.dim() != 5 or value_cache.dim() != 5:
        raise ValueError("rotate_and_write takes a query of rows and heads, and caches as allocate_kv makes them")
    num_rows, num_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[1]
    num_all_heads = num_heads + 2 * num_kv_heads
    if query_key_value.shape != (num_rows, num_all_heads * head_dim) or query_key_value.stride(1) != 1:
        raise ValueError("rotate_and_write takes one contiguous row of query, key and value heads per row of query")
    if not query.is_contiguous():
        raise ValueError("rotate_and_write takes a contiguous query")
    if key_cache.shape[2::2] != (head_dim, 1) or value_cache.shape[3:] != (head_dim, 1):
        raise ValueError("rotate_and_write takes caches of unpaired values, of the query's head_dim")
    if value_cache.shape[1:3] != (num_kv_heads, key_cache.shape[3]):
        raise ValueError("rotate_and_write takes caches of keys and values of equal heads and block_size")
    if not {query_key_value.dtype, query.dtype, key_cache.dtype, value_cache.dtype} <= {*DTYPES}:
        raise ValueError("rotate_and_write takes float32, bfloat16 or float16")
    norms = [norm for norm in (options.query_norm, options.key_norm) if norm is not None]
    if len(norms) == 1:
        raise ValueError("rotate_and_write takes norms of queries and keys, or neither")
    if any(norm.dtype != torch.float32 or norm.shape != (head_dim,) or norm.stride(0) != 1 for norm in norms):
        raise ValueError("rotate_and_write takes float32 norms of head_dim values")
    frequency = options.frequency
    if frequency.dtype != torch.float32 or frequency.stride() != (1,) or 2 * len(frequency) > head_dim:
        raise ValueError("rotate_and_write takes contiguous float32 frequencies, at most head_dim / 2")
    grid = (triton.cdiv(num_rows, _TILE_ROWS), num_all_heads)
    _rotate_and_write_kernel[grid](
        query_key_value,
        query,
        key_cache,
        value_cache,
        batch.row_position,
        batch.write_block,
        batch.write_offset,
        frequency,
        options.query_norm,
        options.key_norm,
        num_rows,
        query_key_value.stride(0),
        *key_cache.stride()[:4],
        *value_cache.stride()[:4],
        options.scale,
        options.epsilon,
        num_heads,
        num_kv_heads,
        head_dim,
        len(frequency) if options.rotates else 0,
        _TILE_ROWS,
        triton.next_power_of_2(head_dim),
        num_warps=_TILE_ROWS,
    )


def silu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:
    """`kernels.rows.silu_and_multiply` on the GPU; rows may have any stride."""
    if gate_up.dim() != 2 or gate_up.shape[1] % 2 or gate_up.stride(1) != 1 or gate_up.dtype not in DTYPES:
        raise ValueError("silu_and_multiply takes rows of two halves, float32, bfloat16 or float16")
    num_rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(num_rows, size, dtype=gate_up.dtype, device=gate_up.device)
    grid = (num_rows, triton.cdiv(size, _TILE_ACTIVATIONS))
    _silu_and_multiply_kernel[grid](gate_up, out, gate_up.stride(0), size, _TILE_ACTIVATIONS)
    return out


@triton.jit
def _add_rms_norm_kernel(
    x: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    x_stride: tl.int64,
    residual_stride: tl.int64,
    residual_scale: float,
    epsilon: float,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < SIZE
    place = residual + row * residual_stride + at
    total = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    if x is not None:
        total += tl.load(x + row * x_stride + at, mask=inside, other=0.0).to(tl.float32) * residual_scale
        stored = total.to(residual.dtype.element_ty)
        tl.store(place, stored, mask=inside)
        total = stored.to(tl.float32)  # what the next layer reads is what is normed here
    scale = tl.rsqrt(tl.sum(total * total, 0) / SIZE + epsilon)
    normed = total * scale * tl.load(weight + at, mask=inside, other=0.0)
    tl.store(out + row * SIZE + at, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_rows"])
def _rotate_and_write_kernel(
    query_key_value: tl.tensor,
    query: tl.tensor,
    key_cache: tl.tensor,
    value_cache: tl.tensor,
    row_position: tl.tensor,
    write_block: tl.tensor,
    write_offset: tl.tensor,
    frequency: tl.tensor,
    query_norm: tl.tensor,
    key_norm: tl.tensor,
    num_rows: int,
    row_stride: tl.int64,
    key_block_stride: tl.constexpr,
    key_head_stride: tl.constexpr,
    key_dim_stride: tl.constexpr,
    key_slot_stride: tl.constexpr,
    value_block_stride: tl.constexpr,
    value_head_stride: tl.constexpr,
    value_slot_stride: tl.constexpr,
    value_dim_stride: tl.constexpr,
    rotary_scale: float,
    epsilon: float,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,  # of the values that are rotated
    TILE_ROWS: tl.constexpr,
    TILE_DIM: tl.constexpr,
) -> None:
    """One head of a few rows. Strides of the caches are constants, so that neighbouring values are stored at once."""
    head = tl.program_id(1)
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    dim = tl.arange(0, TILE_DIM)
    is_row = row < num_rows
    inside = is_row[:, None] & (dim < HEAD_DIM)[None, :]
    source = query_key_value + row.to(tl.int64)[:, None] * row_stride + head * HEAD_DIM
    x = tl.load(source + dim[None, :], mask=inside, other=0.0).to(tl.float32)  # (TILE_ROWS, TILE_DIM)

    if head < NUM_HEADS + NUM_KV_HEADS:
        # A value and its partner in the other half turn into x * cos -+ partner * sin.
        partner_dim = tl.where(dim < HALF, dim + HALF, dim - HALF)
        partner = tl.load(source + partner_dim[None, :], mask=inside, other=0.0).to(tl.float32)
        if query_norm is not None:
            scale = tl.rsqrt(tl.sum(x * x, 1) / HEAD_DIM + epsilon)[:, None]
            is_query = head < NUM_HEADS
            x *= scale * _pick(is_query, query_norm, key_norm, dim, HEAD_DIM)[None, :]
            partner *= scale * _pick(is_query, query_norm, key_norm, partner_dim, HEAD_DIM)[None, :]
        if HALF > 0:
            is_rotated = dim < 2 * HALF
            position = tl.load(row_position + row, mask=is_row, other=0).to(tl.float32)
            radians = tl.load(frequency + tl.where(dim < HALF, dim, dim - HALF), mask=is_rotated, other=0.0)
            angle = position[:, None] * radians[None, :]
            turn = tl.where(dim < HALF, -rotary_scale, rotary_scale)[None, :]
            rotated = x * (tl.cos(angle) * rotary_scale) + partner * (tl.sin(angle) * turn)
            x = tl.where(is_rotated[None, :], rotated, x)

    if head < NUM_HEADS:
        target = query + (row.to(tl.int64) * NUM_HEADS + head)[:, None] * HEAD_DIM + dim[None, :]
        tl.store(target, x.to(query.dtype.element_ty), mask=inside)
    else:
        block = tl.load(write_block + row, mask=is_row, other=-1).to(tl.int64)
        slot = tl.load(write_offset + row, mask=is_row, other=0).to(tl.int64)
        inside = inside & (block >= 0)[:, None]
        kv_head = (head - NUM_HEADS) % NUM_KV_HEADS
        if head < NUM_HEADS + NUM_KV_HEADS:
            key = block * key_block_stride + kv_head * key_head_stride + slot * key_slot_stride
            target = key_cache + key[:, None] + (dim * key_dim_stride)[None, :]
            tl.store(target, x.to(key_cache.dtype.element_ty), mask=inside)
        else:
            value = block * value_block_stride + kv_head * value_head_stride + slot * value_slot_stride
            target = value_cache + value[:, None] + (dim * value_dim_stride)[None, :]
            tl.store(target, x.to(value_cache.dtype.element_ty), mask=inside)


@triton.jit
def _pick(
    is_query: tl.tensor, query_norm: tl.tensor, key_norm: tl.tensor, dim: tl.tensor, HEAD_DIM: tl.constexpr
) -> tl.tensor:
    """The norm's weights of the head at hand."""
    inside = dim < HEAD_DIM
    query_weight = tl.load(query_norm + dim, mask=inside, other=0.0)
    return tl.where(is_query, query_weight, tl.load(key_norm + dim, mask=inside, other=0.0))


@triton.jit
def _silu_and_multiply_kernel(
    gate_up: tl.tensor, out: tl.tensor, row_stride: tl.int64, size: int, TILE: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = at < size
    gate = tl.load(gate_up + row * row_stride + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * row_stride + size + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, (gate / (1.0 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=inside)
