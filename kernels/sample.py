"""Draws one token per row by the Gumbel-max rule: argmax over tokens of score + noise(seed, position, token).

A pure function of its arguments, row by row: no generator state, so the same draw can be repeated anywhere.
Implementations: C on the CPU; numpy where it could not be built, and as the definition.
"""

import ctypes
import functools

import numpy as np
import torch

from outrider.kernels.build import load_library
from outrider.kernels.philox import gumbel


def sample(scores: torch.Tensor, seeds: list[int], positions: list[int], greedy: list[bool]) -> list[int]:
    """Draws one token id per row.

    Args:
        scores: (num_rows, vocab_size) float32, unnormalised log-probabilities; -inf where a token is forbidden
        seeds: 64-bit, one per row
        positions: absolute position of the token to be drawn, one per row
        greedy: rows that take the highest score, the lowest id on ties, without noise
    """
    leaders: list[int] = scores.argmax(dim=-1).tolist()
    noisy = [row for row, is_greedy in enumerate(greedy) if not is_greedy]
    if not noisy:
        return leaders
    kernel = _cpu_kernel() if scores.device.type == "cpu" else None
    draw = sample_reference if kernel is None else functools.partial(_sample_in_c, kernel)
    drawn = draw(
        scores if len(noisy) == len(greedy) else scores[noisy],
        [leaders[row] for row in noisy],
        [seeds[row] for row in noisy],
        [positions[row] for row in noisy],
    )
    for row, token_id in zip(noisy, drawn, strict=True):
        leaders[row] = token_id
    return leaders


def sample_reference(scores: torch.Tensor, leaders: list[int], seeds: list[int], positions: list[int]) -> list[int]:
    """The definition, over every token that is not forbidden; `leaders` is what a row without any draws."""
    drawn: list[int] = []
    for row, leader, seed, position in zip(scores.cpu().numpy(), leaders, seeds, positions, strict=True):
        candidates = np.flatnonzero(row > -np.inf)
        noisy = row[candidates] + gumbel(seed, position, candidates)
        drawn.append(int(candidates[noisy.argmax()]) if len(candidates) else leader)
    return drawn


def _sample_in_c(
    kernel: "ctypes._NamedFuncPointer",
    scores: torch.Tensor,
    leaders: list[int],
    seeds: list[int],
    positions: list[int],
) -> list[int]:
    scores = scores.contiguous()
    num_rows, vocab_size = scores.shape
    out = np.empty(num_rows, dtype=np.int64)
    arrays = (np.array(leaders), np.array(seeds, dtype=np.uint64), np.array(positions), out)
    kernel(scores.data_ptr(), *(array.ctypes.data for array in arrays), num_rows, vocab_size)
    drawn: list[int] = out.tolist()
    return drawn


@functools.cache
def _cpu_kernel() -> "ctypes._NamedFuncPointer | None":
    library = load_library("sample")
    if library is None:
        return None
    function = library.outrider_sample
    function.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 2
    function.restype = None
    return function
