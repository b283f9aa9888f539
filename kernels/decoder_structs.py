"""The structs of `decoder.c` as ctypes has them: fields, order and meaning are there."""

import ctypes

from outrider.kernels.paged_attention import AttentionShape


class Matrix(ctypes.Structure):
    """A packed linear layer."""

    _fields_ = (
        ("panels", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("num_inputs", ctypes.c_int64),
        ("num_outputs", ctypes.c_int64),
    )


class Layer(ctypes.Structure):
    """One layer's weights and cache."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, Matrix) for name in ("query_key_value", "attention_output", "gate_up", "down")),
        ("key_cache", ctypes.c_void_p),
        ("value_cache", ctypes.c_void_p),
        ("window", ctypes.c_int64),
        ("rotates", ctypes.c_int64),
        ("tap", ctypes.c_int64),
    )


class DecoderWeights(ctypes.Structure):
    """`struct decoder`: all that holds for every step."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "dtype",
                "hidden_size",
                "intermediate_size",
                "num_layers",
                "num_taps",
                "rotary_dim",
                "vocab_size",
                "final_tap",
            )
        ),
        *(
            (name, ctypes.c_float)
            for name in ("norm_epsilon", "rotary_scale", "embedding_scale", "residual_scale", "logit_scale")
        ),
        ("attention", AttentionShape),
        ("embedding", ctypes.c_void_p),
        ("frequency", ctypes.c_void_p),
        ("final_norm", ctypes.c_void_p),
        ("output", Matrix),
        ("layers", ctypes.c_void_p),
    )


class Rows(ctypes.Structure):
    """What one step reads and writes."""

    _fields_ = (
        ("num_rows", ctypes.c_int64),
        ("num_logit_rows", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "token_ids",
                "logit_rows",
                "row_position",
                "row_sequence",
                "block_table",
                "first",
                "ancestors",
                "write_block",
                "write_offset",
                "logits",
                "hidden",
                "taps",
                "scratch",
            )
        ),
    )


class Chains(ctypes.Structure):
    """`struct chains` of draft_chains.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_chains", "max_tokens", "count")),
        ("min_probability", ctypes.c_float),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "most",
                "tokens",
                "chances",
                "draws",
                "token_ids",
                "write_block",
                "write_offset",
                "row_position",
                "block_table",
            )
        ),
        *((name, ctypes.c_int64) for name in ("block_size", "max_blocks", "vocab_size")),
    )
