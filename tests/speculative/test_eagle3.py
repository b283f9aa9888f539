"""EAGLE-3 heads in the formats that programs publish them in."""

import json
import math
from pathlib import Path

import pytest
import torch
from plain_llama import assert_near, attention, causal, layer_shapes, mlp, project, random_tensors, rms, turn
from safetensors.torch import save_file

from outrider.speculative.decoder_layer import LayerConfig, Rotation
from outrider.speculative.eagle3 import Eagle3Head
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.files import CheckpointError

HIDDEN, VOCAB, DRAFT, EPS = 32, 100, 40, 1e-6
TARGET_IDS = torch.arange(0, 80, 2)
SHAPES = {
    "fc.weight": (HIDDEN, 3 * HIDDEN),
    **layer_shapes("midlayer", 2 * HIDDEN),
    "midlayer.hidden_norm.weight": (HIDDEN,),
    "midlayer.input_layernorm.weight": (HIDDEN,),
    "norm.weight": (HIDDEN,),
    "lm_head.weight": (DRAFT, HIDDEN),
}
VOCABULARY = {
    "d2t": TARGET_IDS - torch.arange(DRAFT),
    "t2d": torch.zeros(VOCAB, dtype=torch.bool).scatter(0, TARGET_IDS, value=True),
}
LAYER = {
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "max_position_embeddings": 2048,
    "rms_norm_eps": EPS,
    "vocab_size": VOCAB,
}
CONFIG = {**LAYER, "architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": DRAFT}
SPECULATORS = {
    "architectures": ["Eagle3Speculator"],
    "speculators_model_type": "eagle3",
    "draft_vocab_size": DRAFT,
    "target_hidden_size": None,
    "eagle_aux_hidden_state_layer_ids": None,
    "norm_before_fc": False,
    "transformer_layer_config": {**LAYER, "head_dim": 8, "rope_theta": 500_000.0, "rope_scaling": None},
}


def publish(folder: Path, tensors: dict[str, torch.Tensor], config: dict) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def reference(
    tensors: dict, embeds: torch.Tensor, taps: torch.Tensor, theta: float = 10_000.0, *, residual_normed: bool = False
) -> torch.Tensor:
    features = taps @ tensors["fc.weight"].T
    normed = rms(features, tensors["midlayer.hidden_norm.weight"], EPS)
    both = torch.cat((rms(embeds, tensors["midlayer.input_layernorm.weight"], EPS), normed), dim=-1)
    hidden = (normed if residual_normed else features) + attention(both, tensors, "midlayer.self_attn", 8, theta)
    return hidden + mlp(rms(hidden, tensors["midlayer.post_attention_layernorm.weight"], EPS), tensors, "midlayer.mlp")


def outputs(head) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    embeds, taps = torch.randn(5, HIDDEN), torch.randn(5, 3 * HIDDEN)
    with torch.no_grad():
        return embeds, taps, head(embeds, head.fuse(taps), torch.arange(5), causal)


def test_a_published_head_computes_what_its_authors_do(tmp_path: Path) -> None:
    """Without `rope_theta`, which the authors' files do not have; the output layer reads what is normed."""
    tensors = random_tensors(SHAPES)
    head = load_eagle(publish(tmp_path, {**tensors, **VOCABULARY}, CONFIG), 32)
    embeds, taps, found = outputs(head)
    wanted = reference(tensors, embeds, taps)
    logits = project(rms(wanted, tensors["norm.weight"], EPS), tensors, "lm_head")

    assert isinstance(head, Eagle3Head)
    assert (2, 16, 29) == head.config.tap_layers
    assert_near(wanted, found)
    assert_near(logits, head.guesses(found, pytest.fail))
    assert [0, 2, 78] == head.to_target(torch.tensor([0, 1, 39])).tolist()


@pytest.mark.parametrize("written", [{"norm_before_residual": True}, {"norm_before_residual": False}, {}])
def test_the_speculators_format_is_read(written: dict, tmp_path: Path) -> None:
    """The layer is `layers.0`, its configuration nested; a residual that is not said to be normed is not."""
    tensors = random_tensors(SHAPES)
    renamed = {name.replace("midlayer", "layers.0"): tensor for name, tensor in tensors.items()}
    own = {"embed_tokens.weight": torch.zeros(VOCAB, HIDDEN), "verifier_lm_head.weight": torch.zeros(DRAFT, HIDDEN)}
    (tmp_path / "config.json").write_text(json.dumps({**SPECULATORS, **written}))
    save_file({**renamed, **own, **VOCABULARY}, tmp_path / "model.safetensors")
    head = load_eagle(tmp_path, 32)
    embeds, taps, found = outputs(head)
    residual_normed = written.get("norm_before_residual", False)

    assert_near(reference(tensors, embeds, taps, 5e5, residual_normed=residual_normed), found)


