"""Copies keys and values from one place of the paged cache to another: where an accepted branch of a tree belongs."""

from collections.abc import Sequence

import torch


def move_kv(
    key_caches: Sequence[torch.Tensor],
    value_caches: Sequence[torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
) -> None:
    """Moves tokens in all layers' caches; all are read before the first is written.

    Args:
        key_caches: of each layer, as `allocate_kv` makes them
        value_caches: likewise
        source: (num_tokens, 2) int64 on the CPU, the block and the offset that each is read from
        target: likewise, where it goes
    """
    device, pair = value_caches[0].device, value_caches[0].shape[-1]
    source_block, source_offset = source.to(device).unbind(1)
    target_block, target_offset = target.to(device).unbind(1)
    for keys, values in zip(key_caches, value_caches, strict=True):
        keys[target_block, :, :, target_offset] = keys[source_block, :, :, source_offset]
        moved = values[source_block, :, source_offset // pair, :, source_offset % pair]
        values[target_block, :, target_offset // pair, :, target_offset % pair] = moved
