"""Copies keys and values from one place of the paged cache to another: where an accepted branch of a tree belongs."""

from collections.abc import Sequence

import torch

from outrider.kernels.paged_attention import KvCache


def move_kv(caches: Sequence[KvCache], source: torch.Tensor, target: torch.Tensor) -> None:
    """Moves tokens in all layers' caches; all are read before the first is written.

    Args:
        caches: of each layer
        source: (num_tokens, 2) int64 on the CPU, the block and the offset that each is read from
        target: likewise, where it goes
    """
    device, pair = caches[0].values.device, caches[0].values.shape[-1]
    source_block, source_offset = source.to(device).unbind(1)
    target_block, target_offset = target.to(device).unbind(1)
    for cache in caches:
        keys, values = cache.keys, cache.values
        keys[target_block, :, :, target_offset] = keys[source_block, :, :, source_offset]
        moved = values[source_block, :, source_offset // pair, :, source_offset % pair]
        values[target_block, :, target_offset // pair, :, target_offset % pair] = moved
        for scales in (cache.key_scales, cache.value_scales):
            if scales is not None:
                scales[target_block, :, target_offset] = scales[source_block, :, source_offset]
