"""Multi-head latent attention (MLA) on a cache of latents, for transformers modules that keep theirs compressed.

Such a layer makes one latent and one rotary key per token, and its `kv_b_proj` makes every head's key and value of the
latent. Here the latents themselves are cached, and `kv_b_proj` is absorbed: its half that makes keys is applied to the
query instead, its half that makes values to the result. A token takes latent + rope numbers and not heads * dimensions.
"""

from typing import Any

import torch
from torch import nn

from outrider.engine.errors import UnsupportedAttentionError
from outrider.kernels.latent_attention import allocate_latents, latent_attention, move_latents, write_latents
from outrider.kernels.linear import Projection, can_pack, multiply, project_heads
from outrider.kernels.paged_attention import AttentionBatch


class LatentLayer:
    """The halves of one layer's `kv_b_proj`, whose weights it takes away from the layer."""

    def __init__(self, layer: Any) -> None:
        """`layer` hands its attention function latents from now on. An `Any`: each family has a class of its own."""
        self.latent_dim: int = layer.kv_lora_rank
        self.rope_dim: int = layer.qk_rope_head_dim
        sizes = [layer.qk_nope_head_dim, layer.v_head_dim]
        weight = layer.kv_b_proj.weight.detach().view(-1, sum(sizes), self.latent_dim)
        keys, values = weight.split(sizes, dim=1)  # (num_heads, head_dim, latent_dim)
        self._to_latent, self._from_latent = _HeadLinear(keys.transpose(1, 2)), _HeadLinear(values)
        del layer.kv_b_proj
        layer.expand_kv = lambda latent, rope_key: (latent, rope_key)

    def attend(  # noqa: PLR0917 - what a layer has at hand
        self,
        query: torch.Tensor,
        latent: torch.Tensor,
        rope_key: torch.Tensor,
        cache: torch.Tensor,
        batch: AttentionBatch,
        scale: float,
    ) -> torch.Tensor:
        """Writes the rows' latents and attends to those of their sequences.

        Args:
            query: (num_rows, num_heads, nope + rope)
            latent: (num_rows, latent_dim)
            rope_key: (num_rows, rope_dim)
            cache: the layer's, of latent_dim + rope_dim a token
            batch: where the rows belong
            scale: of the scores

        Returns:
            (num_rows, num_heads, value_dim)
        """
        write_latents(torch.cat((latent, rope_key), dim=-1), cache, batch)
        nope, rope = query.tensor_split([query.shape[-1] - self.rope_dim], dim=-1)
        absorbed = torch.cat((self._to_latent(nope), rope), dim=-1)  # (num_rows, num_heads, latent_dim + rope_dim)
        return self._from_latent(latent_attention(absorbed, cache, batch, scale=scale, value_dim=self.latent_dim))


class LatentModel:
    """The latent layers of one model and their caches."""

    def __init__(self, layers: dict[int, LatentLayer], dtype: torch.dtype) -> None:
        """`layers` by their `layer_idx`."""
        self.layers = layers
        self.caches: dict[int, torch.Tensor] = {}
        self._dtype = dtype

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes that the latents of so many tokens take."""
        num_values = sum(layer.latent_dim + layer.rope_dim for layer in self.layers.values())
        return num_values * self._dtype.itemsize * num_tokens

    def allocate_cache(self, num_blocks: int, block_size: int, device: torch.device) -> None:
        """Makes a new, empty cache."""
        for index, layer in self.layers.items():
            latent_dim = layer.latent_dim + layer.rope_dim
            self.caches[index] = allocate_latents(num_blocks, block_size, latent_dim, self._dtype, device)

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """As `ServedModel.move_kv`."""
        move_latents(list(self.caches.values()), source, target)


def take_latent_layers(model: nn.Module, dtype: torch.dtype) -> LatentModel | None:
    """Makes each layer with latent attention hand on its latents; None where a model has no such layers.

    Raises:
        UnsupportedAttentionError: the layers do more than what is absorbed here.
    """
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "expand_kv")]
    for module in modules:
        # An indexer picks the tokens that a row reads, but only in texts longer than those that the load compares.
        if hasattr(module, "indexer"):
            raise UnsupportedAttentionError("a sparse indexer")
        if module.kv_b_proj.bias is not None:
            raise UnsupportedAttentionError("latents that are expanded with a bias")
    layers = {module.layer_idx: LatentLayer(module) for module in modules}
    return LatentModel(layers, dtype) if layers else None


class _HeadLinear:
    """A linear layer of each head without bias: (num_rows, num_heads, num_inputs) to (..., num_outputs)."""

    def __init__(self, weight: torch.Tensor) -> None:
        """`weight` (num_heads, num_outputs, num_inputs) is packed for the CPU where that can be."""
        is_packed = weight.device.type == "cpu" and can_pack(weight.dtype) and weight.shape[-1] % 2 == 0
        self._weight: Projection | torch.Tensor = project_heads(weight) if is_packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self._weight, Projection):
            return multiply(x.contiguous(), self._weight)
        return torch.einsum("rhi,hoi->rho", x, self._weight).contiguous()
