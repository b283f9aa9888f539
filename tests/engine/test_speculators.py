"""Speculators beside a target: their drafts change no token, in any company, and their caches stay true."""

from pathlib import Path

import msgspec
import pytest
import torch
from inline_engine import SAMPLED, VOCAB_SIZE, requests, run, run_deltas, submit
from transformers import LlamaConfig, LlamaForCausalLM

from outrider.engine.protocol import SpeculationParams
from outrider.speculative.proposer import Draft, Features


@pytest.fixture(scope="session")
def draft_folder(tmp_path_factory, tiny_folder) -> Path:
    """The tiny model with a little noise in its weights, so that it is often right and often wrong."""
    folder = tmp_path_factory.mktemp("draft")
    model = LlamaForCausalLM.from_pretrained(tiny_folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * weight.std() * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("methods", [("draft",), ("ngram", "draft"), "auto"], ids=["draft", "ngram+draft", "auto"])
def test_a_draft_model_changes_no_token(make_core, draft_folder, dtype, params, methods) -> None:
    """Alone and in company, in small pieces, preempted, with shared prefixes; and it does save steps."""
    expected = run(make_core(dtype=dtype), requests(**params))
    small = 190_000 * (2 if dtype == "float32" else 1)
    for options in ({}, {"max_num_batched_tokens": 40, "max_num_seqs": 16}, {"kv_memory_bytes": small}):
        core = make_core(dtype=dtype, draft=str(draft_folder), **options)
        is_auto = methods == "auto"
        speculation = SpeculationParams(("ngram", "suffix", "draft") if is_auto else methods, 6, auto=is_auto)
        drafted = [msgspec.structs.replace(item, speculation=speculation) for item in requests(**params)]

        assert expected == run(core, drafted)
        if not is_auto:
            assert core._drafting.totals["draft"].num_accepted_tokens > 60
        if "kv_memory_bytes" in options:
            assert core.stats().total_preemptions > 0


def test_a_draft_model_that_is_the_target_is_always_right(make_core, tiny_folder) -> None:
    """At every temperature, since it draws with the same noise: a wrong token would be one of a wrong cache."""
    for params in ({}, {"temperature": 1.0}, {"temperature": 1.3, "top_p": 0.9, "top_k": 20}):
        core = make_core(dtype="float32", draft=str(tiny_folder))
        deltas = run_deltas(core, requests(("draft",), **params))
        figures = [mine[-1].figures.speculation[0] for mine in deltas.values()]

        # Second choices are drafted beside the chain, and never accepted.
        assert all(sum(delta.token_ids != [] for delta in mine) <= 34 for mine in deltas.values())
        assert sum(one.num_accepted_tokens for one in figures) > 100


class Reader:
    """Offers nothing, and keeps what it is told."""

    def __init__(self) -> None:
        self.features: list[Features] = []

    def observe(self, features) -> None:
        self.features += features

    def propose(self, requests) -> list[Draft]:
        return [Draft() for _ in requests]

    def forget(self, request_id) -> None:
        pass


@pytest.mark.parametrize("length", [32, 33, 34])
def test_behind_a_piece_of_a_prompt_there_is_no_hidden_state(make_core, length) -> None:
    """Nor where one token alone is missing: what is drawn behind its neighbour is another's, or nobody's."""
    core = make_core(max_num_batched_tokens=32, max_num_seqs=8)
    core._drafting.add("reader", reader := Reader())
    core.speculation_methods = ("reader",)
    run(core, [submit("a", list(range(2, 2 + length)), methods=("reader",), max_tokens=4)])

    assert [(0, 32), (32, length)][: 1 + (length > 32)] == [
        (one.start, one.stop) for one in reader.features if one.start < length
    ]
    assert [one.hidden is not None for one in reader.features] == [one.stop >= length for one in reader.features]


def test_a_draft_model_of_another_vocabulary_is_refused(make_core, tmp_path) -> None:
    """At start, naming both."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE * 2,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)

    with pytest.raises(Exception, match="256"):
        make_core(draft=str(tmp_path))
