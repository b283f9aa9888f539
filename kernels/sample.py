"""Draws one token per row by the Gumbel-max rule: argmax over tokens of score + noise(seed, position, token).

A pure function of its arguments, row by row: no generator state, so the same draw can be repeated anywhere.
"""

import numpy as np
import torch

from outrider.kernels.philox import gumbel

# Noise lies in [-3.14, 22.88]: a token further below the leader than the difference cannot win.
NOISE_RANGE = 26.03


def sample(scores: torch.Tensor, seeds: list[int], positions: list[int], greedy: list[bool]) -> list[int]:
    """Draws one token id per row.

    Args:
        scores: (num_rows, vocab_size) float32, unnormalised log-probabilities; -inf where a token is forbidden
        seeds: 64-bit, one per row
        positions: absolute position of the token to be drawn, one per row
        greedy: rows that take the highest score, the lowest id on ties, without noise
    """
    drawn: list[int] = scores.argmax(dim=-1).tolist()
    for row, leader in enumerate(drawn):
        if greedy[row]:
            continue
        row_scores = scores[row].numpy()
        candidates = np.flatnonzero(row_scores > row_scores[leader] - NOISE_RANGE)
        noisy = row_scores[candidates] + gumbel(seeds[row], positions[row], candidates)
        drawn[row] = int(candidates[noisy.argmax()])
    return drawn
