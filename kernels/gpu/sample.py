"""The last steps of sampling in Triton: grammar masks and the Gumbel-max draw, without a word to the host.

The noise is that of `kernels/philox.py` in its integers; in float32 it is within 1e-6 of its float64 logarithms.
"""

import torch
import triton
import triton.language as tl

_TILE = 2048  # tokens per program


def apply_bitmask(logits: torch.Tensor, bitmask: torch.Tensor, rows: torch.Tensor | None = None) -> None:
    """Sets the logits of forbidden tokens to minus infinity, in place.

        for i in rows: for v in range(vocab_size): if not bit v % 32 of bitmask[i, v // 32]: logits[i, v] = -inf

    Args:
        logits: (num_rows, vocab_size), any float dtype
        bitmask: (num_rows, ceil(vocab_size / 32)) int32; a set bit allows its token
        rows: (num_masked_rows,) int64 or int32, the only rows that change, or None for all

    Raises:
        ValueError: for other shapes, strides or dtypes.
    """
    if logits.dim() != 2 or not logits.is_floating_point() or logits.stride(1) != 1:
        raise ValueError("apply_bitmask takes logits in contiguous rows")
    num_rows, vocab_size = logits.shape
    if (
        bitmask.dtype != torch.int32
        or bitmask.shape != (num_rows, triton.cdiv(vocab_size, 32))
        or bitmask.stride(1) != 1
    ):
        raise ValueError("apply_bitmask takes an int32 bitmask with a bit per logit, its rows contiguous")
    if rows is not None and (
        rows.dtype not in {torch.int64, torch.int32} or rows.dim() != 1 or not rows.is_contiguous()
    ):
        raise ValueError("apply_bitmask takes the rows as a contiguous vector of int64 or int32")
    grid = (num_rows if rows is None else len(rows), triton.cdiv(vocab_size, _TILE))
    _apply_bitmask_kernel[grid](logits, bitmask, rows, logits.stride(0), bitmask.stride(0), vocab_size, _TILE)


def sample_on_gpu(
    scores: torch.Tensor, seeds: torch.Tensor, positions: torch.Tensor, greedy: torch.Tensor
) -> torch.Tensor:
    """Draws one token id per row: argmax over tokens of score + noise(seed, position, token), the lowest id on ties.

    A row that forbids everything gives token 0; a score that is no number counts as forbidden.

    Args:
        scores: (num_rows, vocab_size) float32; -inf where a token is forbidden
        seeds: (num_rows,) int64 or uint64
        positions: (num_rows,) int64 or int32, of the token to be drawn
        greedy: (num_rows,) bool, rows without noise

    Returns:
        (num_rows,) int64, on the device of the scores

    Raises:
        ValueError: for other shapes, strides or dtypes.
    """
    if scores.dim() != 2 or scores.dtype != torch.float32 or scores.stride(1) != 1 or not scores.shape[1]:
        raise ValueError("sample_on_gpu takes float32 scores in contiguous rows")
    num_rows, vocab_size = scores.shape
    for name, vector, dtypes in (
        ("seeds", seeds, (torch.int64, torch.uint64)),
        ("positions", positions, (torch.int64, torch.int32)),
        ("greedy", greedy, (torch.bool,)),
    ):
        if vector.shape != (num_rows,) or vector.dtype not in dtypes or not vector.is_contiguous():
            raise ValueError(f"sample_on_gpu takes {name} as a contiguous vector of {dtypes}, one per row")
    num_tiles = triton.cdiv(vocab_size, _TILE)
    tile_score = torch.empty(num_rows, num_tiles, dtype=torch.float32, device=scores.device)
    tile_token = torch.empty(num_rows, num_tiles, dtype=torch.int64, device=scores.device)
    _draw_kernel[num_rows, num_tiles](
        scores, seeds, positions, greedy, tile_score, tile_token, scores.stride(0), vocab_size, _TILE
    )
    # torch's argmax takes the first of equals, which is the tile with the lowest ids.
    return tile_token.gather(1, tile_score.argmax(1, keepdim=True)).squeeze(1)


@triton.jit
def gumbel(bits: tl.tensor) -> tl.tensor:
    """-log(-log1p(-w)) with w = (bits + 0.5) / 2**32, for uint32 bits.

    For small w the series w + w**2 / 2 + w**3 / 3 + ... keeps every digit. Elsewhere the logarithm's argument 1 - w
    comes from the complement of the bits, so it is never rounded to 0.
    """
    w = (bits.to(tl.float32) + 0.5) * 2**-32
    complement = ((bits ^ 0xFFFFFFFF).to(tl.float32) + 0.5) * 2**-32
    series = w * (1 / 13)
    for power in tl.static_range(12, 0, -1):
        series = (series + 1 / power) * w
    return -tl.log(tl.where(w < 0.25, series, -tl.log(complement)))


@triton.jit
def gumbel_noise(seed: tl.tensor, position: tl.tensor, first_group: tl.tensor, NUM_GROUPS: tl.constexpr) -> tl.tensor:
    """Noise of NUM_GROUPS * 4 neighbouring tokens from 4 * first_group on: four tokens are the words of one call."""
    c0 = (first_group + tl.arange(0, NUM_GROUPS)).to(tl.uint32)
    zero = c0 * 0
    w0, w1, w2, w3 = tl.philox(seed, c0, zero + position.to(tl.uint32), zero, zero, n_rounds=10)
    return gumbel(tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3)))


@triton.jit
def _draw_kernel(
    scores: tl.tensor,
    seeds: tl.tensor,
    positions: tl.tensor,
    greedy: tl.tensor,
    tile_score: tl.tensor,
    tile_token: tl.tensor,
    row_stride: tl.int64,
    vocab_size: int,
    TILE: tl.constexpr,
) -> None:
    """The best token of one tile of one row."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    token = tile * TILE + tl.arange(0, TILE)
    score = tl.load(scores + row * row_stride + token, mask=token < vocab_size, other=float("-inf"))
    score = tl.where(score > float("-inf"), score, float("-inf"))  # NaN would lead beyond the vocabulary
    if tl.load(greedy + row) == 0:
        score += gumbel_noise(tl.load(seeds + row), tl.load(positions + row), tile * (TILE // 4), TILE // 4)
    best, index = tl.max(score, 0, return_indices=True, return_indices_tie_break_left=True)
    place = row * tl.num_programs(1) + tile
    tl.store(tile_score + place, best)
    tl.store(tile_token + place, (tile * TILE + index).to(tl.int64))


@triton.jit
def _apply_bitmask_kernel(
    logits: tl.tensor,
    bitmask: tl.tensor,
    rows: tl.tensor,
    logits_stride: tl.int64,
    bitmask_stride: tl.int64,
    vocab_size: int,
    TILE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    if rows is not None:
        row = tl.load(rows + row).to(tl.int64)
    token = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = token < vocab_size
    word = tl.load(bitmask + row * bitmask_stride + token // 32, mask=inside, other=-1)
    is_forbidden = ((word >> (token % 32)) & 1) == 0
    tl.store(logits + row * logits_stride + token, float("-inf"), mask=inside & is_forbidden)
