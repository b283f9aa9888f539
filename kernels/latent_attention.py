"""Multi-query attention over a paged cache of latents, for ragged rows of many sequences.

Models with multi-head latent attention (MLA) can keep one latent per token instead of keys and values of every head:
the query is brought into the space of latents beforehand, and the result back out of it afterwards. For each row r of
sequence s at position p, every head reads the same

    out[r] = softmax(scale * query[r] @ latents[s, 0..p].T) @ latents[s, 0..p, :value_dim]

or along the branches of a tree of drafted tokens. What lies behind `value_dim` is the rotary part of the keys.

Implementations: C on the CPU, where a row's bits do not depend on its batch; torch everywhere else.
"""

import ctypes
import functools
from collections.abc import Sequence

import torch

from outrider.kernels.build import load_library
from outrider.kernels.paged_attention import (
    DTYPES,
    AttentionBatch,
    AttentionOptions,
    KvCache,
    paged_attention_reference,
    tree_addresses,
)


class LatentAttentionShape(ctypes.Structure):
    """`struct latent_attention` of latent_attention.c."""

    _fields_ = (
        ("num_heads", ctypes.c_int64),
        ("latent_dim", ctypes.c_int64),
        ("value_dim", ctypes.c_int64),
        ("block_size", ctypes.c_int64),
        ("max_blocks", ctypes.c_int64),
        ("scale", ctypes.c_float),
    )


def allocate_latents(
    num_blocks: int, block_size: int, latent_dim: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """One layer's empty cache, (num_blocks, block_size, latent_dim); on the CPU, memory is taken when first written."""
    return torch.empty(num_blocks, block_size, latent_dim, dtype=dtype, device=device)


def write_latents(latents: torch.Tensor, cache: torch.Tensor, batch: AttentionBatch) -> None:
    """Stores the rows' latents, (num_rows, latent_dim), in their slots of the cache."""
    cache[batch.write_block, batch.write_offset] = latents


def move_latents(caches: Sequence[torch.Tensor], source: torch.Tensor, target: torch.Tensor) -> None:
    """Moves tokens in all layers' caches; all of a layer are read before the first is written.

    Args:
        caches: of each layer, as `allocate_latents` makes them
        source: (num_tokens, 2) int64 on the CPU, the block and the offset that each is read from
        target: likewise, where it goes
    """
    source_block, source_offset = source.to(caches[0].device).unbind(1)
    target_block, target_offset = target.to(caches[0].device).unbind(1)
    for cache in caches:
        cache[target_block, target_offset] = cache[source_block, source_offset]


def latent_attention(
    query: torch.Tensor, cache: torch.Tensor, batch: AttentionBatch, *, scale: float, value_dim: int
) -> torch.Tensor:
    """Attends each row to its sequence up to its own position, whose latent must already be in the cache.

    Args:
        query: (num_rows, num_heads, latent_dim), float32, bfloat16 or float16, contiguous
        cache: as `allocate_latents` makes it, the same dtype
        batch: the rows' sequences and positions, with trees or without
        scale: multiplies the scores
        value_dim: how many of a latent's numbers are its value, the first ones

    Returns:
        (num_rows, num_heads, value_dim), the dtype of `query`; `query` and the cache are not modified.

    Raises:
        ValueError: the query is of another dtype than the cache.
    """
    if query.dtype != cache.dtype:
        raise ValueError(f"latent_attention takes a query of the cache's dtype {cache.dtype}, not {query.dtype}")
    kernel = _cpu_kernel() if query.device.type == "cpu" and query.dtype in DTYPES else None
    if kernel is not None:
        num_rows, num_heads, latent_dim = query.shape
        out = query.new_empty(num_rows, num_heads, value_dim)
        shape = LatentAttentionShape(
            num_heads, latent_dim, value_dim, cache.shape[1], batch.block_table.shape[1], scale
        )
        tensors = (query, cache, batch.block_table, batch.row_sequence, batch.row_position, out)
        pointers = (*(tensor.data_ptr() for tensor in tensors), *tree_addresses(batch))
        if kernel(*pointers, num_rows, ctypes.byref(shape), DTYPES[query.dtype], torch.get_num_threads()) == 0:
            return out
    return latent_attention_reference(query, cache, batch, scale=scale, value_dim=value_dim)


def latent_attention_reference(
    query: torch.Tensor, cache: torch.Tensor, batch: AttentionBatch, *, scale: float, value_dim: int
) -> torch.Tensor:
    """The definition, in plain torch: attention with one KV head, whose keys and values are both the latents."""
    as_rows = KvCache(cache.transpose(1, 2)[:, None, ..., None], cache[:, None, ..., None])  # see `allocate_kv_rows`
    out = paged_attention_reference(query, as_rows, batch, AttentionOptions(scale))
    return out[..., :value_dim].contiguous()


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("latent_attention")
    if library is None:
        return None
    function = library.outrider_latent_attention
    function.argtypes = [ctypes.c_void_p] * 8 + [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
