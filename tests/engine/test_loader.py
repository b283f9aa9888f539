"""What cannot be served is refused at load, with one line that says why."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    LlamaConfig,
    MambaConfig,
    OlmoConfig,
    Qwen2Config,
    Qwen3Config,
)

from outrider.engine.errors import LoadError
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.loader import load_model
from outrider.engine.models.paged_model import PagedModel

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "eos_token_id": 1,
}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def save_random(config, folder) -> str:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("config_type", [Qwen2Config, Qwen3Config, OlmoConfig])
def test_families_that_run_through_the_paged_cache_load(config_type, tmp_path) -> None:
    """The load itself compares logits with transformers' own attention."""
    loaded = load_model(save_random(config_type(**SIZES), tmp_path), "float32")

    assert 64 == loaded.model.vocab_size


def test_the_load_finds_out_whether_bits_depend_on_the_batch(tmp_path, monkeypatch) -> None:
    """An engine whose results depend on the batch says so at start."""
    folder = save_random(LlamaConfig(**SIZES), tmp_path)
    assert load_model(folder, "float32").model.is_batch_invariant

    whole = FusedModel.forward

    def batch_dependent(self, token_ids, *arguments):
        output = whole(self, token_ids, *arguments)
        return replace(output, logits=output.logits + 1e-6 * len(token_ids))

    monkeypatch.setattr(FusedModel, "forward", batch_dependent)
    assert not load_model(folder, "float32").model.is_batch_invariant


def test_a_model_that_the_decoder_kernel_gets_wrong_runs_as_modules(tmp_path, monkeypatch, caplog) -> None:
    """The kernel is trusted only where it agrees with the modules."""
    folder = save_random(LlamaConfig(**SIZES), tmp_path)
    whole = FusedModel.forward

    def wrong(self, *arguments):
        output = whole(self, *arguments)
        return replace(output, logits=output.logits + 1.0)

    monkeypatch.setattr(FusedModel, "forward", wrong)

    assert isinstance(load_model(folder, "float32").model, PagedModel)
    assert "the decoder kernel does not compute what this checkpoint means" in caplog.text


def test_a_family_without_attention_layers_is_refused_by_name(tmp_path) -> None:
    """One line, whatever its code raises."""
    with pytest.raises(LoadError, match="model type `mamba` is not supported"):
        load_model(save_random(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2), tmp_path))


def test_a_family_with_other_attention_is_refused_by_name(tmp_path) -> None:
    """Wrong tokens are never served."""
    with pytest.raises(LoadError, match="model type `bloom` is not supported"):
        load_model(save_random(BloomConfig(vocab_size=64, hidden_size=64, n_layer=2, n_head=4), tmp_path))


def test_a_missing_folder_is_named(tmp_path) -> None:
    """The path that was given stands in the line."""
    with pytest.raises(LoadError, match=r"no checkpoint folder `.*nowhere`"):
        load_model(str(tmp_path / "nowhere"))


def test_a_folder_without_a_config_is_no_checkpoint(tmp_path) -> None:
    """The file that is missing is named."""
    with pytest.raises(LoadError, match=r"no config\.json"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("text", ["{", '{"model_type": "unheard-of"}', "[]"])
def test_a_config_that_cannot_be_read_is_refused(folder, text) -> None:
    """Broken JSON and unknown types alike."""
    (folder / "config.json").write_text(text)

    with pytest.raises(LoadError):
        load_model(str(folder))


@pytest.mark.parametrize("change", [{"vocab_size": "x"}, {"num_attention_heads": 0}, {"eos_token_id": "a"}])
def test_a_config_of_nonsense_is_one_error(folder, change) -> None:
    """Whatever the library raises on it."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    (folder / "generation_config.json").unlink(missing_ok=True)

    with pytest.raises(LoadError):
        load_model(str(folder))


@pytest.mark.parametrize("change", [{"temperature": "hot"}, {"temperature": -1}, {"top_p": 0}, {"eos_token_id": [999]}])
def test_sampling_defaults_of_nonsense_are_refused(folder, change) -> None:
    """They would be every request's own."""
    (folder / "generation_config.json").write_text(json.dumps(change))

    with pytest.raises(LoadError, match=next(iter(change)).split("_token")[0].replace("eos", "end token")):
        load_model(str(folder))


def test_truncated_weights_are_refused(folder) -> None:
    """One line, no traceback of the reader."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(LoadError, match=r"weights in `.*` cannot be loaded"):
        load_model(str(folder))


def test_missing_weights_are_refused(folder) -> None:
    """Never filled in with random numbers."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})

    with pytest.raises(LoadError, match=r"lack 1 tensors, the first is `model.layers.1.mlp.up_proj.weight`"):
        load_model(str(folder))


def test_float16_becomes_bfloat16(folder) -> None:
    """Half precision has no fast arithmetic on a CPU."""
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config))

    assert torch.bfloat16 is load_model(str(folder)).dtype


def test_weights_that_are_no_numbers_are_refused(folder) -> None:
    """A damaged copy, not an unsupported model."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})

    with pytest.raises(LoadError, match="give no numbers, even in transformers"):
        load_model(str(folder))


@pytest.mark.parametrize("config_type", [Qwen3Config, OlmoConfig])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_int8_cache_keeps_the_promise_of_equal_bits(config_type, dtype, tmp_path) -> None:
    """In the decoder kernel and through the modules; a token then takes what its integers and scales do."""
    loaded = load_model(save_random(config_type(**SIZES), tmp_path), dtype, kv_dtype="int8")

    assert loaded.model.is_batch_invariant
    assert loaded.model.kv_bytes(10) == 10 * 2 * SIZES["num_hidden_layers"] * 2 * (16 + 4)


def test_a_model_that_int8_would_change_is_refused(tmp_path) -> None:
    """One number of a key far above the others, as biases can make it, leaves nothing of them in 255 steps."""
    folder = save_random(Qwen2Config(**SIZES, initializer_range=0.5), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for layer in range(SIZES["num_hidden_layers"]):
        weights[f"model.layers.{layer}.self_attn.k_proj.bias"][::16] = 3000.0
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})

    assert load_model(folder, "float32").model.kv_dtype == torch.float32
    with pytest.raises(LoadError, match=r"--kv-dtype int8 changes the logits of `.*` by \d+% of their size"):
        load_model(folder, "float32", kv_dtype="int8")


def test_int8_is_refused_where_no_kernel_reads_it(tmp_path) -> None:
    """As on CUDA; `meta` is a device that is not the CPU and that every machine has."""
    with pytest.raises(LoadError, match="--kv-dtype int8 is not supported on meta yet"):
        load_model(save_random(LlamaConfig(**SIZES), tmp_path), device="meta", kv_dtype="int8")
