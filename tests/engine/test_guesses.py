"""Speculators beside a target guess what fresh ones would: from the right features, and from caches that are true.

Wrong features and stale caches change no token, only how many guesses are right; so it is the guesses that are judged.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from fresh_speculators import Judge
from lossless import answers, make_requests

from outrider.engine import drafting
from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SpeculationParams, Submit
from outrider.speculative.draft import DraftProposer

BLOCK_BYTES = 73_728  # of the target and its speculators, in float32
SPECULATORS = ("medusa", "draft", "eagle")


@pytest.fixture(scope="module")
def make(family) -> Callable[..., EngineCore]:
    """Builds an engine with all speculators; options as in EngineConfig."""

    def make_core(**options) -> EngineCore:
        shared = {"num_threads": 1, "dtype": "float32", "max_num_seqs": 12, "max_model_len": 192}
        return EngineCore(EngineConfig(**family, **shared | options))

    return make_core


@pytest.fixture(scope="module")
def items(family) -> list[Submit]:
    return make_requests(range(18), family["model"])


def judged(core: EngineCore, family: dict[str, str], items: list[Submit], *, are_plain_first: bool = False) -> Judge:
    """Runs requests of all speculators and of single ones, some of them behind the answers of plain ones."""
    judge = Judge(core, family["draft"])
    if are_plain_first:
        first = answers(core, items)
        items = [
            msgspec.structs.replace(item, prompt_ids=[*item.prompt_ids, *first[item.request_id].token_ids, 3])
            for item in items
        ]
    choices = (SPECULATORS, SPECULATORS[:1], SPECULATORS, SPECULATORS[1:2], SPECULATORS, SPECULATORS[2:])
    answers(
        core,
        [
            msgspec.structs.replace(item, speculation=SpeculationParams(choices[index % len(choices)], 6))
            for index, item in enumerate(items)
        ],
    )
    return judge


@pytest.mark.parametrize(
    "options",
    [{}, {"max_num_batched_tokens": 50}, {"kv_memory_bytes": 12 * BLOCK_BYTES}, {"prefix_caching": False}],
    ids=["roomy", "pieces", "cramped", "uncached"],
)
def test_guesses_are_those_of_a_fresh_speculator(make, family, items, options) -> None:
    """In every step, from the target's own features: after rejection, preemption, and behind cached text."""
    core = make(**options)
    judge = judged(core, family, items)

    assert [] == judge.mistakes
    assert min(judge.num_judged.values()) > 60
    for name in SPECULATORS:
        assert 0 < core.stats().accepted_draft_tokens[name] < core.stats().draft_tokens[name]
    assert (core.stats().total_preemptions > 0) == ("kv_memory_bytes" in options)
    assert (core.stats().total_cached_tokens > 0) == options.get("prefix_caching", True)


@pytest.mark.parametrize("memory", [None, 14 * BLOCK_BYTES], ids=["roomy", "cramped"])
def test_behind_text_without_features_guesses_are_those_of_a_fresh_speculator(make, family, items, memory) -> None:
    """The text before was computed for requests without speculation; an EAGLE head begins where its features do."""
    core = make(kv_memory_bytes=memory)
    judge = judged(core, family, items, are_plain_first=True)

    assert [] == judge.mistakes
    assert min(judge.num_judged.values()) > 60
    assert core.stats().total_cached_tokens > 500


def shift_features(monkeypatch) -> None:
    """Each place's features are those of the row before it."""
    features = drafting._features

    def shifted(row, nodes, output, first_row, first_logit):
        moved = replace(output, taps=output.taps.roll(1, 0), hidden=output.hidden.roll(1, 0))
        return features(row, nodes, moved, first_row, first_logit)

    monkeypatch.setattr(drafting, "_features", shifted)


def keep_the_rejected(monkeypatch) -> None:
    """The draft model takes every token it has drafted for accepted."""
    num_read = DraftProposer._num_read

    def careless(proposer, request):
        read = proposer._read.get(request.request_id)
        if read is not None:
            read.drafted = request.token_ids[read.length : read.length + len(read.drafted)]
        return num_read(proposer, request)

    monkeypatch.setattr(DraftProposer, "_num_read", careless)


def take_features_of_all_nodes(monkeypatch) -> None:
    """Accepted nodes are taken to lie one behind the other in the step's rows."""
    features = drafting._features
    monkeypatch.setattr(
        drafting,
        "_features",
        lambda row, nodes, *others: features(row, nodes and range(len(nodes)), *others),
    )


def miss_preemption(monkeypatch) -> None:
    """Caches are taken for whole after the blocks were given away."""
    request = drafting._request
    monkeypatch.setattr(drafting, "_request", lambda *given: replace(request(*given), epoch=0))


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        (shift_features, {"medusa", "eagle"}),
        (take_features_of_all_nodes, {"medusa", "eagle"}),
        (keep_the_rejected, {"draft"}),
        (miss_preemption, {"draft", "eagle"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_fault_makes_guesses_differ(make, family, items, monkeypatch, fault, names) -> None:
    """Those of the speculators that it hits, and the answers stay what they are."""
    fault(monkeypatch)
    judge = judged(make(kv_memory_bytes=12 * BLOCK_BYTES), family, items)

    assert names == {mistake.split()[0] for mistake in judge.mistakes if " of r" in mistake}
