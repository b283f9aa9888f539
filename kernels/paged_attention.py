"""Attention over a paged KV cache, for ragged rows of many sequences: prefill, chunked prefill and decode alike.

For each row r of sequence s at position p, with K and V read through the block table:

    out[r] = softmax(scale * query[r] @ K[s, 0..p].T) @ V[s, 0..p]

Implementations: C on the CPU, where a row's bits do not depend on its batch; torch everywhere else.
"""

import ctypes
import functools
from dataclasses import dataclass

import torch

from outrider.kernels.build import load_library

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}


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


def write_kv(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
) -> None:
    """Stores the rows' keys and values, (num_rows, num_kv_heads, head_dim), in their slots of the cache."""
    key_cache[batch.write_block, :, batch.write_offset] = key
    value_cache[batch.write_block, :, batch.write_offset] = value


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    scale: float,
) -> torch.Tensor:
    """Attends each row to its sequence up to its own position, whose key must already be in the cache.

    Args:
        query: (num_rows, num_heads, head_dim), float32 or bfloat16, contiguous
        key_cache: (num_blocks, num_kv_heads, block_size, head_dim), the same dtype
        value_cache: as key_cache
        batch: the rows' sequences and positions
        scale: of the scores, usually head_dim ** -0.5

    Returns:
        (num_rows, num_heads, head_dim), the dtype of `query`; `query` and the cache are not modified.
    """
    if query.dtype != key_cache.dtype:
        raise ValueError(f"paged_attention takes a query of the cache's dtype {key_cache.dtype}, not {query.dtype}")
    kernel = _cpu_kernel() if query.device.type == "cpu" and query.dtype in _DTYPES else None
    if kernel is not None:
        out = torch.empty_like(query)
        num_rows, num_heads, head_dim = query.shape
        num_kv_heads, block_size = key_cache.shape[1:3]
        tensors = (query, key_cache, value_cache, batch.block_table, batch.row_sequence, batch.row_position, out)
        sizes = (num_rows, num_heads, num_kv_heads, head_dim, block_size, batch.block_table.shape[1])
        if kernel(*(tensor.data_ptr() for tensor in tensors), *sizes, scale, _DTYPES[query.dtype]) == 0:
            return out
    return paged_attention_reference(query, key_cache, value_cache, batch, scale)


def paged_attention_reference(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    scale: float,
) -> torch.Tensor:
    """The definition, in plain torch: gathers each sequence's keys and values, and masks what lies ahead of a row."""
    out = torch.empty_like(query)
    num_heads, head_dim = query.shape[1:]
    num_kv_heads, block_size = key_cache.shape[1:3]
    sequences, counts = torch.unique_consecutive(batch.row_sequence, return_counts=True)
    start = 0
    for sequence, count in zip(sequences.tolist(), counts.tolist(), strict=True):
        rows = slice(start, start + count)
        start += count
        position = batch.row_position[rows].long()  # (count,)
        length = int(position[-1]) + 1
        blocks = batch.block_table[sequence, : -(-length // block_size)].long()
        keys, values = (  # (num_kv_heads, length, head_dim)
            cache[blocks].transpose(0, 1).reshape(num_kv_heads, -1, head_dim)[:, :length].float()
            for cache in (key_cache, value_cache)
        )
        grouped = query[rows].float().view(count, num_kv_heads, num_heads // num_kv_heads, head_dim)
        scores = torch.einsum("rkgd,ktd->rkgt", grouped, keys) * scale
        ahead = torch.arange(length, device=query.device) > position[:, None]  # (count, length)
        weights = scores.masked_fill(ahead[:, None, None], float("-inf")).softmax(-1)
        out[rows] = torch.einsum("rkgt,ktd->rkgd", weights, values).reshape(count, num_heads, head_dim).to(out.dtype)
    return out


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("paged_attention")
    if library is None:
        return None
    function = library.outrider_paged_attention
    function.argtypes = [ctypes.c_void_p] * 7 + [ctypes.c_int64] * 6 + [ctypes.c_float, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
