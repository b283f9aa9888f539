"""Attention over a paged KV cache, for ragged rows of many sequences: prefill, chunked prefill and decode alike.

For each row r of sequence s at position p, with K and V read through the block table:

    out[r] = softmax(scale * query[r] @ K[s, 0..p].T) @ V[s, 0..p]

or over a window of the newest positions, with capped scores or sinks where a model has them, or along the branches of
a tree of drafted tokens.

Implementations: C on the CPU and Triton on CUDA, where a row's bits do not depend on its batch; torch everywhere else.
"""

import ctypes
import functools
from dataclasses import dataclass

import torch

from outrider.kernels.build import load_library
from outrider.kernels.tiles import Tiles

DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # as vectors.h numbers them


class AttentionShape(ctypes.Structure):
    """`struct attention` of attention.h."""

    _fields_ = (
        ("num_heads", ctypes.c_int64),
        ("num_kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("block_size", ctypes.c_int64),
        ("max_blocks", ctypes.c_int64),
        ("is_int8", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("sinks", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class TreeMask:
    """Which places of its sequence each row sees, where drafted tokens form a tree.

    A tree's nodes, at most 64, lie in neighbouring places of the cache from `first` on. A row sees every place before
    `first`, and place `first + i` exactly when bit i of its `ancestors` is set; its own bit is set. A row outside any
    tree is a tree of one node: `first` is its position and `ancestors` 1.
    """

    first: torch.Tensor  # (num_rows,) int32
    ancestors: torch.Tensor  # (num_rows,) int64


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """Which rows belong to which sequence, and where their keys and values live. int32 unless noted, contiguous.

    Rows of one sequence are neighbours, in rising position. With a `tree` a row's position is its depth in the text,
    which siblings share, and not its place in the cache.
    """

    block_table: torch.Tensor  # (num_sequences, max_blocks)
    row_sequence: torch.Tensor  # (num_rows,)
    row_position: torch.Tensor  # (num_rows,)
    write_block: torch.Tensor  # (num_rows,) int64: the block that takes the row's own key and value
    write_offset: torch.Tensor  # (num_rows,) int64: and its place there
    tree: TreeMask | None = None  # None: a row sees the places up to its position
    tiles: Tiles | None = None  # read on a GPU only, on the same device; None: each row is a tile, slow for prompts


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """What a layer asks of attention beside its rows.

    `scale` multiplies the scores, usually head_dim ** -0.5; `window` is how many newest positions a row reads, its own
    included (None: all); in a tree, a row reads the places above position - window before the tree, and its ancestors
    in any case; with `softcap` scores become softcap * tanh(score / softcap); `sinks`, (num_heads,) float32, are scores
    that take weight but have no value.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class KvCache:
    """One layer's keys and values, as `allocate_kv` makes them.

    A cache of int8 has a scale for each token's key of a head, and one for its value: a vector is its integers times
    its scale, which is max|x| / 127.
    """

    keys: torch.Tensor  # (num_blocks, num_kv_heads, head_dim / P, block_size, P)
    values: torch.Tensor  # (num_blocks, num_kv_heads, block_size / P, head_dim, P)
    key_scales: torch.Tensor | None = None  # (num_blocks, num_kv_heads, block_size) float32
    value_scales: torch.Tensor | None = None  # likewise


def allocate_kv(  # noqa: PLR0917 - a shape's sizes
    num_blocks: int,
    num_kv_heads: int,
    block_size: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> KvCache:
    """One layer's empty cache; on the CPU, memory is taken when first written.

    On the CPU P is as many values as 32 bits hold, but 2 for int8, where a head's page of a block is followed in memory
    by its scales. On other devices P is 1, and the layout that of `allocate_kv_rows`.
    """
    if torch.device(device).type != "cpu":
        return allocate_kv_rows(num_blocks, num_kv_heads, block_size, head_dim, dtype, device)
    if dtype == torch.int8:
        num_values = block_size * head_dim
        pages = [torch.empty(num_blocks, num_kv_heads, num_values + 4 * block_size, dtype=dtype) for _ in range(2)]
        keys, values = (page[:, :, :num_values] for page in pages)
        return KvCache(
            keys.unflatten(2, (head_dim // 2, block_size, 2)),
            values.unflatten(2, (block_size // 2, head_dim, 2)),
            *(page[:, :, num_values:].view(torch.float32) for page in pages),
        )
    pair = 4 // dtype.itemsize
    keys = torch.empty(num_blocks, num_kv_heads, head_dim // pair, block_size, pair, dtype=dtype)
    return KvCache(keys, torch.empty(num_blocks, num_kv_heads, block_size // pair, head_dim, pair, dtype=dtype))


def allocate_kv_rows(  # noqa: PLR0917 - a shape's sizes
    num_blocks: int,
    num_kv_heads: int,
    block_size: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> KvCache:
    """`allocate_kv` in the layout of GPUs: a token's head_dim keys are neighbours in memory, and so are its values.

    Returns:
        views of memory (num_blocks, num_kv_heads, block_size, head_dim): keys (num_blocks, num_kv_heads, head_dim,
        block_size, 1) and values (num_blocks, num_kv_heads, block_size, head_dim, 1).
    """
    shape = (num_blocks, num_kv_heads, block_size, head_dim)
    keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
    return KvCache(keys.transpose(2, 3).unsqueeze(-1), values.unsqueeze(-1))


def kv_token_bytes(num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Bytes that a token takes in one layer's cache, key and value, scales included."""
    return 2 * num_kv_heads * (head_dim * dtype.itemsize + (4 if dtype == torch.int8 else 0))


def write_kv(key: torch.Tensor, value: torch.Tensor, cache: KvCache, batch: AttentionBatch) -> None:
    """Stores the rows' keys and values, (num_rows, num_kv_heads, head_dim), in their slots of the cache."""
    pair = cache.keys.shape[-1]
    block, offset = batch.write_block, batch.write_offset
    if cache.key_scales is not None and cache.value_scales is not None:
        key, cache.key_scales[block, :, offset] = quantise(key)
        value, cache.value_scales[block, :, offset] = quantise(value)
    cache.keys[block, :, :, offset] = key.unflatten(-1, (-1, pair))
    cache.values[block, :, offset // pair, :, offset % pair] = value


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers of at most 127, rounded to nearest even, and the scale of each vector along the last dimension.

    A vector whose scale would be below float32's normal numbers becomes zero.
    """
    scale = x.abs().amax(-1).float() / 127
    divisor = scale.masked_fill(scale < torch.finfo(torch.float32).tiny, float("inf"))
    return (x.float() / divisor.unsqueeze(-1)).nan_to_num().round().to(torch.int8), scale


def paged_attention(
    query: torch.Tensor, cache: KvCache, batch: AttentionBatch, options: AttentionOptions
) -> torch.Tensor:
    """Attends each row to its sequence up to its own position, whose key must already be in the cache.

    Args:
        query: (num_rows, num_heads, head_dim), float32, bfloat16 or float16, contiguous
        cache: of the same dtype, or on the CPU of int8
        batch: the rows' sequences and positions
        options: the layer's

    Returns:
        (num_rows, num_heads, head_dim), the dtype of `query`; `query` and the cache are not modified.
    """
    is_cuda, is_int8 = query.device.type == "cuda", cache.keys.dtype == torch.int8
    if query.dtype != cache.keys.dtype and (is_cuda or not is_int8):
        raise ValueError(f"paged_attention takes a query of the cache's dtype {cache.keys.dtype}, not {query.dtype}")
    if is_cuda:
        from outrider.kernels.gpu.attention import paged_attention_triton  # noqa: PLC0415 - Linux alone has Triton

        return paged_attention_triton(query, cache.keys, cache.values, batch, options)
    in_c = query.device.type == "cpu" and query.dtype in DTYPES and _is_for_c(cache)
    kernel = _cpu_kernel() if in_c else None
    if kernel is not None:
        out = torch.empty_like(query)
        num_rows, num_heads, head_dim = query.shape
        num_kv_heads, block_size = cache.keys.shape[1], cache.keys.shape[3]
        tensors = (query, cache.keys, cache.values, batch.block_table, batch.row_sequence, batch.row_position, out)
        sinks = None if options.sinks is None else options.sinks.data_ptr()
        shape = AttentionShape(
            num_heads,
            num_kv_heads,
            head_dim,
            block_size,
            batch.block_table.shape[1],
            is_int8,
            options.window or 0,
            options.scale,
            options.softcap or 0.0,
            sinks,
        )
        pointers = (*(tensor.data_ptr() for tensor in tensors), *tree_addresses(batch))
        sizes = (num_rows, ctypes.byref(shape), DTYPES[query.dtype], torch.get_num_threads())
        if kernel(*pointers, *sizes) == 0:
            return out
    return paged_attention_reference(query, cache, batch, options)


def _is_for_c(cache: KvCache) -> bool:
    """Whether the cache is laid out as C reads it, and not for a GPU or by indexing another one."""
    if cache.key_scales is None or cache.value_scales is None:
        return cache.keys.is_contiguous()
    num_blocks, num_kv_heads, half, block_size, pair = cache.keys.shape
    num_values = half * pair * block_size
    page = num_values + 4 * block_size
    return all(
        (num_blocks == 1 or integers.stride(0) == num_kv_heads * page)
        and (num_kv_heads == 1 or integers.stride(1) == page)
        and scales.data_ptr() == integers.data_ptr() + num_values
        for integers, scales in ((cache.keys, cache.key_scales), (cache.values, cache.value_scales))
    )


def tree_addresses(batch: AttentionBatch) -> tuple[int | None, int | None]:
    """Where C finds the batch's `first` and `ancestors`, if it has trees."""
    return (None, None) if batch.tree is None else (batch.tree.first.data_ptr(), batch.tree.ancestors.data_ptr())


def paged_attention_reference(
    query: torch.Tensor, cache: KvCache, batch: AttentionBatch, options: AttentionOptions
) -> torch.Tensor:
    """The definition, in plain torch: gathers each sequence's keys and values, and masks what lies ahead of a row."""
    out = torch.empty_like(query)
    num_heads, head_dim = query.shape[1:]
    num_kv_heads, block_size = cache.keys.shape[1], cache.keys.shape[3]
    sequences, counts = torch.unique_consecutive(batch.row_sequence, return_counts=True)
    start = 0
    for sequence, count in zip(sequences.tolist(), counts.tolist(), strict=True):
        rows = slice(start, start + count)
        start += count
        position = batch.row_position[rows].long()  # (count,)
        unseen = ~_seen(position, batch.tree, rows, options.window)  # (count, length)
        length = unseen.shape[1]
        blocks = batch.block_table[sequence, : -(-length // block_size)].long()
        keys = cache.keys[blocks].permute(1, 0, 3, 2, 4).reshape(num_kv_heads, -1, head_dim)[:, :length].float()
        values = cache.values[blocks].permute(1, 0, 2, 4, 3).reshape(num_kv_heads, -1, head_dim)[:, :length].float()
        if cache.key_scales is not None and cache.value_scales is not None:
            keys *= cache.key_scales[blocks].transpose(0, 1).reshape(num_kv_heads, -1, 1)[:, :length]
            values *= cache.value_scales[blocks].transpose(0, 1).reshape(num_kv_heads, -1, 1)[:, :length]
        grouped = query[rows].float().view(count, num_kv_heads, num_heads // num_kv_heads, head_dim)
        scores = torch.einsum("rkgd,ktd->rkgt", grouped, keys) * options.scale
        if options.softcap is not None:
            scores = options.softcap * (scores / options.softcap).tanh()
        scores = scores.masked_fill(unseen[:, None, None], float("-inf"))
        if options.sinks is not None:
            sinks = options.sinks.view(1, num_kv_heads, -1, 1).expand(count, -1, -1, 1)
            scores = torch.cat((scores, sinks.to(scores)), -1)
        weights = scores.softmax(-1)[..., :length]
        out[rows] = torch.einsum("rkgt,ktd->rkgd", weights, values).reshape(count, num_heads, head_dim).to(out.dtype)
    return out


def _seen(position: torch.Tensor, tree: TreeMask | None, rows: slice, window: int | None) -> torch.Tensor:
    """Which places of their sequence these rows see, (count, length), as far as any of them does."""
    first = position if tree is None else tree.first[rows].long()
    ancestors = torch.ones_like(first) if tree is None else tree.ancestors[rows]
    num_nodes = [(bits & (1 << 64) - 1).bit_length() for bits in ancestors.tolist()]
    length = max(map(int.__add__, first.tolist(), num_nodes))
    node = torch.arange(length, device=position.device) - first[:, None]
    before = node < 0
    if window is not None:
        before &= node + first[:, None] > position[:, None] - window
    return before | (node >= 0) & (node < 64) & ((ancestors[:, None] >> node.clamp(0, 63)) & 1 == 1)


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("paged_attention")
    if library is None:
        return None
    function = library.outrider_paged_attention
    function.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function
