"""Draws one token per row by the Gumbel-max rule: argmax over tokens of score + noise(seed, position, token).

Scores are what temperature, top-k, top-p and min-p make of logits. A pure function of its arguments, row by row: no
generator state, so the same draw can be repeated anywhere. Implementations: C on the CPU, all in one pass over a row's
memory; on a GPU torch filters and Triton draws, whose noise is rounded to float32 a little differently; torch and numpy
where neither is there, and as the definition.
"""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from outrider.kernels.build import load_library
from outrider.kernels.filters import filter_scores
from outrider.kernels.philox import gumbel


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row is drawn. At temperature 0 the highest score wins without noise, the lowest token on ties."""

    seed: int  # 64-bit
    position: int  # absolute, of the token to be drawn
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    keeps_scores: bool = False


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """Draws one token id per row; None for a row that is not numbers, or whose every token is forbidden.

    Args:
        logits: (num_rows, vocab_size) float32, contiguous, -inf where a token is forbidden; may be overwritten. A row
            with `keeps_scores` that is drawn with noise holds afterwards what it was drawn from: log-probabilities up
            to a constant, the highest 0
        draws: one per row
    """
    kernel = _cpu_kernel() if logits.device.type == "cpu" else None
    if kernel is not None:
        return _sample_in_c(kernel, logits, draws)
    return _sample_on_gpu(logits, draws) if logits.is_cuda else sample_reference(logits, draws)


def sample_several(logits: torch.Tensor, draws: Sequence[Draw], count: int) -> list[list[tuple[int, float]]]:
    """For each row the tokens that would be drawn one after the other if those before were forbidden.

    With each comes how likely it seems, from 0 to 1: at temperature 0 its share of the softmax; else its share of the
    softmax over the returned tokens' scores with their noise, which tells how far the first is ahead of the others. A
    row has fewer than `count` where nothing more can be drawn.

    Args:
        logits: as for `sample`, and left as they are
        draws: one per row; none keeps scores
        count: 1 to 64
    """
    kernel = several_kernel() if logits.device.type == "cpu" else None
    return several_reference(logits, draws, count) if kernel is None else _several_in_c(kernel, logits, draws, count)


def several_reference(logits: torch.Tensor, draws: Sequence[Draw], count: int) -> list[list[tuple[int, float]]]:
    """The definition of `sample_several`."""
    left = logits.clone()
    tokens: list[list[int]] = [[] for _ in draws]
    for _ in range(count):
        for row, token_id in enumerate(sample(left.clone(), draws)):
            if token_id is not None:
                tokens[row].append(token_id)
                left[row, token_id] = -torch.inf
    shares = logits.softmax(-1)
    found: list[list[tuple[int, float]]] = []
    for row, (draw, mine) in enumerate(zip(draws, tokens, strict=True)):
        chances = shares[row, mine]
        if draw.temperature > 0 and mine:
            noise = torch.from_numpy(gumbel(draw.seed, draw.position, np.array(mine))).to(logits.device)
            chances = (logits[row, mine] / draw.temperature + noise).softmax(-1)
        found.append(list(zip(mine, chances.tolist(), strict=True)))
    return found


def sample_reference(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """The definition of `sample`, in torch and numpy."""
    is_usable = logits.amax(dim=-1).isfinite().tolist()  # no for NaN, for infinity, and where all is forbidden
    noisy = [row for row, draw in enumerate(draws) if is_usable[row] and draw.temperature > 0]
    leaders: list[int] = logits.argmax(dim=-1).tolist()
    if noisy:
        scores = logits[noisy]
        mine = [draws[row] for row in noisy]
        scale_and_filter(scores, mine)
        logits[noisy] = scores
        seeds, positions = [draw.seed for draw in mine], [draw.position for draw in mine]
        drawn = draw_reference(scores, [leaders[row] for row in noisy], seeds, positions)
        for row, token_id in zip(noisy, drawn, strict=True):
            leaders[row] = token_id
    return [token_id if usable else None for token_id, usable in zip(leaders, is_usable, strict=True)]


def scale_and_filter(scores: torch.Tensor, draws: Sequence[Draw]) -> None:
    """Temperature and filters, in place, on rows (num_rows, vocab_size) that are drawn with noise."""
    device = scores.device
    temperatures = torch.tensor([draw.temperature for draw in draws], dtype=torch.float32, device=device)
    # Relative to the leader, so that nothing overflows.
    scores.sub_(scores.amax(-1, keepdim=True)).mul_(1.0 / temperatures[:, None])
    filter_scores(
        scores,
        torch.tensor([draw.top_k for draw in draws], device=device),
        torch.tensor([draw.top_p for draw in draws], dtype=torch.float64, device=device),
        torch.tensor([draw.min_p for draw in draws], dtype=torch.float64, device=device),
    )


def draw_reference(scores: torch.Tensor, leaders: list[int], seeds: list[int], positions: list[int]) -> list[int]:
    """The draw itself, over every token that is not forbidden; `leaders` is what a row without any draws."""
    drawn: list[int] = []
    for row, leader, seed, position in zip(scores.cpu().numpy(), leaders, seeds, positions, strict=True):
        candidates = np.flatnonzero(row > -np.inf)
        noisy = row[candidates] + gumbel(seed, position, candidates)
        drawn.append(int(candidates[noisy.argmax()]) if len(candidates) else leader)
    return drawn


class _Draw(ctypes.Structure):
    """`struct draw` of filter.h."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("position", ctypes.c_int64),
        ("top_k", ctypes.c_int64),
        ("top_p", ctypes.c_double),
        ("min_p", ctypes.c_double),
        ("temperature", ctypes.c_float),
        ("keeps_scores", ctypes.c_int32),
    )


