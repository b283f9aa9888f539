"""Moving tokens within the paged cache."""

import pytest
import torch

from outrider.kernels.move_kv import move_kv
from outrider.kernels.paged_attention import KvCache, allocate_kv


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_tokens_move_with_all_that_is_theirs(dtype) -> None:
    """Keys, values and scales of every layer; what is overwritten was read before, and nothing else changes."""
    caches = [allocate_kv(2, 3, 32, 16, dtype) for _ in range(2)]
    for cache in caches:
        for tensor in parts(cache):
            tensor.copy_(torch.randint(-127, 128, tensor.shape))
    before = [torch.cat([tokens(tensor) for tensor in parts(cache)], dim=-1) for cache in caches]

    move_kv(caches, torch.tensor([[0, 30], [1, 1], [0, 7]]), torch.tensor([[0, 31], [0, 30], [1, 0]]))

    for cache, expected in zip(caches, before, strict=True):
        expected[[31, 30, 32]] = expected[[30, 33, 7]]
        assert torch.equal(torch.cat([tokens(tensor) for tensor in parts(cache)], dim=-1), expected)


def parts(cache: KvCache) -> list[torch.Tensor]:
    """Its tensors, of as many as the dtype has."""
    return [part for part in (cache.keys, cache.values, cache.key_scales, cache.value_scales) if part is not None]


def tokens(tensor: torch.Tensor) -> torch.Tensor:
    """What a tensor of 2 blocks, 3 heads and 32 tokens has of each token, (64, numbers) in float32."""
    if tensor.dim() == 3:  # scales
        return tensor.transpose(1, 2).reshape(64, -1)
    is_keys = tensor.shape[3] == 32
    order = (0, 3, 1, 2, 4) if is_keys else (0, 2, 4, 1, 3)
    return tensor.permute(order).reshape(64, -1).float()
