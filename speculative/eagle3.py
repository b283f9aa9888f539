"""The EAGLE-3 head: one decoder layer that guesses on from the target's own features.

Owns the module, whose parameter names are those of the published checkpoints. The paper is Li et al., "EAGLE-3:
Scaling up Inference Acceleration of Large Language Models via Training-Time Test", 2025. How it is trained is in
`training/eagle3.py`, its files are in `eagle_checkpoint.py`. Layers are counted as the published configurations of vLLM
and speculators count them: tap k is the *input* of layer k, which transformers returns as `hidden_states[k]`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from outrider.speculative.decoder_layer import MLP, Attend, Attention, LayerConfig, RMSNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Eagle3Config(LayerConfig):
    """The shape of a head; `target_hidden_size` and `vocab_size` are the target's."""

    target_hidden_size: int
    vocab_size: int
    draft_vocab_size: int
    tap_layers: tuple[int, ...]
    norm_before_residual: bool = False


class _Midlayer(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self._norm_before_residual = config.norm_before_residual
        # The input is the token's embedding beside the feature.
        self.self_attn = Attention(config, 2 * config.hidden_size)
        self.mlp = MLP(config)
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, embeds: torch.Tensor, features: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        normed = self.hidden_norm(features)
        both = torch.cat((self.input_layernorm(embeds), normed), dim=-1)
        hidden = (normed if self._norm_before_residual else features) + self.self_attn(both, positions, attend)
        out: torch.Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class Eagle3Head(nn.Module):
    """Reads (embedding of token t + 1, feature of token t), guesses token t + 2; its output is the next feature.

    `d2t[i]` is what to add to draft token i to get the target's token; `t2d` marks the target's tokens it knows.
    """

    d2t: torch.Tensor
    t2d: torch.Tensor

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.config = config
        self.fc = nn.Linear(len(config.tap_layers) * config.target_hidden_size, config.hidden_size, bias=False)
        self.midlayer = _Midlayer(config)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.draft_vocab_size, bias=False)
        self.register_buffer("d2t", torch.zeros(config.draft_vocab_size, dtype=torch.int64))
        self.register_buffer("t2d", torch.arange(config.vocab_size) < config.draft_vocab_size)

    def use_vocabulary(self, target_ids: torch.Tensor) -> None:
        """Sets which target tokens the head can guess: ascending ids of shape (draft_vocab_size,)."""
        self.d2t = target_ids - torch.arange(len(target_ids))
        self.t2d = torch.zeros(self.config.vocab_size, dtype=torch.bool)
        self.t2d[target_ids] = True

    @property
    def knows_all(self) -> bool:
        """Whether it can guess every token of the target."""
        return self.config.draft_vocab_size == self.config.vocab_size

    @property
    def target_ids(self) -> torch.Tensor:
        """The target's id of each draft token, shape (draft_vocab_size,)."""
        return torch.arange(self.config.draft_vocab_size, device=self.d2t.device) + self.d2t

    def fuse(self, taps: torch.Tensor) -> torch.Tensor:
        """Features from the target's taps, low to high: (..., num_taps * target_hidden_size) to (..., hidden_size)."""
        features: torch.Tensor = self.fc(taps)
        return features

    def forward(
        self, embeds: torch.Tensor, features: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """The next features, not normed.

        Args:
            embeds: the target's embeddings of the following tokens, (..., num_tokens, hidden_size)
            features: fused taps, or this module's own output, (..., num_tokens, hidden_size)
            positions: (..., num_tokens)
            attend: attention from queries (..., num_tokens, num_attention_heads, head_dim) over keys and values
                (..., num_tokens, num_key_value_heads, head_dim) and whatever it remembers
        """
        out: torch.Tensor = self.midlayer(embeds, features, positions, attend)
        return out

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Over the draft vocabulary: (..., hidden_size) to (..., draft_vocab_size)."""
        out: torch.Tensor = self.lm_head(self.norm(features))
        return out

    def guesses(
        self,
        features: torch.Tensor,
        output: Callable[[torch.Tensor], torch.Tensor],  # noqa: ARG002 - what a head without an output layer uses
    ) -> torch.Tensor:
        """Logits of the next token in float32: (..., hidden_size) to (..., draft_vocab_size).

        Args:
            features: this module's output
            output: the target's output layer; the head has its own
        """
        return self.logits(features).float()

    def to_target(self, choices: torch.Tensor) -> torch.Tensor:
        """The target's ids of places in `guesses`."""
        return choices + self.d2t[choices]


def default_taps(num_layers: int) -> tuple[int, ...]:
    """Low, middle and high layer inputs: the paper's 2, L/2 and L - 3; closer to the ends of a shallow target."""
    return (1, num_layers // 2, num_layers - 1) if num_layers < 8 else paper_taps(num_layers)


def paper_taps(num_layers: int) -> tuple[int, ...]:
    """What a published configuration means that names no layers."""
    return (2, num_layers // 2, num_layers - 3)
