"""EAGLE heads in their published formats: which kind a folder holds, what its configuration means, what is refused.

Known are EAGLE-1 and EAGLE-2 (the same weights), EAGLE-3 as its authors, SpecForge and vLLM write it, and EAGLE-3 as
speculators writes it: there the layer is `layers.0` and its configuration is nested.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from outrider.speculative.decoder_layer import ROPE_SCALINGS
from outrider.speculative.eagle import EagleConfig, EagleHead
from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head, paper_taps
from outrider.speculative.files import CheckpointError, fill, read_config, read_tensors, write_checkpoint

ARCHITECTURE: Final = "LlamaForCausalLMEagle3"

# Programs disagree on whether layer k means its input or its output; a file of ours says which.
LAYER_INPUTS: Final = "layer inputs"
LAYER_OUTPUTS: Final = "layer outputs"

# What changes the computation of a head, and is not computed here.
_UNSUPPORTED: Final = ("fc_norm", "norm_output", "norm_before_fc", "add_para_norm", "embed_requires_grad")

# The target's own tensors, which some programs save beside the head's.
_TARGETS_OWN: Final = ("embed_tokens.weight", "verifier_lm_head.weight", "verifier_norm.weight")


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
        "rope_scaling": config.rope_scaling,
        "attention_bias": config.attention_bias,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "norm_before_residual": config.norm_before_residual,
        "eagle_config": {
            "eagle_aux_hidden_state_layer_ids": list(config.tap_layers),
            "layer_ids_name": LAYER_INPUTS,
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


def load_eagle(folder: Path, num_layers: int) -> EagleHead | Eagle3Head:
    """The head that a folder holds, in float32.

    Names may begin with `model.`. Embeddings in the file are taken for the target's own, and left out. Where the
    configuration says nothing, `rope_theta` is 10000 and `norm_before_residual` false: so the programs that train heads
    mean it (vLLM reads the speculators format otherwise, which is why that always writes it). Layer ids count inputs,
    as in vLLM and speculators, unless `layer_ids_name` beside them is "layer outputs", which SGLang and SpecForge mean.

    Args:
        folder: config.json, and the weights as one file
        num_layers: the target's; an EAGLE-3 configuration without layer ids means the paper's, which follow from it

    Raises:
        CheckpointError: the folder is not a head that can be run, or it lacks something; the message names it.
    """
    written = read_config(folder)
    kind = written.get("speculators_model_type", "eagle3")
    if kind != "eagle3":
        raise CheckpointError(f"config.json of `{folder}` means a speculator of type `{kind}`, which is not supported")
    tensors = {name.removeprefix("model."): tensor for name, tensor in read_tensors(folder).items()}
    if "midlayer.hidden_norm.weight" in tensors or "layers.0.hidden_norm.weight" in tensors:
        return _load_eagle3(folder, written, tensors, num_layers)
    if "fc.weight" in tensors and "layers.0.mlp.gate_proj.weight" in tensors:
        return _load_eagle1(folder, written, tensors)
    raise CheckpointError(
        f"`{folder}` is not an EAGLE head: it has neither `midlayer.hidden_norm.weight` (EAGLE-3) nor `fc.weight` and "
        f"`layers.0.mlp.gate_proj.weight` (EAGLE-1), but `{min(tensors, default='no tensors')}`"
    )


def _load_eagle1(folder: Path, written: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> EagleHead:
    _check_supported(folder, written)
    config = EagleConfig(
        **_parse_layer(folder, written, tensors, "layers.0"),
        vocab_size=_positive(folder, written, "vocab_size"),
        # Configurations name the bias of `fc` in several ways, or not at all: the file decides.
        fc_bias="fc.bias" in tensors,
    )
    _drop_targets_own(folder, tensors, (config.vocab_size, config.hidden_size), "lm_head.weight")
    with torch.device("meta"):
        head = EagleHead(config)
    fill(head, tensors, folder)
    return head


def _load_eagle3(
    folder: Path, written: Mapping[str, Any], tensors: dict[str, torch.Tensor], num_layers: int
) -> Eagle3Head:
    tensors = {name.replace("layers.0.", "midlayer.", 1): tensor for name, tensor in tensors.items()}
    outer = {**written, **(written.get("eagle_config") or {})}
    layer = written.get("transformer_layer_config") or written
    _check_supported(folder, outer)
    hidden_size, vocab_size = _positive(folder, layer, "hidden_size"), _positive(folder, layer, "vocab_size")
    config = Eagle3Config(
        **_parse_layer(folder, layer, tensors, "midlayer"),
        target_hidden_size=_positive(folder, written, "target_hidden_size", hidden_size),
        vocab_size=vocab_size,
        draft_vocab_size=_positive(folder, written, "draft_vocab_size", vocab_size),
        tap_layers=_parse_taps(folder, outer) or paper_taps(num_layers),
        norm_before_residual=bool(written.get("norm_before_residual", False)),
    )
    _drop_targets_own(folder, tensors, (config.vocab_size, config.hidden_size))
    tensors |= _parse_vocabulary(folder, config, tensors)
    with torch.device("meta"):
        head = Eagle3Head(config)
    fill(head, tensors, folder)
    return head


def _check_supported(folder: Path, written: Mapping[str, Any]) -> None:
    """Refuses what is computed in another way, by the name of its setting."""
    flag = next((flag for flag in _UNSUPPORTED if written.get(flag)), None)
    if flag is not None:
        raise CheckpointError(f"config.json of `{folder}` sets `{flag}`, a kind of EAGLE that is not supported")
    if written.get("use_aux_hidden_state") is False:
        raise CheckpointError(f"config.json of `{folder}` sets `use_aux_hidden_state` to false: that is not supported")


def _parse_layer(
    folder: Path, written: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], prefix: str
) -> dict[str, Any]:
    """The fields of a LayerConfig; biases that the file has are used, those that its configuration promises wanted."""
    if written.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"config.json of `{folder}` sets `hidden_act` to other than silu: that is not supported")
    hidden_size, num_heads = (_positive(folder, written, key) for key in ("hidden_size", "num_attention_heads"))
    theta, scaling = _parse_rope(folder, written)
    promised = bool(written.get("attention_bias"))
    return {
        "hidden_size": hidden_size,
        "intermediate_size": _positive(folder, written, "intermediate_size"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": _positive(folder, written, "num_key_value_heads", num_heads),
        "head_dim": _positive(folder, written, "head_dim", hidden_size // num_heads),
        "rms_norm_eps": float(written.get("rms_norm_eps") or 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "max_length": _positive(folder, written, "max_position_embeddings", 2048),
        "attention_bias": promised or f"{prefix}.self_attn.q_proj.bias" in tensors,
        "output_bias": promised or f"{prefix}.self_attn.o_proj.bias" in tensors,
    }


def _positive(folder: Path, written: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A size from a configuration, in which null means that it is absent."""
    value = written.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"config.json of `{folder}` has no `{key}` above 0: that is not an EAGLE head's")
    return value


