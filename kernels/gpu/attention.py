"""Paged attention in Triton: prefill, chunked prefill, decode and trees of drafts by one kernel.

A program takes one tile of rows (`outrider.kernels.tiles`) and the query heads that share one key head:

    for each SPLIT of the places that the tile sees:
        peak, total, acc = softmax over the split, online in float32, BLOCK_N places at a time
        merge them into those of the splits before
    out = acc / total

Where few rows would leave a GPU idle, each split is a program of its own; they leave their parts in memory, and a
second kernel merges these in the same order by the same arithmetic. A row's bits shall depend on neither its batch, nor
its tile, nor the way taken: SPLIT and BLOCK_N follow from the model alone, what a row does not see adds exactly
nothing, and every sum over places is a matrix product, which adds in the order of places however many rows there are
(`tl.sum` adds in the order of the threads, and these lie differently in tiles of different height).

Launches read shapes and `Tiles.max_rows` but no tensor, so CUDA graphs can capture them.
"""

import torch
import triton
import triton.language as tl

from outrider.kernels.paged_attention import AttentionBatch, AttentionOptions
from outrider.kernels.tiles import Tiles

SPLIT = 512  # places
WORKSPACE = 128 << 20  # bytes; a batch whose parts take more has rows enough to fill a GPU without splits
INTERPRETED = bool(triton.knobs.runtime.interpret)
DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
LOG2E = tl.constexpr(1.4426950408889634)  # scores count in powers of two: the hardware has exp2


def paged_attention_triton(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: AttentionOptions,
    *,
    out: torch.Tensor | None = None,
    split: int = SPLIT,
    workspace: int = WORKSPACE,
) -> torch.Tensor:
    """`paged_attention` on a GPU.

    Args:
        query: (num_rows, num_heads, head_dim), float32, bfloat16 or float16, contiguous
        key_cache: as `allocate_kv_rows` makes it, the same dtype; block_size a multiple of 16
        value_cache: likewise
        batch: the rows' sequences, positions and tiles, all on the same device
        options: the layer's
        out: takes the result, like `query`; rows outside every tile are left as they are
        split: how many places are reduced by themselves, a multiple of 64; another number means other bits
        workspace: the most bytes for the parts of rows; without influence on the result

    Raises:
        ValueError: for other shapes or dtypes.
    """
    _check(query, key_cache, value_cache, split)
    num_rows, num_heads, head_dim = query.shape
    num_kv_heads, block_size = key_cache.shape[1], key_cache.shape[3]
    group = num_heads // num_kv_heads
    out = torch.empty_like(query) if out is None else out
    tiles = batch.tiles or _single_rows(num_rows, query.device)
    first, ancestors = (batch.tree.first, batch.tree.ancestors) if batch.tree else (None, None)
    rows = (batch.row_position, first, ancestors, tiles.first_row, tiles.num_rows)
    block_m = max(16, triton.next_power_of_2(tiles.max_rows * group))  # 16: the smallest matrix product
    padded_dim = max(16, triton.next_power_of_2(head_dim))
    num_splits = triton.cdiv(batch.block_table.shape[1] * block_size, split)
    direct = num_splits == 1 or query.numel() * num_splits * 4 > workspace
    parts, levels = None, None
    if not direct:
        shape = (num_rows, num_heads, num_splits)
        parts = torch.empty((*shape, head_dim), dtype=torch.float32, device=query.device)
        levels = torch.empty((*shape, 2), dtype=torch.float32, device=query.device)  # peak and total
    constants = {
        "NUM_HEADS": num_heads,
        "HEAD_DIM": head_dim,
        "PADDED_DIM": padded_dim,
        "WINDOW": options.window or 0,
        "SPLIT": split,
        "enable_fp_fusion": False,  # one kernel might fuse what the other does not
    }
    _attend[(len(tiles.first_row), num_kv_heads, 1 if direct else num_splits)](
        query,
        key_cache,
        value_cache,
        out,
        parts,
        levels,
        options.sinks,
        batch.block_table,
        batch.row_sequence,
        *rows,
        options.scale / options.softcap if options.softcap else options.scale * LOG2E.value,
        batch.block_table.stride(0),
        *key_cache.stride()[:4],  # constants: a stride known to be 1 is what lets loads be wide
        *value_cache.stride()[:4],
        SOFTCAP=options.softcap or 0.0,
        BLOCK_SIZE=block_size,
        GROUP=group,
        BLOCK_M=block_m,
        BLOCK_N=_places_at_a_time(padded_dim, query.element_size()),
        DIRECT=direct,
        # The interpreter computes with the bits of bfloat16 as if they were integers.
        DOT=tl.float32 if INTERPRETED else DTYPES[query.dtype],
        num_warps=4 if block_m * padded_dim * query.element_size() <= 16384 else 8,
        num_stages=3 if block_m <= 64 else 2,
        **constants,
    )
    if not direct:
        grid = (len(tiles.first_row), tiles.max_rows, num_heads)
        _merge_parts[grid](out, parts, levels, options.sinks, *rows, num_splits, num_warps=1, **constants)
    return out


