"""What a model's forward pass gives: scores of the next token, and what speculators read of the model."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Of the rows of one step; `hidden` and `taps` have the model's dtype.

    `taps` has, side by side, the inputs of the layers that are tapped: transformers' `hidden_states` of their indices.
    The last of those, whose index is the number of layers, is what is behind the final norm.
    """

    logits: torch.Tensor  # (num_logit_rows, vocab_size) float32
    hidden: torch.Tensor  # (num_logit_rows, hidden_size) behind the final norm: the logits follow from them
    taps: torch.Tensor | None  # (num_rows, num_taps * hidden_size); None where no layer is tapped
