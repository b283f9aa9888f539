"""A copying circuit that the model has before it learns anything.

Small models spend most of a short training on finding out how to copy: a head that looks one token back, and a head
above it that looks for what followed the present token before ("induction heads", Olsson et al., 2022). Here both are
written into the first two layers by hand, for each key-value head; training then refines what it likes. All other
layers start by adding nothing.
"""

import math
from typing import Final

import torch
from transformers import LlamaForCausalLM

# What every embedding has in its first coordinate, in standard deviations of the others, so that a query can depend on
# positions alone.
_CONSTANT: Final = 3.0
HEAD_DIM: Final = 64
ROPE_THETA: Final = 500_000.0
_SCALE: Final = 0.08
# Rotations of the first pairs are fast enough to tell neighbours apart; those below this are slow enough for content.
_NUM_FAST: Final = 12
_SLOW: Final = 0.004


def install_copying(model: LlamaForCausalLM, seed: int) -> None:
    """Writes the circuit into a fresh model of two layers or more, in place.

    It needs heads of HEAD_DIM and a rotary base of ROPE_THETA, which leaves slow rotations. Untrained models of hidden
    sizes 384 and 128 then continue a repeated random sequence of 60 tokens rightly in 57 and 49 of 100 places.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    hidden, size, num_groups = config.hidden_size, config.head_dim, config.num_key_value_heads
    assert size is not None
    assert num_groups is not None
    group = config.num_attention_heads // num_groups
    rotations = ROPE_THETA ** (-torch.arange(size // 2) / (size // 2))
    slow = (rotations < _SLOW).nonzero().flatten()
    content = torch.cat((slow, slow + size // 2))
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        # Larger than usual: the optimiser's first steps would otherwise scramble what the circuit matches.
        embedding.mul_(_SCALE / config.initializer_range)
        embedding[:, 0] = _CONSTANT * _SCALE
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for head in range(num_groups):
            shared = slice(head * size, (head + 1) * size)
            own = slice(head * group * size, (head * group + 1) * size)
            read, write = _projection(size, hidden, generator), _columns(hidden, size, generator)

            # One token back: the query is the key, rotated by one position.
            previous = model.model.layers[0].self_attn
            fast = rotations[:_NUM_FAST]
            previous.k_proj.weight[shared] = 0
            previous.k_proj.weight[shared][:_NUM_FAST, 0] = 2.2
            previous.q_proj.weight[own] = 0
            previous.q_proj.weight[own][:_NUM_FAST, 0] = 2.2 * torch.cos(fast)
            previous.q_proj.weight[own][size // 2 : size // 2 + _NUM_FAST, 0] = -2.2 * torch.sin(fast)
            previous.v_proj.weight[shared] = read
            previous.o_proj.weight[:, own] = 0.1276 * math.sqrt(hidden) * _SCALE * write

            # What followed: the present token is looked for among those that stood one back.
            following = model.model.layers[1].self_attn
            following.k_proj.weight[shared] = 0
            following.k_proj.weight[shared.start + content] = 2.0 * write.T[: len(content)]
            following.q_proj.weight[own] = 0
            following.q_proj.weight[own.start + content] = 3.5 * read[: len(content)]
            value = _projection(size, hidden, generator)
            following.v_proj.weight[shared] = value
            following.o_proj.weight[:, own] = 12.5 * _SCALE * value.T


def _projection(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """Random rows of about unit length that do not read the constant."""
    projection = torch.randn(rows, columns, generator=generator) / math.sqrt(columns)
    projection[:, 0] = 0
    return projection


def _columns(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal columns that do not write the constant."""
    basis: torch.Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]
    basis[0] = 0
    return basis
