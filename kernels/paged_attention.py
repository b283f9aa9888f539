"""Attention over a paged KV cache, for ragged rows of many sequences: prefill, chunked prefill and decode alike.

For each row r of sequence s at position p, with K and V read through the block table:

    out[r] = softmax(scale * query[r] @ K[s, 0..p].T) @ V[s, 0..p]

or over a window of the newest positions, with capped scores or sinks where a model has them.

Implementations: C on the CPU, where a row's bits do not depend on its batch; torch everywhere else.
"""

import ctypes
import functools
from dataclasses import dataclass

import torch

from outrider.kernels.build import load_library

DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # as vectors.h numbers them


class AttentionShape(ctypes.Structure):
    """`struct attention` of attention.h."""

    _fields_ = (
        ("num_heads", ctypes.c_int64),
        ("num_kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("block_size", ctypes.c_int64),
        ("max_blocks", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("sinks", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """Which rows belong to which sequence, and where their keys and values live. int32 unless noted, contiguous.

    Rows of one sequence are neighbours, in rising position.
    """

    block_table: torch.Tensor  # (num_sequences, max_blocks)
    row_sequence: torch.Tensor  # (num_rows,)
    row_position: torch.Tensor  # (num_rows,)
    write_block: torch.Tensor  # (num_rows,) int64: the block that takes the row's own key and value
    write_offset: torch.Tensor  # (num_rows,) int64: and its place there


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """What a layer asks of attention beside its rows.

    `scale` multiplies the scores, usually head_dim ** -0.5; `window` is how many newest positions a row reads, its own
    included (None: all); with `softcap` scores become softcap * tanh(score / softcap); `sinks`, (num_heads,) float32,
    are scores that take weight but have no value.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None


def allocate_kv(
    num_blocks: int, num_kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's empty caches of keys and values; memory is taken when first written.

    Returns:
        keys (num_blocks, num_kv_heads, head_dim / P, block_size, P) and values (num_blocks, num_kv_heads,
        block_size / P, head_dim, P), P being as many values as 32 bits hold.
    """
    pair = 4 // dtype.itemsize
    keys = torch.empty(num_blocks, num_kv_heads, head_dim // pair, block_size, pair, dtype=dtype)
    return keys, torch.empty(num_blocks, num_kv_heads, block_size // pair, head_dim, pair, dtype=dtype)


def write_kv(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
) -> None:
    """Stores the rows' keys and values, (num_rows, num_kv_heads, head_dim), in their slots of the cache."""
    pair = key_cache.shape[-1]
    block, offset = batch.write_block, batch.write_offset
    key_cache[block, :, :, offset] = key.unflatten(-1, (-1, pair))
    value_cache[block, :, offset // pair, :, offset % pair] = value


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: AttentionOptions,
) -> torch.Tensor:
    """Attends each row to its sequence up to its own position, whose key must already be in the cache.

    Args:
        query: (num_rows, num_heads, head_dim), float32 or bfloat16, contiguous
        key_cache: as `allocate_kv` makes it, the same dtype
        value_cache: likewise
        batch: the rows' sequences and positions
        options: the layer's

    Returns:
        (num_rows, num_heads, head_dim), the dtype of `query`; `query` and the cache are not modified.
    """
    if query.dtype != key_cache.dtype:
        raise ValueError(f"paged_attention takes a query of the cache's dtype {key_cache.dtype}, not {query.dtype}")
    kernel = _cpu_kernel() if query.device.type == "cpu" and query.dtype in DTYPES else None
    if kernel is not None:
        out = torch.empty_like(query)
        num_rows, num_heads, head_dim = query.shape
        num_kv_heads, block_size = key_cache.shape[1], key_cache.shape[3]
        tensors = (query, key_cache, value_cache, batch.block_table, batch.row_sequence, batch.row_position, out)
        sinks = None if options.sinks is None else options.sinks.data_ptr()
        shape = AttentionShape(
            num_heads,
            num_kv_heads,
            head_dim,
            block_size,
            batch.block_table.shape[1],
            options.window or 0,
            options.scale,
            options.softcap or 0.0,
            sinks,
        )
        pointers = (tensor.data_ptr() for tensor in tensors)
        sizes = (num_rows, ctypes.byref(shape), DTYPES[query.dtype], torch.get_num_threads())
        if kernel(*pointers, *sizes) == 0:
            return out
    return paged_attention_reference(query, key_cache, value_cache, batch, options)


def paged_attention_reference(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: AttentionOptions,
) -> torch.Tensor:
    """The definition, in plain torch: gathers each sequence's keys and values, and masks what lies ahead of a row."""
    out = torch.empty_like(query)
    num_heads, head_dim = query.shape[1:]
    num_kv_heads, block_size = key_cache.shape[1], key_cache.shape[3]
    sequences, counts = torch.unique_consecutive(batch.row_sequence, return_counts=True)
    start = 0
    for sequence, count in zip(sequences.tolist(), counts.tolist(), strict=True):
        rows = slice(start, start + count)
        start += count
        position = batch.row_position[rows].long()  # (count,)
        length = int(position[-1]) + 1
        blocks = batch.block_table[sequence, : -(-length // block_size)].long()
        keys = key_cache[blocks].permute(1, 0, 3, 2, 4).reshape(num_kv_heads, -1, head_dim)[:, :length].float()
        values = value_cache[blocks].permute(1, 0, 2, 4, 3).reshape(num_kv_heads, -1, head_dim)[:, :length].float()
        grouped = query[rows].float().view(count, num_kv_heads, num_heads // num_kv_heads, head_dim)
        scores = torch.einsum("rkgd,ktd->rkgt", grouped, keys) * options.scale
        if options.softcap is not None:
            scores = options.softcap * (scores / options.softcap).tanh()
        place = torch.arange(length, device=query.device)
        unseen = place > position[:, None]  # (count, length)
        if options.window is not None:
            unseen = unseen | (place <= position[:, None] - options.window)
        scores = scores.masked_fill(unseen[:, None, None], float("-inf"))
        if options.sinks is not None:
            sinks = options.sinks.view(1, num_kv_heads, -1, 1).expand(count, -1, -1, 1)
            scores = torch.cat((scores, sinks.to(scores)), -1)
        weights = scores.softmax(-1)[..., :length]
        out[rows] = torch.einsum("rkgt,ktd->rkgd", weights, values).reshape(count, num_heads, head_dim).to(out.dtype)
    return out


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("paged_attention")
    if library is None:
        return None
    function = library.outrider_paged_attention
    function.argtypes = [ctypes.c_void_p] * 7 + [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
