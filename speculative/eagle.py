"""The EAGLE-1 head: one decoder layer that guesses the target's next hidden state from the last one.

Owns the module, whose parameter names are those of the published checkpoints. The papers are Li et al., "EAGLE:
Speculative Sampling Requires Rethinking Feature Uncertainty", 2024, and "EAGLE-2: Faster Inference of Language Models
with Dynamic Draft Trees", 2024, which grows other trees with the same weights. Files are in `eagle_checkpoint.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from outrider.speculative.decoder_layer import MLP, Attend, Attention, LayerConfig, RMSNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class EagleConfig(LayerConfig):
    """The shape of a head; `vocab_size` is the target's."""

    vocab_size: int
    fc_bias: bool = True

    @property
    def target_hidden_size(self) -> int:
        """The target's; the head lives in the same space."""
        return self.hidden_size

    @property
    def tap_layers(self) -> tuple[int, ...]:
        """None: the head reads the hidden state behind the target's final norm."""
        return ()


class _Layer(nn.Module):
    """A Llama layer without the norm before its attention."""

    def __init__(self, config: EagleConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config, config.hidden_size)
        self.mlp = MLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        hidden = x + self.self_attn(x, positions, attend)
        out: torch.Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class EagleHead(nn.Module):
    """Reads (embedding of token t + 1, hidden state of token t), guesses the hidden state of token t + 1.

    It is called as `Eagle3Head` is: a proposer need not know which of both it runs.
    """

    def __init__(self, config: EagleConfig) -> None:
        super().__init__()
        self.config = config
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=config.fc_bias)
        self.layers = nn.ModuleList([_Layer(config)])

    def fuse(self, features: torch.Tensor) -> torch.Tensor:
        """The target's hidden states behind its final norm as they are: (..., hidden_size)."""
        return features

    def forward(
        self, embeds: torch.Tensor, features: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """The next features, which the target's output layer reads.

        Args:
            embeds: the target's embeddings of the following tokens, (..., num_tokens, hidden_size)
            features: from `fuse`, or this module's own output, (..., num_tokens, hidden_size)
            positions: (..., num_tokens)
            attend: attention from queries (..., num_tokens, num_attention_heads, head_dim) over keys and values
                (..., num_tokens, num_key_value_heads, head_dim) and whatever it remembers
        """
        out: torch.Tensor = self.layers[0](self.fc(torch.cat((embeds, features), dim=-1)), positions, attend)
        return out

    def guesses(self, features: torch.Tensor, output: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Logits of the next token in float32: (..., hidden_size) to (..., vocab_size).

        Args:
            features: this module's output
            output: the target's output layer, hidden states behind the final norm to logits
        """
        return output(features).float()

    def to_target(self, choices: torch.Tensor) -> torch.Tensor:
        """The target's ids of places in `guesses`; the vocabulary is the target's."""
        return choices
