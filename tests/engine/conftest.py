"""Tiny random models, and engines on them."""

from pathlib import Path

import pytest
import torch
from inline_engine import EOS, VOCAB_SIZE
from speculated_target import write_family
from transformers import LlamaConfig, LlamaForCausalLM

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A Llama of random weights whose logits are far from uniform, so that a wrong token shows."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        bos_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def make_core(tiny_folder):
    """Builds an engine on the tiny model; options as in EngineConfig."""

    def make(**options) -> EngineCore:
        return EngineCore(EngineConfig(**{"model": str(tiny_folder), "num_threads": 1, **options}))

    return make


@pytest.fixture(scope="session")
def family(tmp_path_factory) -> dict[str, str]:
    """The folders of a target with a tokenizer and of its speculators, as options of EngineConfig."""
    return write_family(tmp_path_factory.mktemp("family"))
