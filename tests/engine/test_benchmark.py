"""Measuring: the figures are of what was asked, on a checkpoint or on a shape."""

import json
import subprocess
from pathlib import Path

import pytest
from server import COMMAND
from transformers import AutoConfig, AutoModelForCausalLM

from outrider.engine.benchmark import measure_latency, measure_throughput
from outrider.engine.config import EngineConfig
from outrider.engine.errors import LoadError
from outrider.engine.random_checkpoint import SHAPES, shape_names, write_random_checkpoint
from outrider.engine.tokenizer import Tokenizer

TINY = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


def test_throughput_counts_every_round(tiny_folder: Path) -> None:
    """The median of the rounds, and the ratio to transformers."""
    config = EngineConfig(model=str(tiny_folder), num_threads=1, prefix_caching=False)
    rows = measure_throughput(
        config, input_len=8, output_len=4, concurrencies=[1, 3], num_rounds=3, with_transformers=True
    )

    assert [1, 3] == [row.concurrency for row in rows]
    for row in rows:
        assert sorted(row.engine_rounds)[1] == row.engine
        assert row.transformers is not None
        assert row.ratio == row.engine / row.transformers


def test_latency_adds_up(tiny_folder: Path) -> None:
    """The first token and the gaps behind it make the whole."""
    config = EngineConfig(model=str(tiny_folder), num_threads=1, prefix_caching=False)
    found = measure_latency(config, input_len=8, output_len=4, num_rounds=1)

    assert found.whole[0] >= found.first_token[0] + found.per_token[0]
    assert found.per_token[0] <= found.per_token[1]


def test_a_random_checkpoint_has_its_shape_and_a_tokenizer(shape: Path, tmp_path: Path) -> None:
    """The same seed writes the same weights."""
    for name in ("first", "second"):
        write_random_checkpoint(str(shape), tmp_path / name, seed=3)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "first")

    assert (tmp_path / "first" / "model.safetensors").read_bytes() == (
        tmp_path / "second" / "model.safetensors"
    ).read_bytes()
    assert (32, 2) == (model.config.hidden_size, model.config.num_hidden_layers)
    tokenizer = Tokenizer(tmp_path / "first")
    assert tokenizer.decode(tokenizer.encode("naïve 東京")) == "naïve 東京"


@pytest.mark.parametrize(
    ("name", "low", "high"), [("llama-100m", 90e6, 110e6), ("llama-500m", 450e6, 550e6), ("llama-8b", 8.0e9, 8.1e9)]
)
def test_shipped_shapes_have_the_size_of_their_name(name: str, low: float, high: float) -> None:
    """Counted without weights."""
    import torch

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**json.loads((SHAPES / f"{name}.json").read_text()))
        )

    assert name in shape_names()
    assert low < model.num_parameters() < high


@pytest.mark.parametrize("content", ["", "[]", '{"model_type": "nonsense"}', '{"hidden_size": 3}'])
def test_what_is_no_shape_is_refused(content: str, tmp_path: Path) -> None:
    """By its path."""
    path = tmp_path / "shape.json"
    path.write_text(content)

    with pytest.raises(LoadError, match=r"shape\.json"):
        write_random_checkpoint(str(path), tmp_path / "out")


def test_a_shape_is_measured_by_the_command(shape: Path, tmp_path: Path) -> None:
    """Nothing is left behind but the figures."""
    figures = tmp_path / "figures.json"
    command = [*COMMAND, "bench", "latency", "--random-weights", str(shape), "--input-len", "8", "--output-len", "4"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--output", str(figures)], check=True, capture_output=True, text=True
    )

    assert "first token" in done.stdout
    assert {"num_threads", "first_token", "per_token", "whole"} == json.loads(figures.read_text()).keys()


def test_an_unknown_shape_is_named() -> None:
    """With those that there are."""
    command = [*COMMAND, "bench", "latency", "--random-weights", "llama-9000b"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert "no shape `llama-9000b`" in done.stderr
    assert "llama-100m" in done.stderr
