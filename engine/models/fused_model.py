"""A model of a Llama-like family, run by a decoder of the kernels instead of transformers' modules.

Owns which models those are and where their weights are found. It trusts nothing: the loader compares its logits with
those of the modules it was made from.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import check_taps
from outrider.kernels.decoder import Decoder, DecoderLayer, DecoderShape, can_decode
from outrider.kernels.draft_chains import Chain
from outrider.kernels.linear import LinearWeights
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.move_kv import move_kv
from outrider.kernels.paged_attention import DTYPES, AttentionBatch, allocate_kv, kv_token_bytes
from outrider.kernels.sample import Draw
from outrider.kernels.tiles import prefill_tile_size

if TYPE_CHECKING:
    from outrider.kernels.gpu.decoder import GpuDecoder

# Pre-norm layers with SwiGLU, rotary positions in halves and one cache per layer; differences within that are read off
# the modules.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "granite", "smollm3", "phi3")


def can_fuse(module: PreTrainedModel) -> bool:
    """Whether the model is of a family that the decoders implement, and of sizes that the device's takes."""
    config: Any = module.config
    body: Any = module.model if hasattr(module, "model") else None
    if config.model_type not in FAMILIES or config.hidden_act != "silu" or getattr(config, "mlp_bias", False):
        return False
    if module.dtype not in DTYPES:
        return False
    if module.device.type != "cpu":
        return module.device.type == "cuda"
    rotary_dim = 2 * len(body.rotary_emb.inv_freq)
    head_dim = body.layers[0].self_attn.head_dim
    return can_decode(head_dim, rotary_dim, config.hidden_size, config.intermediate_size)


