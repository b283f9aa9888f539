"""What makes tokens impossible by their rank or probability: top-k, top-p, min-p and typical-p, for many rows at once.

The definition in torch; `filter.h` does the first three for the CPU without sorting. Every row has its own limits, and
what a row keeps depends on that row alone, to the last bit: only operations that go through a row in one order are used
(softmax, cumsum, sort), as a sum may be split among threads when rows are few. Scores are log-probabilities up to a
constant per row, forbidden ones -inf.
"""

import math

import torch


def filter_scores(scores: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor) -> None:
    """Forbids, in place, what each row's limits exclude, in the order top-k, top-p, min-p.

    Args:
        scores: (num_rows, vocab_size) float32, the highest of each row 0
        top_k: (num_rows,) int64, 0 for all
        top_p: (num_rows,) float64, 1 for all
        min_p: (num_rows,) float64, 0 for all
    """
    vocab_size = scores.shape[-1]
    top_k = torch.where((top_k > 0) & (top_k < vocab_size), top_k, vocab_size)
    ranked = ((top_k < vocab_size) | (top_p < 1.0)).nonzero()[:, 0]
    if len(ranked):
        chosen = scores[ranked]
        _keep_top(chosen, top_k[ranked], top_p[ranked])
        scores[ranked] = chosen
    if bool((min_p > 0.0).any()):
        scores.masked_fill_(scores < min_p.log().float()[:, None], -math.inf)


def keep_typical(scores: torch.Tensor, mass: torch.Tensor) -> None:
    """Keeps, in place, the tokens whose surprise is nearest to the entropy, until their probabilities reach `mass`.

    Locally typical sampling, Meister et al. 2022.

    Args:
        scores: (num_rows, vocab_size) float32
        mass: (num_rows,) float32
    """
    probabilities = scores.softmax(-1)
    surprise = -probabilities.log()
    entropy = (probabilities * surprise.masked_fill(probabilities == 0, 0.0)).cumsum(-1)[:, -1:]
    order = (surprise - entropy).abs().sort(dim=-1, stable=True).indices
    is_late = probabilities.gather(-1, order).cumsum(-1).roll(1, -1) >= mass[:, None]
    is_late[:, 0] = False
    scores.masked_fill_(torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, is_late), -math.inf)


def _keep_top(scores: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> None:
    """Top-k, then top-p over what it left; equal scores rank by token id."""
    ordered = scores.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(scores.shape[-1], device=scores.device)
    values = ordered.values.masked_fill(ranks >= top_k[:, None], -math.inf)
    shares = values.softmax(-1)
    is_cut = (shares.cumsum(-1, dtype=torch.float64).roll(1, -1) >= top_p[:, None]) & (top_p[:, None] < 1.0)
    is_cut[:, 0] = False  # the leader always stays
    scores.scatter_(-1, ordered.indices, values.masked_fill(is_cut, -math.inf))
