"""What makes tokens impossible by their rank or probability: top-k, top-p, min-p and typical-p, for many rows at once.

Every row has its own limits, and what a row keeps depends on that row alone, to the last bit: only operations that go
through a row in one order are used (softmax, cumsum, sort), as a sum may be split among threads when rows are few.
Scores are log-probabilities up to a constant per row, forbidden ones -inf.
"""

import math
from collections.abc import Sequence as SequenceOf
from typing import Final

import torch

from outrider.engine.protocol import SamplingParams

# Top-p mostly ends within so many candidates, which are found without sorting the vocabulary.
_CANDIDATES: Final = 512


def filter_scores(scores: torch.Tensor, params: SequenceOf[SamplingParams]) -> None:
    """Forbids, in place, what each row's parameters exclude, in the order top-k, top-p, min-p, typical-p.

    Args:
        scores: (num_rows, vocab_size) float32, the highest of each row 0
        params: of each row
    """
    ranked = [index for index, row in enumerate(params) if _has_top_k(row, scores.shape[-1]) or row.top_p < 1.0]
    if ranked:
        _keep_top(scores, ranked, [params[index] for index in ranked])
    if any(row.min_p > 0.0 for row in params):
        lowest = torch.tensor([math.log(row.min_p) if row.min_p > 0.0 else -math.inf for row in params])
        scores.masked_fill_(scores < lowest[:, None], -math.inf)
    typical = [index for index, row in enumerate(params) if row.typical_p < 1.0]
    if typical:
        _keep_typical(scores, typical, torch.tensor([params[index].typical_p for index in typical]))


def _has_top_k(params: SamplingParams, vocab_size: int) -> bool:
    return 0 < params.top_k < vocab_size


def _keep_top(scores: torch.Tensor, rows: list[int], params: list[SamplingParams]) -> None:
    """Top-k, then top-p over what it left; equal scores rank by token id."""
    vocab_size = scores.shape[-1]
    index = torch.tensor(rows)
    chosen = scores[index]  # (num_rows, vocab_size)
    top_k = torch.tensor([row.top_k if _has_top_k(row, vocab_size) else vocab_size for row in params])
    top_p = torch.tensor([row.top_p for row in params])
    is_short = torch.zeros(len(rows), dtype=torch.bool)
    if vocab_size > _CANDIDATES:
        best = chosen.topk(_CANDIDATES, dim=-1)
        is_short = _are_enough(best.values, chosen.softmax(-1).gather(-1, best.indices), top_k, top_p, vocab_size)
        ids = best.indices[is_short].sort(dim=-1).values
        _keep_best(scores, index[is_short], ids, top_k[is_short], top_p[is_short])
    rest = ~is_short
    if bool(rest.any()):
        ids = torch.arange(vocab_size).expand(int(rest.sum()), -1)
        _keep_best(scores, index[rest], ids, top_k[rest], top_p[rest])


def _are_enough(
    best: torch.Tensor, shares: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, vocab_size: int
) -> torch.Tensor:
    """Which rows keep nothing but some of their best tokens, (num_rows,); the last of these might tie with others."""
    count = best.shape[-1]
    is_clear = (best[:, -2] > best[:, -1]) | (best[:, -1] == -math.inf)
    return is_clear & ((top_k < count) | ((top_k == vocab_size) & (shares.cumsum(-1)[:, -2] > top_p)))


def _keep_best(
    scores: torch.Tensor, index: torch.Tensor, ids: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor
) -> None:
    """Of the tokens `ids`, (num_rows, count) in rising order, keeps those of the first ranks and shares."""
    chosen = scores[index]
    ordered = chosen.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    order = ids.gather(-1, ordered.indices)
    values = ordered.values.masked_fill(torch.arange(ids.shape[-1]) >= top_k[:, None], -math.inf)
    # Shares of all tokens, or of those that top-k left.
    has_top_k = (top_k < scores.shape[-1])[:, None]
    shares = torch.where(has_top_k, values.softmax(-1), chosen.softmax(-1).gather(-1, order))
    is_cut = (shares.cumsum(-1).roll(1, -1) >= top_p[:, None]) & (top_p[:, None] < 1.0)
    is_cut[:, 0] = False  # the leader always stays
    values = values.masked_fill(is_cut, -math.inf)
    scores[index] = torch.full_like(chosen, -math.inf).scatter_(-1, order, values)


def _keep_typical(scores: torch.Tensor, rows: list[int], mass: torch.Tensor) -> None:
    """Keeps the tokens whose surprise is nearest to the entropy, until their probabilities reach `mass` (num_rows,).

    Locally typical sampling, Meister et al. 2022.
    """
    index = torch.tensor(rows)
    chosen = scores[index]
    probabilities = chosen.softmax(-1)
    surprise = -probabilities.log()
    entropy = (probabilities * surprise.masked_fill(probabilities == 0, 0.0)).cumsum(-1)[:, -1:]
    order = (surprise - entropy).abs().sort(dim=-1, stable=True).indices
    is_late = probabilities.gather(-1, order).cumsum(-1).roll(1, -1) >= mass[:, None]
    is_late[:, 0] = False
    is_cut = torch.zeros_like(chosen, dtype=torch.bool).scatter_(-1, order, is_late)
    scores[index] = chosen.masked_fill(is_cut, -math.inf)
