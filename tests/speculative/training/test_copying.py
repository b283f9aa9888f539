"""The copying circuit: an untrained model that continues what it has read before."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from outrider.speculative.training.copying import HEAD_DIM, ROPE_THETA, install_copying


def untrained(hidden_size: int, num_heads: int, num_groups: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=hidden_size,
        intermediate_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=num_heads,
        num_key_value_heads=num_groups,
        head_dim=HEAD_DIM,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def copied(model: LlamaForCausalLM, length: int = 40) -> float:
    """The share of a random sequence's second reading that the model guesses."""
    torch.manual_seed(1)
    once = torch.randint(1, 2000, (8, length))
    ids = torch.cat((torch.zeros(8, 1, dtype=torch.long), once, once), dim=1)
    guesses = model(ids).logits[:, length + 1 : -1].argmax(-1)
    return (guesses == ids[:, length + 2 :]).float().mean().item()


@pytest.mark.parametrize(("hidden_size", "num_heads", "num_groups"), [(384, 6, 2), (128, 2, 1)])
def test_an_untrained_model_copies(hidden_size: int, num_heads: int, num_groups: int) -> None:
    """Without the circuit it guesses nothing right."""
    model = untrained(hidden_size, num_heads, num_groups)
    before = copied(model)
    install_copying(model, seed=1)

    assert before < 0.01
    assert copied(model) > 0.4