def _parse_rope(folder: Path, written: Mapping[str, Any]) -> tuple[float, Mapping[str, Any] | None]:
    """Base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    parameters = dict(written.get("rope_parameters") or written.get("rope_scaling") or {})
    theta = parameters.pop("rope_theta", None) or written.get("rope_theta") or 10_000.0
    kind = parameters.pop("type", None)
    kind = parameters.pop("rope_type", kind) or "default"
    if kind == "default":
        return float(theta), None
    if kind not in ROPE_SCALINGS:
        raise CheckpointError(
            f"config.json of `{folder}` scales rotary positions by `{kind}`: "
            f"only {', '.join(ROPE_SCALINGS)} are supported"
        )
    for key in ROPE_SCALINGS[kind]:
        if not isinstance(parameters.get(key), int | float):
            raise CheckpointError(f"config.json of `{folder}` scales rotary positions by `{kind}` without `{key}`")
    return float(theta), {"rope_type": kind, **parameters}


def _parse_taps(folder: Path, written: Mapping[str, Any]) -> tuple[int, ...]:
    """Layers whose inputs are read; none where the configuration names none."""
    named = written.get("layer_ids_name", LAYER_INPUTS)
    if named not in (LAYER_INPUTS, LAYER_OUTPUTS):
        raise CheckpointError(
            f"config.json of `{folder}` sets `layer_ids_name` to {named!r}: write {LAYER_INPUTS!r} or {LAYER_OUTPUTS!r}"
        )
    offset = 1 if named == LAYER_OUTPUTS else 0
    layers = written.get("eagle_aux_hidden_state_layer_ids") or ()
    if not all(isinstance(layer, int) for layer in layers):
        raise CheckpointError(f"config.json of `{folder}` has `eagle_aux_hidden_state_layer_ids` that are not numbers")
    return tuple(layer + offset for layer in layers)


def _parse_vocabulary(
    folder: Path, config: Eagle3Config, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`d2t` (draft_vocab_size,) int64 and `t2d` (vocab_size,) bool; either follows from the other.

    Raises:
        CheckpointError: both are absent, and the draft vocabulary is not the whole; or they name no target tokens.
    """
    size = config.draft_vocab_size
    if "d2t" in tensors:
        target_ids = tensors["d2t"].long() + torch.arange(len(tensors["d2t"]))
    elif "t2d" in tensors:
        target_ids = tensors["t2d"].bool().nonzero().flatten()
    elif size == config.vocab_size:
        target_ids = torch.arange(size)
    else:
        raise CheckpointError(
            f"the speculator `{folder}` lacks the tensor `d2t`, and guesses {size} of {config.vocab_size} tokens"
        )
    known = torch.zeros(config.vocab_size, dtype=torch.bool)
    if target_ids.shape != (size,) or not ((target_ids >= 0) & (target_ids < config.vocab_size)).all():
        raise CheckpointError(
            f"`d2t` and `t2d` of `{folder}` do not name {size} of {config.vocab_size} tokens, as config.json means"
        )
    known[target_ids] = True
    return {"d2t": target_ids - torch.arange(size), "t2d": known}


def _drop_targets_own(folder: Path, tensors: dict[str, torch.Tensor], shape: tuple[int, int], *more: str) -> None:
    """Takes out what the target brings itself; embeddings and output layer must have its shape."""
    for name in (*_TARGETS_OWN, *more):
        tensor = tensors.pop(name, None)
        if name in ("embed_tokens.weight", *more) and tensor is not None and tensor.shape != shape:
            raise CheckpointError(
                f"`{name}` of `{folder}` has shape {tuple(tensor.shape)}, the target's would have {shape}: heads with "
                "layers of their own there are not supported"
            )