def test_attention_biases_are_used(tmp_path: Path) -> None:
    """All four, with `attention_bias`."""
    sizes = {"q": 32, "k": 16, "v": 16, "o": HIDDEN}
    biases = {f"midlayer.self_attn.{name}_proj.bias": (size,) for name, size in sizes.items()}
    tensors = random_tensors({**SHAPES, **biases})
    head = load_eagle(publish(tmp_path, {**tensors, **VOCABULARY}, {**CONFIG, "attention_bias": True}), 32)
    embeds, taps, found = outputs(head)

    assert_near(reference(tensors, embeds, taps), found)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("kept", [("d2t",), ("t2d",), ("d2t", "t2d")])
def test_either_map_of_the_vocabulary_will_do(kept: tuple, prefix: str, tmp_path: Path) -> None:
    """One follows from the other."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in random_tensors(SHAPES).items()}
    head = load_eagle(publish(tmp_path, {**tensors, **{name: VOCABULARY[name] for name in kept}}, CONFIG), 32)

    assert TARGET_IDS.tolist() == head.target_ids.tolist()
    assert torch.equal(VOCABULARY["t2d"], head.t2d)


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        ({}, r"lacks the tensor `d2t`.*40 of 100"),
        ({"d2t": torch.full((DRAFT,), 90)}, "40 of 100"),
        ({"d2t": torch.full((DRAFT,), -1)}, "40 of 100"),
        ({"t2d": torch.ones(VOCAB, dtype=torch.bool)}, "40 of 100"),
    ],
)
def test_a_vocabulary_that_is_not_the_targets_is_refused(vocabulary: dict, said: str, tmp_path: Path) -> None:
    """Absent, outside of the target's, or of another size."""
    publish(tmp_path, {**random_tensors(SHAPES), **vocabulary}, CONFIG)

    with pytest.raises(CheckpointError, match=said):
        load_eagle(tmp_path, 32)


@pytest.mark.parametrize(
    ("written", "taps"),
    [
        ({"eagle_aux_hidden_state_layer_ids": [3, 5, 7]}, (3, 5, 7)),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [3, 5, 7]}}, (3, 5, 7)),
        ({"eagle_aux_hidden_state_layer_ids": [3, 5, 7], "layer_ids_name": "layer inputs"}, (3, 5, 7)),
        ({"eagle_aux_hidden_state_layer_ids": [3, 5, 7], "layer_ids_name": "layer outputs"}, (4, 6, 8)),
    ],
)
def test_layer_ids_are_inputs_unless_it_is_said(written: dict, taps: tuple, tmp_path: Path) -> None:
    """SGLang and SpecForge mean the output of the layer, which is the input of the next."""
    publish(tmp_path, {**random_tensors(SHAPES), **VOCABULARY}, {**CONFIG, **written})

    assert taps == load_eagle(tmp_path, 32).config.tap_layers


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"layer_ids_name": "layers"}, "'layer inputs' or 'layer outputs'"),
        ({"eagle_aux_hidden_state_layer_ids": ["low"]}, "eagle_aux_hidden_state_layer_ids"),
        ({"eagle_aux_hidden_state_layer_ids": [3, 5]}, r"`fc\.weight`.*\(32, 96\).*\(32, 64\)"),
        ({"eagle_config": {"use_aux_hidden_state": False}}, "use_aux_hidden_state"),
        ({"embed_requires_grad": True}, "embed_requires_grad"),
        ({"draft_vocab_size": 41}, "41 of 100"),
        ({"speculators_model_type": "peagle"}, "type `peagle`"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(written: dict, said: str, tmp_path: Path) -> None:
    """By the name of the setting."""
    publish(tmp_path, {**random_tensors(SHAPES), **VOCABULARY}, {**CONFIG, **written})

    with pytest.raises(CheckpointError, match=said):
        load_eagle(tmp_path, 32)


def test_scaled_rotary_positions_are_computed(tmp_path: Path) -> None:
    """Llama 3's keeps fast frequencies, slows slow ones down, and mixes between."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    layer = LayerConfig(
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        rope_theta=500_000.0,
        rope_scaling={**scaling, "original_max_position_embeddings": 1024},
        max_length=8192,
    )
    x = torch.randn(1, 1, 16)
    found = Rotation(layer)(x, torch.tensor([7]))[0, 0]
    wanted = torch.zeros(16)
    for index in range(8):
        frequency = 500_000.0 ** (-index / 8)
        turns = 1024 * frequency / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - 1.0) / 3.0))
        angle = 7 * frequency * (kept + (1 - kept) / 8)
        wanted[index] = x[0, 0, index] * math.cos(angle) - x[0, 0, index + 8] * math.sin(angle)
        wanted[index + 8] = x[0, 0, index + 8] * math.cos(angle) + x[0, 0, index] * math.sin(angle)

    assert_near(wanted, found)


def test_a_position_is_turned_in_float32_whatever_the_heads_type() -> None:
    """Frequencies in bfloat16 would be wrong far into a text."""
    layer = LayerConfig(hidden_size=8, intermediate_size=8, num_attention_heads=1, num_key_value_heads=1, head_dim=8)
    x = torch.randn(1, 1, 8).bfloat16()
    found = Rotation(layer)(x, torch.tensor([3001]))[0, 0]

    assert torch.equal(turn(x[0, 0].float(), 3001, 10_000.0).bfloat16(), found)
