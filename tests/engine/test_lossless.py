"""Speculation never changes a token: each proposer, every pair and `auto`, in every kind of engine and request.

OUTRIDER_EQUALITY_ROUNDS asks for so many times as many requests; `make equality` does.
"""

import os

import msgspec
import pytest
from lossless import METHODS, SPECULATIONS, answers, differing, make_requests, speculating, with_speculation
from speculated_target import VOCAB_SIZE

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SpeculationParams

NUM_ROUNDS = int(os.environ.get("OUTRIDER_EQUALITY_ROUNDS", "1"))
NUM_REQUESTS = 64  # of a round; 32 share a step
CRAMPED = 20 * 73_728  # bytes of 20 blocks in float32, of the target and its speculators
ENGINES = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "bfloat16", "kv_dtype": "int8"},
    "pieces": {"dtype": "float32", "max_num_batched_tokens": 80},
    "pieces, uncached": {"dtype": "bfloat16", "max_num_batched_tokens": 97, "prefix_caching": False},
    "cramped": {"dtype": "float32", "kv_memory_bytes": CRAMPED},
    "cramped pieces": {"dtype": "bfloat16", "kv_memory_bytes": CRAMPED // 2, "max_num_batched_tokens": 80},
}


@pytest.fixture(scope="module")
def engines(family):
    """Builds a plain engine, and one with all speculators: options as in EngineConfig."""

    def make(**options) -> tuple[EngineCore, EngineCore]:
        shared = {"num_threads": 1, "max_num_seqs": 32, "max_model_len": 192, **options}
        plain = EngineCore(EngineConfig(model=family["model"], speculation_allowed=False, **shared))
        return plain, EngineCore(EngineConfig(**family, **shared))

    return make


def assert_all_proposers_were_right_and_wrong(core: EngineCore) -> None:
    stats = core.stats()
    for name in METHODS:
        assert 0 < stats.accepted_draft_tokens[name] < stats.draft_tokens[name], name
        assert stats.dropped_drafts[name] == 0, name


@pytest.mark.parametrize("name", ENGINES)
def test_speculation_changes_no_answer(engines, family, name) -> None:
    """Side by side with requests of every other speculation: the same tokens and log-probabilities, bit for bit."""
    plain, core = engines(**ENGINES[name])
    for number in range(NUM_ROUNDS):
        first = NUM_REQUESTS * (number * len(ENGINES) + list(ENGINES).index(name))
        items = make_requests(range(first, first + NUM_REQUESTS), family["model"])
        expected = answers(plain, items)

        assert [] == differing(expected, answers(core, speculating(items, expected)))
    assert_all_proposers_were_right_and_wrong(core)
    if "cramped" in name:
        assert core.stats().total_preemptions > 0


@pytest.mark.parametrize("methods", [*((name,) for name in METHODS), METHODS], ids=[*METHODS, "auto"])
def test_a_proposer_among_its_like_changes_no_answer(engines, family, methods) -> None:
    """All requests of an engine with the same speculation, as trees and as chains: steps that hold chains alone too."""
    plain, core = engines(dtype="float32")
    for number in range(NUM_ROUNDS):
        items = make_requests(range(11 * number, 11 * (number + 1)), family["model"])
        expected = answers(plain, items)
        for tree in (True, False):
            speculation = SpeculationParams(methods, 6, auto=methods == METHODS, tree=tree)
            drafted = [with_speculation(item, speculation, expected) for item in items]

            assert [] == differing(expected, answers(core, drafted))
    if methods != METHODS:
        stats = core.stats()
        assert 0 < stats.accepted_draft_tokens[methods[0]] < stats.draft_tokens[methods[0]]


@pytest.mark.parametrize("name", ["bfloat16", "cramped pieces"])
def test_speculation_behind_cached_text_changes_no_answer(engines, family, name) -> None:
    """Conversations that go on: half of the first answers without speculation, so that nobody kept their features."""
    plain, core = engines(**ENGINES[name])
    for number in range(NUM_ROUNDS):
        items = make_requests(range(900 * number, 900 * number + NUM_REQUESTS), family["model"])
        first = answers(plain, items)
        drafted = [
            item if index % 2 else one
            for index, (item, one) in enumerate(zip(items, speculating(items, first), strict=True))
        ]
        assert [] == differing(first, answers(core, drafted))

        numbers = range(900 * number + 100, 900 * number + 100 + NUM_REQUESTS)
        following = [
            msgspec.structs.replace(
                item,
                prompt_ids=[*before.prompt_ids, *first[before.request_id].token_ids, 3 + index % (VOCAB_SIZE - 3)],
            )
            for index, (item, before) in enumerate(zip(make_requests(numbers, family["model"]), items, strict=True))
        ]
        expected = answers(plain, following)

        assert [] == differing(expected, answers(core, speculating(following, expected)))
    assert_all_proposers_were_right_and_wrong(core)
    assert core.stats().total_cached_tokens > 1000


def test_requests_take_every_speculation_in_turn() -> None:
    """Off, each proposer, each pair and `auto`, as trees and as chains."""
    assert len(set(map(repr, SPECULATIONS))) == 1 + 2 * (7 + 21 + 1)
    assert NUM_REQUESTS > len(SPECULATIONS)
