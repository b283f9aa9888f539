"""EAGLE-1 and EAGLE-2 heads, as their authors publish them."""

import json
from pathlib import Path

import pytest
import torch
from plain_llama import assert_near, attention, causal, layer_shapes, mlp, project, random_tensors, rms
from safetensors.torch import save_file

from outrider.speculative.eagle import EagleHead
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.files import CheckpointError

HIDDEN, VOCAB, EPS = 32, 100, 1e-5
SHAPES = {"fc.weight": (HIDDEN, 2 * HIDDEN), **layer_shapes("layers.0", HIDDEN)}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
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


def publish(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def reference(tensors: dict, embeds: torch.Tensor, features: torch.Tensor, theta: float = 10_000.0) -> torch.Tensor:
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    fused = project(torch.cat((embeds, features), dim=-1), tensors, "fc")
    hidden = fused + attention(fused, tensors, "layers.0.self_attn", 8, theta)
    normed = rms(hidden, tensors["layers.0.post_attention_layernorm.weight"], EPS)
    return hidden + mlp(normed, tensors, "layers.0.mlp")


def outputs(head, num_tokens: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    embeds, features = torch.randn(num_tokens, HIDDEN), torch.randn(num_tokens, HIDDEN)
    with torch.no_grad():
        return embeds, features, head(embeds, head.fuse(features), torch.arange(num_tokens), causal)


@pytest.mark.parametrize("extra", [{}, {"fc.bias": (HIDDEN,)}], ids=["Llama 3", "Vicuna"])
def test_a_published_head_computes_what_its_authors_do(extra: dict, tmp_path: Path) -> None:
    """Embedding first, no norm before attention, none at the end; the bias of fc is used where the file has one."""
    tensors = random_tensors({**SHAPES, **extra})
    head = load_eagle(publish(tmp_path, tensors), 4)
    embeds, features, found = outputs(head)

    assert isinstance(head, EagleHead)
    assert_near(reference(tensors, embeds, features), found)


def test_biases_of_queries_keys_and_values_are_used(tmp_path: Path) -> None:
    """Heads for Qwen 2 have them, and their configurations say so by several names."""
    biases = {f"layers.0.self_attn.{name}_proj.bias": (size,) for name, size in (("q", 32), ("k", 16), ("v", 16))}
    tensors = random_tensors({**SHAPES, **biases})
    head = load_eagle(publish(tmp_path, tensors, qkv_bias=True, rope_theta=1e6), 4)
    embeds, features, found = outputs(head)

    assert_near(reference(tensors, embeds, features, 1e6), found)


def test_a_promised_bias_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The head was trained with it."""
    publish(tmp_path, random_tensors(SHAPES), attention_bias=True)

    with pytest.raises(CheckpointError, match=r"lacks the tensor `layers\.0\.self_attn\.q_proj\.bias`"):
        load_eagle(tmp_path, 4)


def test_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    """The authors publish float16."""
    tensors = {name: tensor.half() for name, tensor in random_tensors(SHAPES).items()}
    head = load_eagle(publish(tmp_path, tensors), 4)
    embeds, features, found = outputs(head)

    assert_near(reference(tensors, embeds, features), found)


def test_the_targets_own_layers_are_left_out(tmp_path: Path) -> None:
    """Some files bring copies of them, and some name everything `model.`."""
    tensors = random_tensors(SHAPES)
    copies = {"embed_tokens.weight": torch.zeros(VOCAB, HIDDEN), "lm_head.weight": torch.zeros(VOCAB, HIDDEN)}
    head = load_eagle(publish(tmp_path, {f"model.{name}": t for name, t in {**tensors, **copies}.items()}), 4)

    assert head.state_dict().keys() == tensors.keys()


@pytest.mark.parametrize("name", ["embed_tokens.weight", "lm_head.weight"])
def test_layers_that_cannot_be_the_targets_are_refused(name: str, tmp_path: Path) -> None:
    """Their shape gives them away."""
    publish(tmp_path, {**random_tensors(SHAPES), name: torch.zeros(VOCAB + 1, HIDDEN)})

    with pytest.raises(CheckpointError, match=rf"`{name}`.*\(101, 32\).*\(100, 32\)"):
        load_eagle(tmp_path, 4)


def test_it_guesses_with_the_targets_output_layer(tmp_path: Path) -> None:
    """In the target's own vocabulary; it reads no layer but the last, behind the final norm."""
    head = load_eagle(publish(tmp_path, random_tensors(SHAPES)), 4)
    features, weight = torch.randn(3, HIDDEN), torch.randn(VOCAB, HIDDEN)
    guesses = head.guesses(features.bfloat16(), lambda hidden: hidden @ weight.bfloat16().T)

    assert (torch.float32, (3, VOCAB)) == (guesses.dtype, guesses.shape)
    assert [99, 0] == head.to_target(torch.tensor([99, 0])).tolist()
    assert () == head.config.tap_layers
    assert features is head.fuse(features)


def test_one_token_at_a_time_is_the_same_as_all_at_once(tmp_path: Path) -> None:
    """Positions are given; nothing is remembered but keys and values."""
    head = load_eagle(publish(tmp_path, random_tensors(SHAPES)), 4)
    embeds, features, at_once = outputs(head)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        kept.append((k, v))
        keys, values = (torch.cat(parts) for parts in zip(*kept, strict=True))
        return causal(q.expand(len(keys), -1, -1), keys, values)[-1:]

    with torch.no_grad():
        singly = [
            head(embeds[[place]], features[[place]], torch.tensor([place]), attend) for place in range(len(embeds))
        ]

    assert_near(at_once, torch.cat(singly))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"add_para_norm": True}, "add_para_norm"),
        ({"vocab_size": None}, "vocab_size"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"speculators_model_type": "eagle"}, "type `eagle`"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "`dynamic`: only linear, llama3, yarn"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "without `low_freq_factor`"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(config: dict, said: str, tmp_path: Path) -> None:
    """By the name of the setting."""
    publish(tmp_path, random_tensors(SHAPES), **config)

    with pytest.raises(CheckpointError, match=said):
        load_eagle(tmp_path, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"layers.0.input_layernorm.weight": torch.ones(HIDDEN)},
            r"`layers\.0\.input_layernorm\.weight`.*not supported",
        ),
        ({"layers.1.mlp.gate_proj.weight": torch.ones(48, HIDDEN)}, r"`layers\.1\.mlp\.gate_proj\.weight`"),
        (
            {"layers.0.mlp.up_proj.weight": torch.ones(47, HIDDEN)},
            r"`layers\.0\.mlp\.up_proj\.weight`.*\(47, 32\).*\(48, 32\)",
        ),
        ({"fc.weight": torch.full((HIDDEN, 2 * HIDDEN), torch.nan)}, r"`fc\.weight`.*not finite"),
        ({"fc.weight": torch.full((HIDDEN, 2 * HIDDEN), 1e39, dtype=torch.float64)}, r"`fc\.weight`.*not finite"),
        ({"fc.weight": torch.zeros(HIDDEN, 2 * HIDDEN, dtype=torch.int8)}, r"`fc\.weight`.*int8.*quantized"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(change: dict, said: str, tmp_path: Path) -> None:
    """By name: what is loaded is what was trained, or nothing."""
    publish(tmp_path, {**random_tensors(SHAPES), **change})

    with pytest.raises(CheckpointError, match=said):
        load_eagle(tmp_path, 4)


@pytest.mark.parametrize("names", [{"0.0.linear.weight"}, {"model.layers.0.self_attn.q_proj.weight"}, set()])
def test_a_folder_of_another_kind_is_refused(names: set[str], tmp_path: Path) -> None:
    """Medusa heads, a whole model, nothing: the message says what was looked for and what was found."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointError, match="is not an EAGLE head"):
        load_eagle(tmp_path, 4)