class FusedModel:
    """A causal language model and its KV cache; the interface of `PagedModel`."""

    def __init__(self, module: PreTrainedModel) -> None:
        """Takes the weights away from `module`, layer by layer. `can_fuse` has said yes."""
        config: Any = module.config
        body: Any = module.model
        attention = body.layers[0].self_attn
        self.device: torch.device = module.device
        self.dtype: torch.dtype = module.dtype
        self.kv_dtype = self.dtype
        self.num_layers: int = config.num_hidden_layers
        self.is_batch_invariant = False  # the loader measures it
        self.tap_layers: tuple[int, ...] = ()
        self.vocab_size: int = config.vocab_size
        self.max_model_len: int = config.max_position_embeddings
        self.num_kv_heads: int = config.num_key_value_heads
        self.tile_size = prefill_tile_size(config.num_attention_heads, self.num_kv_heads)
        self.head_dim: int = attention.head_dim
        shape = DecoderShape(
            dtype=self.dtype,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            vocab_size=self.vocab_size,
            norm_epsilon=config.rms_norm_eps,
            attention_scale=attention.scaling,
            frequency=body.rotary_emb.inv_freq.float().contiguous(),
            rotary_scale=body.rotary_emb.attention_scaling,
            embedding_scale=getattr(config, "embedding_multiplier", 1.0),
            residual_scale=getattr(config, "residual_multiplier", 1.0),
            logit_scale=1.0 / getattr(config, "logits_scaling", 1.0),
        )
        # The embedding is read row by row, so it stays; on the CPU a tied output layer is a packed copy of it.
        embedding = body.embed_tokens.weight.detach().contiguous()
        output = _linear(module.lm_head)
        module.lm_head = nn.Identity()
        self._decoder = _decoder_type(self.device)(
            shape,
            _take_layers(body.layers, config),
            embedding=embedding,
            final_norm=_norm(body.norm),
            output=output,
            block_size=BLOCK_SIZE,
        )

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the keys and values of so many tokens take."""
        return self.num_layers * kv_token_bytes(self.num_kv_heads, self.head_dim, self.kv_dtype) * num_tokens

    def allocate_cache(self, num_blocks: int, block_size: int) -> None:
        """Makes a new, empty cache; the pages of memory are taken when first written."""
        assert block_size == BLOCK_SIZE
        self._caches = [
            allocate_kv(num_blocks, self.num_kv_heads, block_size, self.head_dim, self.kv_dtype, self.device)
            for _ in range(self.num_layers)
        ]
        self._decoder.bind_caches(self._caches)

    def move_kv(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """As `ServedModel.move_kv`."""
        move_kv(self._caches, source, target)

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002 - the batch has them
        batch: AttentionBatch,
        logit_rows: torch.Tensor,
    ) -> ModelOutput:
        """As `ServedModel.forward`."""
        return self._decoder.forward(token_ids, batch, logit_rows)

    @property
    def drafts_in_one_call(self) -> bool:
        """Whether `draft_chains` is there."""
        return isinstance(self._decoder, Decoder)

    def draft_chains(
        self,
        logits: torch.Tensor,
        draws: Sequence[Draw],
        most: Sequence[int],
        min_probability: float,
        batch: AttentionBatch,
    ) -> list[Chain]:
        """As `Decoder.draft_chains`."""
        assert isinstance(self._decoder, Decoder)
        return self._decoder.draft_chains(logits, draws, most, min_probability, batch)

    def tap(self, layers: Sequence[int]) -> None:
        """As `ServedModel.tap`."""
        self.tap_layers = check_taps(layers, self.num_layers)
        self._decoder.tap(self.tap_layers)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.embed`."""
        return self._decoder.embed(token_ids)

    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.output_logits`."""
        return self._decoder.output_logits(hidden)


def _decoder_type(device: torch.device) -> "type[Decoder | GpuDecoder]":
    if device.type == "cpu":
        return Decoder
    from outrider.kernels.gpu.decoder import GpuDecoder  # noqa: PLC0415 - needs no Triton where there is no GPU

    return GpuDecoder


def _take_layers(layers: Any, config: Any) -> Iterator[DecoderLayer]:
    """The layers' weights, each layer's modules gone once the next one is asked for."""
    for index, layer in enumerate(layers):
        yield _fused_layer(layer, index, config)
        layer.self_attn, layer.mlp = nn.Identity(), nn.Identity()


def _fused_layer(layer: Any, index: int, config: Any) -> DecoderLayer:
    attention, mlp = layer.self_attn, layer.mlp
    gate, up = _gate_and_up(mlp)
    no_rope = getattr(config, "no_rope_layers", None)
    return DecoderLayer(
        attention_norm=_norm(layer.input_layernorm),
        query_key_value=_query_key_value(attention),
        attention_output=_linear(attention.o_proj),
        mlp_norm=_norm(layer.post_attention_layernorm),
        gate=gate,
        up=up,
        down=_linear(mlp.down_proj),
        query_norm=_norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        key_norm=_norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
        window=attention.sliding_window if hasattr(attention, "sliding_window") else _own_window(config),
        rotates=no_rope is None or bool(no_rope[index]),
    )


def _own_window(config: Any) -> int | None:
    """The window of families that have one for all layers; others tell it layer by layer, or have none."""
    window: int | None = config.sliding_window if config.model_type in {"mistral", "phi3"} else None
    return window


def _norm(norm: Any) -> torch.Tensor:
    weight: torch.Tensor = norm.weight
    return weight.detach().float().contiguous()


def _linear(linear: Any) -> LinearWeights:
    return LinearWeights(linear.weight.detach(), None if linear.bias is None else linear.bias.detach())


def _query_key_value(attention: Any) -> LinearWeights:
    if hasattr(attention, "qkv_proj"):
        return _linear(attention.qkv_proj)
    linears = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = torch.cat([linear.weight.detach() for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.detach() for linear in linears])
    return LinearWeights(weight, bias)


def _gate_and_up(mlp: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if hasattr(mlp, "gate_up_proj"):
        gate, up = mlp.gate_up_proj.weight.detach().chunk(2)
        return gate, up
    return mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()
