"""Row-wise operations of a Llama-like layer, between its matrix products.

Implementations: Triton on a GPU; plain torch everywhere else, and as the definition. All compute in float32, whatever
the dtypes of their tensors, and round once at the end.
"""

from dataclasses import dataclass, replace

import torch

from outrider.kernels.paged_attention import AttentionBatch, KvCache, write_kv


@dataclass(frozen=True, slots=True)
class RotaryOptions:
    """What a layer does to the heads of queries and keys before they meet: an RMS norm where it has one, then a turn.

    `frequency` (rotary_dim / 2,) float32 is in radians a position; `scale` multiplies cosines and sines; the norms'
    weights are (head_dim,) float32, both or neither, and `epsilon` is theirs; `rotates` is false for a layer without
    rotary positions.
    """

    frequency: torch.Tensor
    scale: float = 1.0
    query_norm: torch.Tensor | None = None
    key_norm: torch.Tensor | None = None
    epsilon: float = 0.0
    rotates: bool = True


def add_rms_norm(
    x: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
    *,
    residual_scale: float = 1.0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Adds a layer's output to the residual stream, and norms the sum.

        residual += x * residual_scale
        return residual / sqrt(mean(residual ** 2) + epsilon) * weight

    Args:
        x: (num_rows, hidden_size), or None, which leaves the residual as it is
        residual: (num_rows, hidden_size), changed in place; float32 keeps small contributions of late layers
        weight: (hidden_size,) float32
        epsilon: of the norm
        residual_scale: multiplies x
        dtype: of the result, by default that of x, or of `residual` where x is None

    Returns:
        (num_rows, hidden_size)

    Raises:
        ValueError: on a GPU, for shapes, strides or dtypes that the kernel does not take.
    """
    if residual.is_cuda:
        from outrider.kernels.gpu import rows  # noqa: PLC0415 - Triton is loaded only where it is used

        return rows.add_rms_norm(x, residual, weight, epsilon, residual_scale=residual_scale, dtype=dtype)
    return add_rms_norm_reference(x, residual, weight, epsilon, residual_scale=residual_scale, dtype=dtype)


def add_rms_norm_reference(
    x: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
    *,
    residual_scale: float = 1.0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The definition of `add_rms_norm`."""
    if x is not None:
        residual.copy_(residual.float() + x.float() * residual_scale)
    return _rms_norm(residual.float(), weight, epsilon).to(dtype or (residual if x is None else x).dtype)


def rotate_and_write(  # noqa: PLR0917 - what goes in, where it goes, and how
    query_key_value: torch.Tensor,
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: RotaryOptions,
) -> None:
    """Splits rows into heads, norms and rotates queries and keys, and stores keys and values in the cache.

    The first rotary_dim values of a head turn in pairs (i, i + rotary_dim / 2), as in GPT-NeoX, by the angle
    position * frequency[i]. A row whose `write_block` is negative is padding: its query is written, its key and value
    are not.

    Args:
        query_key_value: (num_rows, (num_heads + 2 * num_kv_heads) * head_dim)
        query: (num_rows, num_heads, head_dim), overwritten
        key_cache: logically as `allocate_kv` makes it; on a GPU with P = 1, in any strides
        value_cache: likewise
        batch: positions and slots of the rows
        options: the layer's

    Raises:
        ValueError: on a GPU, for shapes, strides or dtypes that the kernel does not take.
    """
    implementation = rotate_and_write_reference
    if query.is_cuda:
        from outrider.kernels.gpu import rows  # noqa: PLC0415 - Triton is loaded only where it is used

        implementation = rows.rotate_and_write
    implementation(query_key_value, query, key_cache, value_cache, batch, options)


def rotate_and_write_reference(  # noqa: PLR0917 - as above
    query_key_value: torch.Tensor,
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    batch: AttentionBatch,
    options: RotaryOptions,
) -> None:
    """The definition of `rotate_and_write`."""
    num_heads, head_dim = query.shape[1:]
    num_kv_heads = key_cache.shape[1]
    heads = query_key_value.float().unflatten(1, (-1, head_dim))  # (num_rows, num_heads + 2 * num_kv_heads, head_dim)
    queries, keys, values = heads.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    if options.query_norm is not None and options.key_norm is not None:
        queries = _rms_norm(queries, options.query_norm, options.epsilon)
        keys = _rms_norm(keys, options.key_norm, options.epsilon)
    if options.rotates:
        angle = (batch.row_position.float()[:, None] * options.frequency)[:, None]  # (num_rows, 1, rotary_dim / 2)
        cosine, sine = angle.cos() * options.scale, angle.sin() * options.scale
        queries, keys = _rotate(queries, cosine, sine), _rotate(keys, cosine, sine)
    query.copy_(queries)
    kept = batch.write_block >= 0
    slots = replace(batch, write_block=batch.write_block[kept], write_offset=batch.write_offset[kept])
    cache = KvCache(key_cache, value_cache)
    write_kv(keys[kept].to(key_cache.dtype), values[kept].to(value_cache.dtype), cache, slots)


def silu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:
    """The gated activation of an MLP: silu(gate) * up.

    Args:
        gate_up: (num_rows, 2 * size), the gate first

    Returns:
        (num_rows, size), the same dtype

    Raises:
        ValueError: on a GPU, for a shape, strides or a dtype that the kernel does not take.
    """
    if gate_up.is_cuda:
        from outrider.kernels.gpu import rows  # noqa: PLC0415 - Triton is loaded only where it is used

        return rows.silu_and_multiply(gate_up)
    return silu_and_multiply_reference(gate_up)


def silu_and_multiply_reference(gate_up: torch.Tensor) -> torch.Tensor:
    """The definition of `silu_and_multiply`."""
    gate, up = gate_up.float().chunk(2, dim=1)
    return (torch.nn.functional.silu(gate) * up).to(gate_up.dtype)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight


def _rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    half = cosine.shape[-1]
    first, second, rest = heads.split([half, half, heads.shape[-1] - 2 * half], dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)