def _check(query: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, split: int) -> None:
    (_, num_heads, head_dim), (num_blocks, num_kv_heads, _, block_size, pair) = query.shape, key_cache.shape
    if query.dtype not in DTYPES or not query.dtype == key_cache.dtype == value_cache.dtype:
        dtypes = f"{query.dtype}, {key_cache.dtype} and {value_cache.dtype}"
        raise ValueError(f"paged_attention takes one dtype of float32, bfloat16 and float16, not {dtypes}")
    if pair != 1 or key_cache.shape[2] != head_dim:
        raise ValueError(f"paged_attention on a GPU takes keys as allocate_kv_rows makes them, not {key_cache.shape}")
    if value_cache.shape != (num_blocks, num_kv_heads, block_size, head_dim, 1):
        raise ValueError(f"paged_attention takes values that fit keys {key_cache.shape}, not {value_cache.shape}")
    if num_heads % num_kv_heads:
        raise ValueError(f"paged_attention takes a multiple of {num_kv_heads} query heads, not {num_heads}")
    if block_size % 16:
        raise ValueError(f"paged_attention on a GPU takes blocks of a multiple of 16 places, not {block_size}")
    if split % 64:
        raise ValueError(f"paged_attention on a GPU takes splits of a multiple of 64 places, not {split}")
    if not query.is_contiguous():
        raise ValueError("paged_attention takes a contiguous query")


def _single_rows(num_rows: int, device: torch.device) -> Tiles:
    first_row = torch.arange(num_rows, dtype=torch.int32, device=device)
    return Tiles(first_row, torch.ones_like(first_row), 1)


