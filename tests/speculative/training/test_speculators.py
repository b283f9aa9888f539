"""The modules and their files: names and shapes of published checkpoints, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head, default_taps
from outrider.speculative.eagle_checkpoint import load_eagle, save_eagle3
from outrider.speculative.files import CheckpointError
from outrider.speculative.medusa import MedusaConfig, MedusaHeads
from outrider.speculative.medusa_checkpoint import load_medusa, save_medusa

CONFIG = Eagle3Config(
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    target_hidden_size=32,
    vocab_size=100,
    draft_vocab_size=40,
    tap_layers=(1, 2, 3),
)

# Shapes as in the published head of a Llama (H = 32, I = 64, 2 key-value heads of 8, 40 draft tokens of 100).
PUBLISHED = {
    "fc.weight": (32, 96),
    "midlayer.self_attn.q_proj.weight": (32, 64),
    "midlayer.self_attn.k_proj.weight": (16, 64),
    "midlayer.self_attn.v_proj.weight": (16, 64),
    "midlayer.self_attn.o_proj.weight": (32, 32),
    "midlayer.mlp.gate_proj.weight": (64, 32),
    "midlayer.mlp.up_proj.weight": (64, 32),
    "midlayer.mlp.down_proj.weight": (32, 64),
    "midlayer.hidden_norm.weight": (32,),
    "midlayer.input_layernorm.weight": (32,),
    "midlayer.post_attention_layernorm.weight": (32,),
    "norm.weight": (32,),
    "lm_head.weight": (40, 32),
    "d2t": (40,),
    "t2d": (100,),
}


def a_head() -> Eagle3Head:
    torch.manual_seed(0)
    head = Eagle3Head(CONFIG).bfloat16().float()
    head.use_vocabulary(torch.arange(0, 80, 2))
    return head


def test_an_eagle3_folder_has_the_published_names_and_shapes(tmp_path: Path) -> None:
    """Other programs load it by these names."""
    save_eagle3(a_head(), tmp_path, "card")
    tensors = load_file(tmp_path / "model.safetensors")

    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == PUBLISHED
    assert {"config.json", "model.safetensors", "README.md"} == {path.name for path in tmp_path.iterdir()}


def test_draft_tokens_are_offsets_to_target_tokens(tmp_path: Path) -> None:
    """d2t[i] is added to i; t2d marks the same tokens."""
    save_eagle3(a_head(), tmp_path, "card")
    tensors = load_file(tmp_path / "model.safetensors")

    assert list(range(40)) == tensors["d2t"].tolist()
    assert list(range(0, 80, 2)) == tensors["t2d"].nonzero().flatten().tolist()


def test_an_eagle3_head_comes_back(tmp_path: Path) -> None:
    """Every weight and every figure of the configuration."""
    head = a_head()
    save_eagle3(head, tmp_path, "card")

    loaded = load_eagle(tmp_path, 4)

    assert head.config == loaded.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_the_speculators_format_is_read(tmp_path: Path) -> None:
    """There the layer is called layers.0, and its configuration is nested."""
    head = a_head()
    save_eagle3(head, tmp_path, "card")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name.replace("midlayer", "layers.0"): t for name, t in tensors.items()}, tmp_path / "model.safetensors")
    written = json.loads((tmp_path / "config.json").read_text())
    outer = {"draft_vocab_size": 40, "eagle_aux_hidden_state_layer_ids": [1, 2, 3], "transformer_layer_config": written}
    (tmp_path / "config.json").write_text(json.dumps(outer))

    assert head.config == load_eagle(tmp_path, 4).config


def test_a_whole_vocabulary_needs_no_map(tmp_path: Path) -> None:
    """Heads that guess every token are published without d2t and t2d."""
    head = Eagle3Head(replace(CONFIG, draft_vocab_size=100))
    save_eagle3(head, tmp_path, "card")

    assert "d2t" not in load_file(tmp_path / "model.safetensors")
    assert load_eagle(tmp_path, 4).target_ids.tolist() == list(range(100))


def test_shallow_targets_have_three_different_taps() -> None:
    """The paper's layers collide where there are few; deep targets keep them."""
    assert ((1, 2, 3), (1, 2, 4), (2, 16, 29)) == (default_taps(4), default_taps(5), default_taps(32))


def test_a_medusa_folder_has_the_published_names(tmp_path: Path) -> None:
    """Version 2: residual blocks alone, the output layer is the target's."""
    heads = MedusaHeads(MedusaConfig(16, num_heads=2, num_layers=1))
    save_medusa(heads, tmp_path, "some/target", "card")
    tensors = load_file(tmp_path / "medusa_lm_head.safetensors")

    assert {f"{head}.0.linear.{kind}" for head in (0, 1) for kind in ("weight", "bias")} == tensors.keys()
    assert json.loads((tmp_path / "config.json").read_text())["version"] == "2"


def test_medusa_heads_come_back(tmp_path: Path) -> None:
    """Two layers too."""
    heads = MedusaHeads(MedusaConfig(16, num_heads=3, num_layers=2))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    heads.bfloat16().float()
    save_medusa(heads, tmp_path, "some/target", "card")

    loaded = load_medusa(tmp_path)

    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in heads.state_dict().items())


def test_an_untrained_medusa_head_repeats_the_target() -> None:
    """The paper's start: each block is the identity."""
    hidden = torch.randn(3, 16)

    assert torch.equal(MedusaHeads(MedusaConfig(16)).guesses(hidden, lambda x: x), hidden.expand(4, 3, 16))


@pytest.mark.parametrize("load", [lambda folder: load_eagle(folder, 4), load_medusa])
def test_a_folder_without_a_configuration_is_refused(load, tmp_path: Path) -> None:
    """The file that is missing is named."""
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    """A loader that fills gaps with zeros would guess nothing right, in silence."""
    save_eagle3(a_head(), tmp_path, "card")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["fc.weight"]
    save_file(tensors, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"lacks the tensor `fc\.weight`"):
        load_eagle(tmp_path, 4)


def test_layers_that_are_not_named_are_those_of_the_paper(tmp_path: Path) -> None:
    """The first published heads name none."""
    save_eagle3(a_head(), tmp_path, "card")
    written = json.loads((tmp_path / "config.json").read_text())
    del written["eagle_config"]
    (tmp_path / "config.json").write_text(json.dumps(written))

    assert load_eagle(tmp_path, 32).config.tap_layers == (2, 16, 29)


@pytest.mark.parametrize("flag", ["fc_norm", "norm_output", "norm_before_fc"])
def test_other_kinds_of_eagle3_are_refused_by_name(flag: str, tmp_path: Path) -> None:
    """They compute something else."""
    save_eagle3(a_head(), tmp_path, "card")
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, flag: True}))

    with pytest.raises(CheckpointError, match=flag):
        load_eagle(tmp_path, 4)


def test_a_shape_that_the_configuration_does_not_mean_is_refused(tmp_path: Path) -> None:
    """Both shapes are named."""
    save_eagle3(a_head(), tmp_path, "card")
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, "intermediate_size": 65}))

    with pytest.raises(CheckpointError, match=r"\(64, 32\).*\(65, 32\)"):
        load_eagle(tmp_path, 4)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 64])
def test_damaged_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    """An interrupted download is not a crash."""
    save_eagle3(a_head(), tmp_path, "card")
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_eagle(tmp_path, 4)
