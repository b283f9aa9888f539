"""What the engine asks of a model, whichever way it is run."""

from typing import Protocol

import torch

from outrider.kernels.paged_attention import AttentionBatch


class ServedModel(Protocol):
    """A causal language model and its paged KV cache."""

    device: torch.device
    kv_dtype: torch.dtype  # of the next cache: the model's own, or int8 on the CPU
    tile_size: int  # neighbouring rows that a GPU best attends to together
    num_layers: int
    vocab_size: int
    max_model_len: int
    is_batch_invariant: bool  # the loader measures it

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the keys and values of so many tokens take."""
        ...

    def allocate_cache(self, num_blocks: int, block_size: int) -> None:
        """Makes a new, empty cache; the pages of memory are taken when first written."""
        ...

    def move_kv(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copies keys and values of all layers; both (num_tokens, 2) int64 on the CPU: a token's block and offset.

        All are read before the first is written.
        """
        ...

    def forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """Runs the rows, writes their keys and values, and returns float32 logits (num_logit_rows, vocab_size).

        All tensors are on the model's device.

        Args:
            token_ids: (num_rows,) int64
            positions: (num_rows,) int64
            batch: where the rows belong
            logit_rows: (num_logit_rows,) int64, the rows whose logits are wanted, at least one
        """
        ...
