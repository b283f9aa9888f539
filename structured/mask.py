"""Bitmasks over the vocabulary: one bit per token id, 32 ids per int32 word, set where the token is allowed."""

from collections.abc import Sequence

import torch
import xgrammar


def allocate_bitmask(num_rows: int, vocab_size: int) -> torch.Tensor:
    """A bitmask on the CPU that allows every token."""
    return torch.full((num_rows, -(-vocab_size // 32)), -1, dtype=torch.int32)  # (num_rows, ceil(vocab_size / 32))


def apply_bitmask(logits: torch.Tensor, bitmask: torch.Tensor, row_indices: Sequence[int] | None = None) -> None:
    """Set the logits of forbidden tokens to minus infinity, in place.

    Row i of `bitmask` (num_rows, ceil(vocab_size / 32)) belongs to row i of `logits` (num_rows, vocab_size); with
    `row_indices`, only those rows change.

        for i in row_indices: for v in range(vocab_size): if not bit(bitmask, i, v): logits[i, v] = -inf
    """
    assert bitmask.shape[1] == -(-logits.shape[1] // 32), "the bitmask is as wide as the logits"
    if row_indices is not None and not row_indices:
        return
    xgrammar.apply_token_bitmask_inplace(
        logits,
        bitmask.to(logits.device),
        vocab_size=logits.shape[1],
        indices=None if row_indices is None else list(row_indices),
    )


def row_of(token_ids: Sequence[int], vocab_size: int) -> torch.Tensor:
    """A bitmask row that allows these tokens alone."""
    bits = torch.zeros(-(-vocab_size // 32) * 32, dtype=torch.int64)
    bits[list(token_ids)] = 1
    words = (bits.view(-1, 32) << torch.arange(32)).sum(dim=1)  # (ceil(vocab_size / 32),)
    return torch.where(words < 2**31, words, words - 2**32).to(torch.int32)
