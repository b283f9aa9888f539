"""Bitmasks and logits."""

import pytest
import torch

from outrider.structured.mask import allocate_bitmask, apply_bitmask


@pytest.mark.parametrize("vocab_size", [32, 33, 1000, 4099])
def test_masks_forbid_by_bit(vocab_size: int) -> None:
    """A cleared bit is minus infinity, whatever the vocabulary's size; other rows stay as they are."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, vocab_size, generator=generator)
    bitmask = torch.randint(-(2**31), 2**31, (3, -(-vocab_size // 32)), generator=generator, dtype=torch.int64).int()
    expected = logits.clone()
    for row in (0, 2):
        for token_id in range(vocab_size):
            if not (int(bitmask[row, token_id // 32]) >> (token_id % 32)) & 1:
                expected[row, token_id] = -torch.inf

    apply_bitmask(logits, bitmask, [0, 2])

    assert torch.equal(expected, logits)


def test_a_new_mask_allows_everything() -> None:
    """Rows that nobody fills change nothing."""
    logits = torch.zeros(2, 100)

    apply_bitmask(logits, allocate_bitmask(2, 100))
    apply_bitmask(logits, torch.zeros(2, 4, dtype=torch.int32), [])

    assert torch.equal(torch.zeros(2, 100), logits)