def draw_structs(draws: Sequence[Draw]) -> "ctypes.Array[_Draw]":
    """The draws as C reads them."""
    return (_Draw * len(draws))(
        *(
            _Draw(one.seed, one.position, one.top_k, one.top_p, one.min_p, one.temperature, one.keeps_scores)
            for one in draws
        )
    )


def _check(logits: torch.Tensor) -> None:
    if not logits.is_contiguous() or logits.dtype != torch.float32:
        raise ValueError(f"sample takes contiguous float32 logits, not {logits.dtype} of strides {logits.stride()}")


def _sample_in_c(kernel: "ctypes._NamedFuncPointer", logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | None]:
    _check(logits)
    num_rows, vocab_size = logits.shape
    drawn = (ctypes.c_int64 * num_rows)()
    if kernel(logits.data_ptr(), draw_structs(draws), drawn, num_rows, vocab_size, torch.get_num_threads()) != 0:
        raise MemoryError(f"sample has no memory for {vocab_size} scores a thread")
    return [None if token_id < 0 else token_id for token_id in drawn]


def _several_in_c(
    kernel: "ctypes._NamedFuncPointer", logits: torch.Tensor, draws: Sequence[Draw], count: int
) -> list[list[tuple[int, float]]]:
    _check(logits)
    num_rows, vocab_size = logits.shape
    tokens, chances = (ctypes.c_int64 * (num_rows * count))(), (ctypes.c_float * (num_rows * count))()
    num_threads = torch.get_num_threads()
    if kernel(logits.data_ptr(), draw_structs(draws), count, tokens, chances, num_rows, vocab_size, num_threads) != 0:
        raise MemoryError(f"sample has no memory for {vocab_size} scores a thread")
    places = [range(row * count, (row + 1) * count) for row in range(num_rows)]
    return [[(tokens[place], chances[place]) for place in mine if tokens[place] >= 0] for mine in places]


def _sample_on_gpu(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """One wait for the GPU, at the end."""
    is_usable = logits.amax(dim=-1).isfinite()
    noisy = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    if noisy:
        scores = logits[noisy]
        scale_and_filter(scores, [draws[row] for row in noisy])
        logits[noisy] = scores
    drawn = _sample_in_triton(
        logits,
        [draw.seed for draw in draws],
        [draw.position for draw in draws],
        [draw.temperature == 0 for draw in draws],
    )
    return [int(token_id) if token_id >= 0 else None for token_id in torch.where(is_usable, drawn, -1).tolist()]


def _sample_in_triton(scores: torch.Tensor, seeds: list[int], positions: list[int], greedy: list[bool]) -> torch.Tensor:
    from outrider.kernels.gpu.sample import sample_on_gpu  # noqa: PLC0415 - Triton is loaded only where it is used

    device = scores.device
    return sample_on_gpu(
        scores,
        torch.tensor(seeds, dtype=torch.uint64, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(greedy, device=device),
    )


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("sample")
    if library is None:
        return None
    function = library.outrider_sample
    function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 3
    function.restype = ctypes.c_int
    return function


@functools.cache
def several_kernel() -> "ctypes._NamedFuncPointer | None":
    """`sample_several` in C, None where it cannot be built."""
    library = load_library("sample")
    if library is None:
        return None
    function = library.outrider_sample_several
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        *[ctypes.c_void_p] * 2,
        *[ctypes.c_int64] * 3,
    ]
    function.restype = ctypes.c_int
    return function
