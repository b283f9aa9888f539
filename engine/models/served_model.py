"""What the engine asks of a model, whichever way it is run."""

from collections.abc import Sequence
from typing import Protocol

import torch

from outrider.engine.errors import LoadError
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.paged_attention import AttentionBatch


class ServedModel(Protocol):
    """A causal language model and its paged KV cache."""

    device: torch.device
    kv_dtype: torch.dtype  # of the next cache: the model's own, or int8 on the CPU
    tile_size: int  # neighbouring rows that a GPU best attends to together
    num_layers: int
    tap_layers: tuple[int, ...]  # whose inputs `forward` gives; `tap` sets them
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
    ) -> ModelOutput:
        """Runs the rows, writes their keys and values, and returns their logits, hidden states and taps.

        All tensors are on the model's device.

        Args:
            token_ids: (num_rows,) int64
            positions: (num_rows,) int64
            batch: where the rows belong
            logit_rows: (num_logit_rows,) int64, the rows whose logits are wanted, at least one
        """
        ...

    def tap(self, layers: Sequence[int]) -> None:
        """Has `forward` give the inputs of these layers, side by side; none by default.

        Args:
            layers: in ascending order; `num_layers` stands for what is behind the final norm, which is given for all
                rows then, and not only for those whose logits are wanted

        Raises:
            LoadError: they are not layers of the model in ascending order, or its layers cannot be told apart.
        """
        ...

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """What the module of the input embeddings makes of token ids (n,) int64: (n, hidden_size) in the model's dtype.

        A multiplier that a family applies to it later (Granite's) is not in it.
        """
        ...

    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output layer and all that the model does to its scores: float32 logits (n, vocab_size).

        A row's bits are `forward`'s wherever the model is batch invariant.

        Args:
            hidden: (n, hidden_size) in the model's dtype, behind the final norm, as `forward` gives them
        """
        ...


def check_taps(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The layers, if a model of so many can be tapped at them.

    Raises:
        LoadError: they are not layers of the model in ascending order.
    """
    taps = tuple(layers)
    if list(taps) != sorted(set(taps)) or not set(taps) <= set(range(num_layers + 1)):
        raise LoadError(f"tap layers {list(taps)}: name each once, in ascending order, from 0 to {num_layers}")
    return taps
