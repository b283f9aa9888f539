"""A transformers model that reads and writes a paged KV cache.

Tokens of all sequences are flattened into one row, `input_ids (1, num_tokens)`. The only part of the model that must
know of sequences is attention, so that is what is replaced, through transformers' `AttentionInterface`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from outrider.engine.errors import UnsupportedAttentionError
from outrider.engine.models.latent_attention import LatentModel, take_latent_layers
from outrider.engine.models.observed_module import ObservedModule
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.move_kv import move_kv
from outrider.kernels.paged_attention import (
    AttentionBatch,
    AttentionOptions,
    KvCache,
    allocate_kv,
    kv_token_bytes,
    paged_attention,
    write_kv,
)
from outrider.kernels.tiles import prefill_tile_size

INTERFACE_NAME = "outrider_paged"
LAYER_ATTRIBUTE = "outrider_attention"


class PagedAttention:
    """The cache of one model and, during a forward pass, the batch. Its layers find it by `LAYER_ATTRIBUTE`."""

    def __init__(self) -> None:
        self.caches: list[KvCache] = []  # of each layer
        self.latents: LatentModel | None = None  # in place of `caches`, where the layers hand on latents
        self.batch: AttentionBatch | None = None  # set by PagedModel.forward
        self.windows: dict[int, int | None] = {}  # what each layer has asked for
        self.num_calls = 0
        self.num_forwards = 0


def attend(
    module: nn.Module,
    query: torch.Tensor,  # (1, num_heads, num_tokens, head_dim)
    key: torch.Tensor,  # (1, num_kv_heads, num_tokens, head_dim)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """What each attention layer calls; returns (1, num_tokens, num_heads, head_dim).

    A layer with latent attention hands on its latents as `key`, its rotary keys as `value`, both with one head.

    Raises:
        UnsupportedAttentionError: the layer asks for more than plain causal attention.
    """
    attention = getattr(module, LAYER_ATTRIBUTE)
    assert isinstance(attention, PagedAttention)
    assert attention.batch is not None
    if attention_mask is not None:
        raise UnsupportedAttentionError("a mask of its own")
    attention.num_calls += 1
    layer = module.layer_idx
    assert isinstance(layer, int)
    attention.windows[layer] = sliding_window
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention.latents is not None:
        if sliding_window is not None or softcap is not None or s_aux is not None:
            raise UnsupportedAttentionError("latent attention with a window, capped scores or sinks")
        latents = attention.latents.layers[layer]
        latent, rope_key = key[0, 0], value[0, 0]
        cache = attention.latents.caches[layer]
        return latents.attend(query[0].transpose(0, 1), latent, rope_key, cache, attention.batch, scale)[None], None
    kv_cache = attention.caches[layer]
    write_kv(key[0].transpose(0, 1), value[0].transpose(0, 1), kv_cache, attention.batch)
    rows = query[0].transpose(0, 1).contiguous()
    options = AttentionOptions(
        scale=scale,
        window=sliding_window,
        softcap=softcap,
        sinks=None if s_aux is None else s_aux.float(),
    )
    return paged_attention(rows, kv_cache, attention.batch, options)[None], None


def check_windows(config: PretrainedConfig, windows: Mapping[int, int | None]) -> None:
    """Finds layers whose window is in their mask alone, which is not built here.

    Args:
        config: of the text model
        windows: what each layer asked of `attend`

    Raises:
        UnsupportedAttentionError: a layer would read more than the model means.
    """
    layer_types = getattr(config, "layer_types", None)
    if layer_types is None:
        window = getattr(config, "sliding_window", None)
        is_used = getattr(config, "use_sliding_window", True)
        if window and is_used and window < config.max_position_embeddings and not any(windows.values()):
            raise UnsupportedAttentionError("a sliding window in its mask alone")
        return
    for layer, layer_type in enumerate(layer_types):
        if layer_type == "chunked_attention":
            raise UnsupportedAttentionError("chunked attention")
        if layer_type == "sliding_attention" and not windows.get(layer):
            raise UnsupportedAttentionError("a sliding window in its mask alone")


class PagedModel:
    """A causal language model and its KV cache."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        self.kv_dtype: torch.dtype = module.dtype
        self.attention = PagedAttention()
        config = module.config.get_text_config()
        self.device: torch.device = module.device
        self.num_layers: int = config.num_hidden_layers
        self.is_batch_invariant = False  # the loader measures it
        self.tap_layers: tuple[int, ...] = ()
        self.vocab_size: int = config.vocab_size
        self.max_model_len: int = config.max_position_embeddings
        self.num_kv_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.tile_size = prefill_tile_size(config.num_attention_heads, self.num_kv_heads)
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        # No mask function is registered under this name, so transformers builds no mask.
        AttentionInterface.register(INTERFACE_NAME, attend)
        module.set_attn_implementation(INTERFACE_NAME)
        for layer in module.modules():
            if hasattr(layer, "layer_idx"):
                setattr(layer, LAYER_ATTRIBUTE, self.attention)
        self.attention.latents = take_latent_layers(module, module.dtype)
        self._observed = ObservedModule(module)

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the keys and values of so many tokens take."""
        if self.attention.latents is not None:
            return self.attention.latents.kv_bytes(num_tokens)
        return self.num_layers * kv_token_bytes(self.num_kv_heads, self.head_dim, self.kv_dtype) * num_tokens

    def allocate_cache(self, num_blocks: int, block_size: int) -> None:
        """Makes a new, empty cache; the pages of memory are taken when first written."""
        if self.attention.latents is not None:
            self.attention.latents.allocate_cache(num_blocks, block_size, self.device)
            return
        self.attention.caches = [
            allocate_kv(num_blocks, self.num_kv_heads, block_size, self.head_dim, self.kv_dtype, self.device)
            for _ in range(self.num_layers)
        ]

    def move_kv(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """As `ServedModel.move_kv`."""
        if self.attention.latents is not None:
            self.attention.latents.move(source, target)
            return
        move_kv(self.attention.caches, source, target)

    @torch.inference_mode()
    def forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor
    ) -> ModelOutput:
        """As `ServedModel.forward`."""
        self.attention.batch = batch
        self.attention.num_forwards += 1
        try:
            return self._observed.forward(token_ids, positions, logit_rows)
        finally:
            self.attention.batch = None

    def tap(self, layers: Sequence[int]) -> None:
        """As `ServedModel.tap`."""
        self._observed.tap(layers)
        self.tap_layers = tuple(layers)

    @torch.inference_mode()
    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.embed`."""
        return self._observed.embed(token_ids)

    @torch.inference_mode()
    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.output_logits`."""
        return self._observed.output_logits(hidden)