def _places_at_a_time(padded_dim: int, itemsize: int) -> int:
    """Keys of 16 KiB. Never by the number of rows: their bits would follow it."""
    return min(64, max(16, 16384 // (padded_dim * itemsize)))


@triton.jit(do_not_specialize=["table_stride"])
def _attend(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    out: tl.tensor,
    parts: tl.tensor | None,
    levels: tl.tensor | None,
    sinks: tl.tensor | None,
    block_table: tl.tensor,
    row_sequence: tl.tensor,
    row_position: tl.tensor,
    tree_first: tl.tensor | None,
    tree_ancestors: tl.tensor | None,
    tile_first_row: tl.tensor,
    tile_num_rows: tl.tensor,
    scale: float,
    table_stride: int,
    key_block_stride: tl.constexpr,
    key_head_stride: tl.constexpr,
    key_dim_stride: tl.constexpr,
    key_place_stride: tl.constexpr,
    value_block_stride: tl.constexpr,
    value_head_stride: tl.constexpr,
    value_place_stride: tl.constexpr,
    value_dim_stride: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    SPLIT: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DIRECT: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """One tile of rows, one key head, and one split or, if DIRECT, all of them. Programs (tile, key head, split)."""
    num_rows = tl.load(tile_num_rows + tl.program_id(0))
    if num_rows == 0:
        return
    kv_head, split = tl.program_id(1), tl.program_id(2)
    first_row = tl.load(tile_first_row + tl.program_id(0))
    index = tl.arange(0, BLOCK_M)  # a row's heads are neighbours
    real = index // GROUP < num_rows
    row, head = first_row + index // GROUP, kv_head * GROUP + index % GROUP
    begin, first, end, ancestors = _sight(row, real, row_position, tree_first, tree_ancestors, WINDOW)
    tile_begin, tile_end = tl.min(tl.where(real, begin, 2147483647)), tl.max(end)
    if DIRECT:
        first_split, last_split = tile_begin // SPLIT, tl.cdiv(tile_end, SPLIT)
    else:
        first_split, last_split = split, split + 1
        if (split * SPLIT >= tile_end) | ((split + 1) * SPLIT <= tile_begin):
            return

    dim = tl.arange(0, PADDED_DIM)
    slot = row.to(tl.int64) * NUM_HEADS + head
    cells = slot[:, None] * HEAD_DIM + dim[None, :]
    inside = real[:, None] & (dim < HEAD_DIM)[None, :]
    q = tl.load(query + cells, mask=inside, other=0.0).to(DOT)  # (BLOCK_M, PADDED_DIM)
    table = block_table + tl.load(row_sequence + first_row).to(tl.int64) * table_stride
    keys += kv_head * key_head_stride + dim[:, None] * key_dim_stride
    values += kv_head * value_head_stride + dim[None, :] * value_dim_stride
    ones = tl.full((BLOCK_N, 16), 1.0, DOT)

    peak = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, PADDED_DIM), tl.float32)
    for current in range(first_split, last_split):
        new_peak = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        new_totals = tl.zeros((BLOCK_M, 16), tl.float32)  # the same in every column
        new_acc = tl.zeros((BLOCK_M, PADDED_DIM), tl.float32)
        start = tl.maximum(current * SPLIT, tile_begin // BLOCK_N * BLOCK_N)
        for offset in range(start, tl.minimum((current + 1) * SPLIT, tile_end), BLOCK_N):
            place = offset + tl.arange(0, BLOCK_N)
            # Blocks outside the window may have new owners; what no row sees may be anything, and 0 * nan is nan.
            live = (place >= tile_begin) & (place < tile_end)
            block = tl.load(table + place // BLOCK_SIZE, mask=live, other=0).to(tl.int64)
            key_start = block * key_block_stride + place % BLOCK_SIZE * key_place_stride
            k = tl.load(keys + key_start[None, :], mask=(dim < HEAD_DIM)[:, None] & live[None, :], other=0.0)
            value_start = block * value_block_stride + place % BLOCK_SIZE * value_place_stride
            v = tl.load(values + value_start[:, None], mask=live[:, None] & (dim < HEAD_DIM)[None, :], other=0.0)

            seen = _sees(place, begin, first, ancestors, tree_first is not None)
            new_peak, new_totals, new_acc = _step(
                new_peak, new_totals, new_acc, q, k.to(DOT), v.to(DOT), ones, seen, scale, SOFTCAP
            )
        peak, total, acc = _merge(peak, total, acc, new_peak, tl.max(new_totals, 1), new_acc)

    if DIRECT:
        result = _finish(peak, total, acc, sinks, head, real)
        tl.store(out + cells, result.to(out.dtype.element_ty), mask=inside)
    else:
        slot = slot * tl.num_programs(2) + split
        tl.store(parts + slot[:, None] * HEAD_DIM + dim[None, :], acc, mask=inside)
        tl.store(levels + slot * 2, peak, mask=real)
        tl.store(levels + slot * 2 + 1, total, mask=real)


@triton.jit(do_not_specialize=["num_splits"])
def _merge_parts(
    out: tl.tensor,
    parts: tl.tensor | None,
    levels: tl.tensor | None,
    sinks: tl.tensor | None,
    row_position: tl.tensor,
    tree_first: tl.tensor | None,
    tree_ancestors: tl.tensor | None,
    tile_first_row: tl.tensor,
    tile_num_rows: tl.tensor,
    num_splits: int,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    SPLIT: tl.constexpr,
) -> None:
    """One row's one head from the parts that `_attend` left. Programs (tile, row of the tile, head)."""
    if tl.program_id(1) >= tl.load(tile_num_rows + tl.program_id(0)):
        return
    one = tl.arange(0, 1)  # so that the arithmetic is that of a tile
    row = tl.load(tile_first_row + tl.program_id(0)) + tl.program_id(1) + one
    head, real = tl.program_id(2) + one, one == 0
    begin, _, end, _ = _sight(row, real, row_position, tree_first, tree_ancestors, WINDOW)
    dim = tl.arange(0, PADDED_DIM)
    inside = real[:, None] & (dim < HEAD_DIM)[None, :]
    slot = row.to(tl.int64) * NUM_HEADS + head

    peak = tl.full((1,), float("-inf"), tl.float32)
    total = tl.zeros((1,), tl.float32)
    acc = tl.zeros((1, PADDED_DIM), tl.float32)
    for split in tl.range(tl.min(begin) // SPLIT, tl.cdiv(tl.max(end), SPLIT), num_stages=4):
        part = slot * num_splits + split
        new_peak, new_total = tl.load(levels + part * 2), tl.load(levels + part * 2 + 1)
        new_acc = tl.load(parts + part[:, None] * HEAD_DIM + dim[None, :], mask=inside, other=0.0)
        peak, total, acc = _merge(peak, total, acc, new_peak, new_total, new_acc)

    result = _finish(peak, total, acc, sinks, head, real)
    tl.store(out + slot[:, None] * HEAD_DIM + dim[None, :], result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sight(
    row: tl.tensor,
    real: tl.tensor,
    row_position: tl.tensor,
    tree_first: tl.tensor | None,
    tree_ancestors: tl.tensor | None,
    WINDOW: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Rows see places [begin, first) and then the nodes that are their ancestors, all of them before `end`."""
    position = tl.load(row_position + row, mask=real, other=-1)
    begin = tl.maximum(position + 1 - WINDOW, 0) if WINDOW > 0 else tl.zeros_like(position)
    if tree_first is None:
        first, end, ancestors = position + 1, position + 1, position
    else:
        first = tl.load(tree_first + row, mask=real, other=0)
        ancestors = tl.load(tree_ancestors + row, mask=real, other=0)
        node = tl.arange(0, 64)[None, :]
        is_ancestor = (ancestors[:, None] >> node.to(tl.int64)) & 1 == 1
        begin, end = tl.minimum(begin, first), first + tl.max(tl.where(is_ancestor, node + 1, 0), 1)
    return begin, first, end, ancestors


@triton.jit
def _sees(place: tl.tensor, begin: tl.tensor, first: tl.tensor, ancestors: tl.tensor, TREE: tl.constexpr) -> tl.tensor:
    """(rows, places) as `_sight` says."""
    sees = (place[None, :] >= begin[:, None]) & (place[None, :] < first[:, None])
    if TREE:
        node = place[None, :] - first[:, None]
        bit = (ancestors[:, None] >> tl.minimum(tl.maximum(node, 0), 63).to(tl.int64)) & 1
        sees |= (node >= 0) & (node < 64) & (bit == 1)
    return sees


@triton.jit
def _step(
    peak: tl.tensor,
    totals: tl.tensor,
    acc: tl.tensor,
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    ones: tl.tensor,
    seen: tl.tensor,
    scale: float,
    SOFTCAP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Goes on with a softmax by BLOCK_N places."""
    scores = tl.dot(q, k, input_precision="ieee") * scale  # (BLOCK_M, BLOCK_N)
    if SOFTCAP > 0:
        scores = _tanh(scores) * (SOFTCAP * LOG2E)
    scores = tl.where(seen, scores, float("-inf"))
    highest = tl.maximum(peak, tl.max(scores, 1))
    level = _level(highest)
    weights = tl.exp2(scores - level[:, None]).to(q.dtype)
    keep = tl.exp2(peak - level)[:, None]
    totals = tl.dot(weights, ones, totals * keep, input_precision="ieee")
    return highest, totals, tl.dot(weights, v, acc * keep, input_precision="ieee")


@triton.jit
def _merge(
    peak: tl.tensor, total: tl.tensor, acc: tl.tensor, new_peak: tl.tensor, new_total: tl.tensor, new_acc: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Joins two softmaxes; one over nothing, with a peak of -inf, changes nothing."""
    highest = tl.maximum(peak, new_peak)
    level = _level(highest)
    keep, add = tl.exp2(peak - level), tl.exp2(new_peak - level)
    return highest, total * keep + new_total * add, acc * keep[:, None] + new_acc * add[:, None]


@triton.jit
def _level(peak: tl.tensor) -> tl.tensor:
    """What to subtract before exp2: -inf - -inf would be nan."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
def _finish(
    peak: tl.tensor, total: tl.tensor, acc: tl.tensor, sinks: tl.tensor | None, head: tl.tensor, real: tl.tensor
) -> tl.tensor:
    if sinks is not None:
        sink = tl.load(sinks + head, mask=real, other=0.0) * LOG2E
        highest = tl.maximum(peak, sink)
        keep = tl.exp2(peak - highest)
        total, acc = total * keep + tl.exp2(sink - highest), acc * keep[:, None]
    return acc / tl.where(real, total, 1.0)[:, None]


@triton.jit
def _tanh(x: tl.tensor) -> tl.tensor:
    shrunk = tl.exp2(tl.abs(x) * (-2 * LOG2E))  # at most 1: no score overflows
    size = (1 - shrunk) / (1 + shrunk)
    return tl.where(x < 0, -size, size)
