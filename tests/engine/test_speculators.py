"""Speculators beside a target: their drafts change no token, in any company, and their caches stay true."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from inline_engine import SAMPLED, VOCAB_SIZE, requests, run, run_deltas, submit
from transformers import LlamaConfig, LlamaForCausalLM

from outrider.speculative.eagle import EagleConfig, EagleHead
from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head
from outrider.speculative.eagle_checkpoint import save_eagle3
from outrider.speculative.files import write_checkpoint
from outrider.speculative.medusa import MedusaConfig, MedusaHeads
from outrider.speculative.medusa_checkpoint import save_medusa
from outrider.speculative.proposer import Draft, Features

HIDDEN_SIZE = 64  # of the tiny model
LAYER = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB_SIZE,
}


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


def save_random_eagle(folder: Path) -> None:
    head = EagleHead(EagleConfig(**LAYER))
    written = {"model_type": "llama", "num_hidden_layers": 1, **LAYER}
    write_checkpoint(folder, written, dict(head.state_dict()), "")


def save_random_eagle3(folder: Path) -> None:
    head = Eagle3Head(
        Eagle3Config(**LAYER, target_hidden_size=HIDDEN_SIZE, draft_vocab_size=VOCAB_SIZE // 2, tap_layers=(0, 1))
    )
    head.use_vocabulary(torch.randperm(VOCAB_SIZE)[: VOCAB_SIZE // 2].sort().values)
    with torch.no_grad():
        head.lm_head.weight.mul_(4.0)
    save_eagle3(head, folder, "")


def save_random_medusa(folder: Path) -> None:
    heads = MedusaHeads(MedusaConfig(HIDDEN_SIZE, num_heads=3))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_medusa(heads, folder, "the tiny model", "")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    ("method", "save", "kv_memory"),
    [
        ("eagle", save_random_eagle, 142_000),
        ("eagle", save_random_eagle3, 142_000),
        ("medusa", save_random_medusa, 95_000),
    ],
    ids=["eagle", "eagle3", "medusa"],
)
def test_heads_that_read_the_target_change_no_token(
    make_core, tmp_path, dtype, params, method: str, save: Callable[[Path], None], kv_memory: int
) -> None:
    """Alone and in company, prompts in small pieces, preempted, behind shared prefixes; random ones, mostly wrong."""
    torch.manual_seed(0)
    save(tmp_path)
    expected = run(make_core(dtype=dtype), requests(**params))
    small = kv_memory * (2 if dtype == "float32" else 1)
    for options in ({}, {"max_num_batched_tokens": 40, "max_num_seqs": 16}, {"kv_memory_bytes": small}):
        core = make_core(dtype=dtype, **{method: str(tmp_path)}, **options)

        for _ in range(2):  # then behind cached prefixes, whose features are not known
            assert expected == run(core, requests((method,), **params))
        assert core.stats().total_cached_tokens > 0
        assert core._drafting.totals[method].num_accepted_tokens > 0
        assert core._drafting.totals[method].num_dropped == 0
        if "kv_memory_bytes" in options:
            assert core.stats().total_preemptions > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_a_draft_model_changes_no_token(make_core, draft_folder, dtype, params) -> None:
    """Alone, in small pieces, preempted, with shared prefixes; it does save steps. In company: test_lossless.py."""
    expected = run(make_core(dtype=dtype), requests(**params))
    small = 190_000 * (2 if dtype == "float32" else 1)
    for options in ({}, {"max_num_batched_tokens": 40, "max_num_seqs": 16}, {"kv_memory_bytes": small}):
        core = make_core(dtype=dtype, draft=str(draft_folder), **options)

        assert expected == run(core, requests(("draft",), **params))
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
