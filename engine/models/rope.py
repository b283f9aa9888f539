"""Rotary variants whose frequencies follow the longest position at hand: fixed once, for every request alike.

transformers' `longrope` has two sets of factors and takes the long one when any position lies beyond the length that
the model was first trained for, so that a long request would change a short one beside it. Which set holds is decided
at load, by the context that is served. (`dynamic` leaves its frequencies alone within the model's own context.)
"""

from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def pin_frequencies(module: nn.Module, config: PretrainedConfig, max_model_len: int | None) -> int | None:
    """Makes `longrope` take one set of factors: the short one, unless more than the short context is asked for.

    Args:
        module: the model
        config: of its text part
        max_model_len: the context to serve; None for as much as is exact with the short factors

    Returns:
        the context that this holds for, where it is less than the model's own
    """
    context: int | None = None
    for rotary in module.modules():
        if getattr(rotary, "rope_type", None) != "longrope":
            continue
        parameters: dict[str, Any] = config.rope_parameters
        short_context: int = parameters["original_max_position_embeddings"]
        if max_model_len is not None and max_model_len > short_context:
            device = rotary.inv_freq.device
            rotary.inv_freq, _ = ROPE_INIT_FUNCTIONS["longrope"](config, device, seq_len=short_context + 1)
            rotary.original_inv_freq = rotary.inv_freq.clone()
        else:
            context = short_context
        rotary.long_inv_freq = rotary.original_inv_freq
    return context
