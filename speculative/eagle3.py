"""The EAGLE-3 head: one decoder layer that guesses on from the target's own features.

Owns the module, whose parameter names are those of the published checkpoints, and its files. The paper is Li et al.,
"EAGLE-3: Scaling up Inference Acceleration of Large Language Models via Training-Time Test", 2025. How it is trained
is in `training/eagle3.py`. Layers are counted as the published configurations of vLLM and speculators count them: tap
k is the *input* of layer k, which transformers returns as `hidden_states[k]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import silu

from outrider.speculative.files import CheckpointError, read_config, read_tensors, write_checkpoint

ARCHITECTURE: Final = "LlamaForCausalLMEagle3"

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Eagle3Config:
    """The shape of a head; `target_hidden_size` and `vocab_size` are the target's."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    target_hidden_size: int
    vocab_size: int
    draft_vocab_size: int
    tap_layers: tuple[int, ...]
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    max_length: int = 2048
    norm_before_residual: bool = False


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., size) in and out, in the dtype of `x`."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)).to(x.dtype) * self.weight


class _Attention(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.config = config
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        # The input is the token's embedding beside the feature.
        self.q_proj = nn.Linear(2 * config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(2 * config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(2 * config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        heads = (self.config.head_dim,)
        q = rotate(self.q_proj(x).unflatten(-1, (-1, *heads)), positions, self.config.rope_theta)
        k = rotate(self.k_proj(x).unflatten(-1, (-1, *heads)), positions, self.config.rope_theta)
        v = self.v_proj(x).unflatten(-1, (-1, *heads))
        out: torch.Tensor = self.o_proj(attend(q, k, v).flatten(-2))
        return out


class _MLP(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Midlayer(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self._norm_before_residual = config.norm_before_residual
        self.self_attn = _Attention(config)
        self.mlp = _MLP(config)
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


def rotate(x: torch.Tensor, positions: torch.Tensor, theta: float) -> torch.Tensor:
    """Rotary position embedding, halves rotated as in Llama; x (..., num_tokens, num_heads, head_dim)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = (positions.float()[..., None] * frequencies)[..., None, :]  # (..., num_tokens, 1, half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half].float(), x[..., half:].float()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def default_taps(num_layers: int) -> tuple[int, ...]:
    """Low, middle and high layer inputs: the paper's 2, L/2 and L - 3; closer to the ends of a shallow target."""
    return (1, num_layers // 2, num_layers - 1) if num_layers < 8 else paper_taps(num_layers)


def paper_taps(num_layers: int) -> tuple[int, ...]:
    """What a published configuration means that names no layers."""
    return (2, num_layers // 2, num_layers - 3)


def save_eagle3(head: Eagle3Head, folder: Path, card: str) -> None:
    """Writes config.json and model.safetensors as published heads have them, in bfloat16."""
    config = head.config
    written = {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "num_hidden_layers": 1,
        "target_hidden_size": config.target_hidden_size,
        "vocab_size": config.vocab_size,
        "draft_vocab_size": config.draft_vocab_size,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "norm_before_residual": config.norm_before_residual,
        # Programs disagree on whether k means the input or the output of layer k; here it is the input.
        "eagle_config": {
            "eagle_aux_hidden_state_layer_ids": list(config.tap_layers),
            "layer_ids_name": "layer inputs",
            "use_aux_hidden_state": True,
        },
    }
    tensors = {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in head.state_dict().items()
    }
    if head.knows_all:
        del tensors["d2t"], tensors["t2d"]
    write_checkpoint(folder, written, tensors, card)


def load_eagle3(folder: Path, num_layers: int) -> Eagle3Head:
    """A head in float32 from a folder with `midlayer.*` or, as speculators writes it, `layers.0.*` weights.

    `num_layers` is the target's: a configuration without tap layers means the paper's, which follow from it.

    Raises:
        CheckpointError: the folder is not an EAGLE-3 head, or it lacks something; the message names it.
    """
    written = read_config(folder)
    config = _parse_config(folder, written, num_layers)
    tensors = {name.replace("layers.0.", "midlayer.", 1): tensor for name, tensor in read_tensors(folder).items()}
    head = Eagle3Head(config)
    wanted = head.state_dict()
    # Absent where the draft vocabulary is the whole vocabulary: what the module starts with is right then.
    if head.knows_all:
        tensors = {"d2t": wanted["d2t"], "t2d": wanted["t2d"]} | tensors
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"the EAGLE-3 head `{folder}` lacks the tensor `{name}`")
        if tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            raise CheckpointError(
                f"`{name}` of `{folder}` has shape {found}, its config.json means {tuple(tensor.shape)}"
            )
    unknown = tensors.keys() - wanted.keys()
    if unknown:
        raise CheckpointError(f"the EAGLE-3 head `{folder}` has the tensor `{min(unknown)}`, which is not supported")
    head.load_state_dict({name: tensors[name] for name in wanted})
    return head.float()


def _parse_config(folder: Path, written: dict[str, Any], num_layers: int) -> Eagle3Config:
    layer = written.get("transformer_layer_config") or written  # the speculators format nests the layer
    eagle = written.get("eagle_config") or written
    for flag in ("fc_norm", "norm_output", "norm_before_fc"):
        if written.get(flag) or eagle.get(flag):
            raise CheckpointError(f"config.json of `{folder}` sets `{flag}`, a kind of EAGLE-3 that is not supported")
    try:
        hidden, heads = layer["hidden_size"], layer["num_attention_heads"]
        rope = layer.get("rope_parameters") or layer
        return Eagle3Config(
            hidden_size=hidden,
            intermediate_size=layer["intermediate_size"],
            num_attention_heads=heads,
            num_key_value_heads=layer.get("num_key_value_heads", heads),
            head_dim=layer.get("head_dim") or hidden // heads,
            target_hidden_size=written.get("target_hidden_size") or hidden,
            vocab_size=layer["vocab_size"],
            draft_vocab_size=written.get("draft_vocab_size") or layer["vocab_size"],
            tap_layers=tuple(eagle.get("eagle_aux_hidden_state_layer_ids") or paper_taps(num_layers)),
            rms_norm_eps=layer.get("rms_norm_eps", 1e-5),
            rope_theta=rope.get("rope_theta", 10_000.0),
            max_length=layer.get("max_position_embeddings", 2048),
            norm_before_residual=bool(written.get("norm_before_residual", False)),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"config.json of `{folder}` is not that of an EAGLE-3 head: {error}") from error
