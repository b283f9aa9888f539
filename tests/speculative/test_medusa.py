"""Medusa heads in the formats that programs publish them in."""

import json
from pathlib import Path

import pytest
import torch
from plain_llama import assert_near, random_tensors
from safetensors.torch import save_file

from outrider.speculative.files import CheckpointError
from outrider.speculative.medusa_checkpoint import load_medusa

HIDDEN, VOCAB, HEADS, LAYERS = 16, 30, 3, 2
PLACES = [(head, layer) for head in range(HEADS) for layer in range(LAYERS)]
BLOCKS = {
    **{f"{head}.{layer}.linear.weight": (HIDDEN, HIDDEN) for head, layer in PLACES},
    **{f"{head}.{layer}.linear.bias": (HIDDEN,) for head, layer in PLACES},
}
OUTPUTS = {f"{head}.{LAYERS}.weight": (VOCAB, HIDDEN) for head in range(HEADS)}
VLLM = {
    "architectures": ["MedusaModel"],
    "model_type": "medusa",
    "hidden_size": HIDDEN,
    "num_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCAB,
    "truncated_vocab_size": VOCAB,
}


def publish(folder: Path, tensors: dict[str, torch.Tensor], name: str = "medusa_lm_head.pt", **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def in_vllms_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        head, part, *rest = name.split(".")
        renamed[f"lm_heads.{head}.weight" if rest == ["weight"] else f"blocks.{head}.layers.{part}.{rest[-1]}"] = tensor
    return renamed


def reference(tensors: dict[str, torch.Tensor], hidden: torch.Tensor) -> list[torch.Tensor]:
    """What each head's output layer reads."""
    read = []
    for head in range(HEADS):
        x = hidden
        for layer in range(LAYERS):
            y = x @ tensors[f"{head}.{layer}.linear.weight"].T + tensors.get(f"{head}.{layer}.linear.bias", 0.0)
            x = x + y * torch.sigmoid(y)
        read.append(x)
    return read


HIDDEN_STATES = torch.randn(4, HIDDEN, generator=torch.Generator().manual_seed(1))
TARGET_OUTPUT = torch.randn(VOCAB, HIDDEN, generator=torch.Generator().manual_seed(2))


def target_output(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ TARGET_OUTPUT.T


@pytest.mark.parametrize("name", ["medusa_lm_head.pt", "medusa_lm_head.safetensors"])
def test_the_authors_first_format_has_output_layers_of_its_own(name: str, tmp_path: Path) -> None:
    """The heads in the file count, whatever its configuration says: it says two, trained are more."""
    tensors = random_tensors({**BLOCKS, **OUTPUTS})
    publish(tmp_path, tensors, name, base_model_name_or_path="x", medusa_num_heads=2, medusa_num_layers=1)
    heads = load_medusa(tmp_path)
    guesses = heads.guesses(HIDDEN_STATES, pytest.fail)
    read = reference(tensors, HIDDEN_STATES)

    assert_near(torch.stack([x @ tensors[f"{head}.{LAYERS}.weight"].T for head, x in enumerate(read)]), guesses)
    assert [29, 0] == heads.to_target(torch.tensor([29, 0])).tolist()


def test_version_2_shares_the_targets_output_layer(tmp_path: Path) -> None:
    """The blocks alone are in the file."""
    tensors = random_tensors(BLOCKS)
    publish(tmp_path, tensors, version="2", medusa_num_heads=HEADS, medusa_num_layers=LAYERS)
    guesses = load_medusa(tmp_path).guesses(HIDDEN_STATES, target_output)

    assert_near(torch.stack(reference(tensors, HIDDEN_STATES)) @ TARGET_OUTPUT.T, guesses)


def test_guesses_are_float32_whatever_the_output_layer(tmp_path: Path) -> None:
    """In one order with those of heads that have their own."""
    publish(tmp_path, random_tensors(BLOCKS), medusa_num_heads=HEADS)
    guesses = load_medusa(tmp_path).guesses(HIDDEN_STATES, lambda hidden: target_output(hidden).bfloat16())

    assert (torch.float32, (HEADS, 4, VOCAB)) == (guesses.dtype, guesses.shape)


@pytest.mark.parametrize("fc_bias", [{}, {"medusa_fc_bias": True}])
def test_vllms_format_keeps_its_biases(fc_bias: dict, tmp_path: Path) -> None:
    """Those in the file are used, even where the configuration does not mention them."""
    tensors = random_tensors({**BLOCKS, **OUTPUTS})
    publish(tmp_path, in_vllms_names(tensors), "model.safetensors", **VLLM, **fc_bias)
    guesses = load_medusa(tmp_path).guesses(HIDDEN_STATES, pytest.fail)
    read = reference(tensors, HIDDEN_STATES)

    assert_near(torch.stack([x @ tensors[f"{head}.{LAYERS}.weight"].T for head, x in enumerate(read)]), guesses)


def test_vllms_format_may_have_no_biases(tmp_path: Path) -> None:
    """Its default."""
    tensors = {name: t for name, t in random_tensors(BLOCKS).items() if "weight" in name}
    publish(tmp_path, in_vllms_names(tensors), "model.safetensors", **VLLM)
    guesses = load_medusa(tmp_path).guesses(HIDDEN_STATES, target_output)

    assert_near(torch.stack(reference(tensors, HIDDEN_STATES)) @ TARGET_OUTPUT.T, guesses)


@pytest.mark.parametrize("name", ["lm_head.weight", "lm_heads.0.weight"])
def test_one_output_layer_may_serve_all_heads(name: str, tmp_path: Path) -> None:
    """With `original_lm_head`, by either name."""
    tensors = random_tensors(BLOCKS)
    shared = torch.randn(VOCAB, HIDDEN)
    publish(tmp_path, {**in_vllms_names(tensors), name: shared}, "model.safetensors", **VLLM, original_lm_head=True)
    guesses = load_medusa(tmp_path).guesses(HIDDEN_STATES, pytest.fail)

    assert_near(torch.stack(reference(tensors, HIDDEN_STATES)) @ shared.T, guesses)


@pytest.mark.parametrize("rows", [3, VOCAB])
def test_a_token_map_reduces_the_vocabulary(rows: int, tmp_path: Path) -> None:
    """Output layers have the rows of its tokens, or of all."""
    token_map = torch.tensor([7, 2, 29])
    tensors = random_tensors({**BLOCKS, **OUTPUTS})
    rowed = {n: t[token_map] if rows == 3 and n in OUTPUTS else t for n, t in tensors.items()}
    publish(tmp_path, {**in_vllms_names(rowed), "token_map": token_map}, "model.safetensors", **VLLM)
    heads = load_medusa(tmp_path)
    guesses = heads.guesses(HIDDEN_STATES, pytest.fail)
    read = reference(tensors, HIDDEN_STATES)
    wanted = torch.stack([x @ tensors[f"{head}.{LAYERS}.weight"].T for head, x in enumerate(read)])

    assert_near(wanted[..., token_map], guesses)
    assert [29, 7] == heads.to_target(torch.tensor([2, 0])).tolist()


def test_a_model_with_heads_inside_is_refused(tmp_path: Path) -> None:
    """With what to do."""
    publish(tmp_path, {}, medusa_num_heads=5, num_attention_heads=32)

    with pytest.raises(CheckpointError, match=r"whole model.*move its `medusa_head\.\*` tensors"):
        load_medusa(tmp_path)


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        ({"0.0.linear.bias": None}, {}, r"lacks the tensor `0\.0\.linear\.bias`"),
        ({"1.0.linear.weight": None}, {}, "5 blocks: 3 heads of 2 need 6"),
        ({"1.2.weight": None}, {}, r"lacks the tensor `1\.2\.weight`"),
        ({"1.2.weight": torch.zeros(VOCAB - 1, HIDDEN)}, {}, r"`1\.2\.weight`.*\(29, 16\).*\(30, 16\)"),
        ({"1.2.bias": torch.zeros(VOCAB)}, {}, r"`1\.2\.bias`, which is not supported"),
        ({"1.2.weight": torch.zeros(VOCAB)}, {}, r"`1\.2\.weight`.*not a matrix"),
        ({"2.1.linear.bias": torch.full((HIDDEN,), torch.inf)}, {}, r"`2\.1\.linear\.bias`.*not finite"),
        ({}, {"medusa_num_heads": 4}, "says 4 heads, its weights are those of 3"),
        ({}, {"medusa_num_layers": 3}, "says 3 layers in each head, its weights are those of 2"),
        ({"token_map": torch.tensor([0.0, -1.0])}, {}, "not a list of token ids"),
        ({"token_map": torch.arange(VOCAB + 1)}, {}, r"31 tokens up to 30, `0\.2\.weight` has 30 rows"),
        ({"token_map": torch.tensor([VOCAB])}, {}, r"1 tokens up to 30, `0\.2\.weight` has 30 rows"),
    ],
)
def test_heads_that_cannot_be_run_are_refused(change: dict, config: dict, said: str, tmp_path: Path) -> None:
    """By what is wrong with them."""
    tensors = {**random_tensors({**BLOCKS, **OUTPUTS}), **change}
    publish(tmp_path, {name: tensor for name, tensor in tensors.items() if tensor is not None}, **config)

    with pytest.raises(CheckpointError, match=said):
        load_medusa(tmp_path)


def test_promised_biases_that_are_not_there_are_named(tmp_path: Path) -> None:
    """The heads were trained with them."""
    tensors = {name: t for name, t in random_tensors(BLOCKS).items() if "weight" in name}
    publish(tmp_path, in_vllms_names(tensors), "model.safetensors", **VLLM, medusa_fc_bias=True)

    with pytest.raises(CheckpointError, match=r"lacks the tensor `0\.0\.linear\.bias`"):
        load_medusa(tmp_path)


def test_a_token_map_without_an_output_layer_is_refused(tmp_path: Path) -> None:
    """The target's layer guesses all tokens."""
    publish(tmp_path, {**random_tensors(BLOCKS), "token_map": torch.tensor([1])})

    with pytest.raises(CheckpointError, match="no output layer"):
        load_medusa(tmp_path)


@pytest.mark.parametrize("tensors", [{}, {"fc.weight": torch.zeros(2, 2)}, {"blocks.x": torch.zeros(2)}])
def test_a_folder_of_another_kind_is_refused(tensors: dict, tmp_path: Path) -> None:
    """The message says what was looked for and what was found."""
    publish(tmp_path, tensors)

    with pytest.raises(CheckpointError, match="does not hold Medusa heads"):
        load_medusa(tmp_path)
