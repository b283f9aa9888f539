"""Drafts that branch: whatever is offered beside the right tokens, the output is the plain output, bit for bit."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from inline_engine import EOS, SAMPLED, VOCAB_SIZE, requests, run, run_deltas, submit

from outrider.speculative.proposer import Draft, DraftRequest
from outrider.speculative.tree import ROOT

NAMES = ("first", "second")


class Oracle:
    """Knows what comes, and hides it among wrong branches; sometimes it is wrong from some depth on."""

    def __init__(self, seed: int) -> None:
        self.answers: dict[str, list[int]] = {}  # prompt and answer, by request
        self._random = random.Random(seed)

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        pass

    def _propose(self, request: DraftRequest) -> Draft:
        following = self.answers[request.request_id][len(request.token_ids) :]
        right = following[: self._random.randrange(len(following) + 1)]
        token_ids: list[int] = []
        parents: list[int] = []
        parent = ROOT
        for depth in range(request.max_tokens):
            taken = {token_id for token_id, one in zip(token_ids, parents, strict=True) if one == parent}
            for _ in range(self._random.randrange(3)):
                wrong = self._random.randrange(VOCAB_SIZE)
                if wrong not in taken and wrong not in right[depth : depth + 1]:
                    taken.add(wrong)
                    token_ids.append(wrong)
                    parents.append(parent)
            if depth < len(right):
                token_ids.append(right[depth])
                parents.append(parent)
                parent = len(token_ids) - 1
        return Draft(tuple(token_ids[: request.max_tokens]), tuple(parents[: request.max_tokens]))


def teach(core, expected: dict[str, list[int]], items) -> None:
    """Gives an engine two oracles that know the answers."""
    for index, name in enumerate(NAMES):
        oracle = Oracle(index)
        oracle.answers = {item.request_id: item.prompt_ids + expected[item.request_id] for item in items}
        core._drafting.add(name, oracle)
    core.speculation_methods = (*core.speculation_methods, *NAMES)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("methods", [("first",), NAMES, ("ngram", "suffix", *NAMES)], ids="+".join)
def test_a_tree_changes_no_token(make_core, dtype, params, methods) -> None:
    """Alone and in company, in small pieces, preempted, with shared prefixes; and it does save steps."""
    expected = run(make_core(dtype=dtype), requests(**params))
    small = 140_000 * (2 if dtype == "float32" else 1)
    for options in ({}, {"max_num_batched_tokens": 40, "max_num_seqs": 16}, {"kv_memory_bytes": small}):
        core = make_core(dtype=dtype, **options)
        drafted = requests(methods, **params)
        teach(core, expected, drafted)

        assert expected == run(core, drafted)
        assert sum(core._drafting.totals[name].num_accepted_tokens for name in NAMES) > 60
        if "kv_memory_bytes" in options:
            assert core.stats().total_preemptions > 0
    # Blocks whose tokens came along branches are as good as any: the second request reads them.
    again = [submit(f"x{i}", item.prompt_ids + expected[item.request_id]) for i, item in enumerate(drafted)]
    assert run(core, again) == run(make_core(dtype=dtype, prefix_caching=False), again)
    assert core.stats().total_cached_tokens > 0


def test_without_a_tree_one_branch_of_the_first_offer_is_verified(make_core) -> None:
    """The second method is asked for nothing else than where the first has nothing to offer."""
    expected = run(make_core(), requests())
    core = make_core()
    drafted = [
        msgspec.structs.replace(one, speculation=msgspec.structs.replace(one.speculation, tree=False))
        for one in requests(NAMES)
    ]
    teach(core, expected, drafted)
    seen = []
    fill = core._drafting.fill
    core._drafting.fill = lambda rows, count: (fill(rows, count), seen.extend(row.draft for row in rows))

    assert expected == run(core, drafted)
    assert all(tree.is_chain for tree in seen)
    assert {names for tree in seen for names in set(tree.origins)} == {("first",), ("second",)}
    assert all(len(set(tree.origins)) <= 1 for tree in seen)


def test_log_probabilities_are_those_of_the_branch(make_core) -> None:
    """Of the emitted tokens, in their order."""
    expected = run_deltas(make_core(dtype="float32"), requests(num_logprobs=2))
    plain = {name: [one for delta in deltas for one in delta.logprobs] for name, deltas in expected.items()}
    tokens = {name: [token for delta in deltas for token in delta.token_ids] for name, deltas in expected.items()}
    core = make_core(dtype="float32")
    drafted = requests(NAMES, num_logprobs=2)
    teach(core, tokens, drafted)

    deltas = run_deltas(core, drafted)
    assert plain == {name: [one for delta in mine for one in delta.logprobs] for name, mine in deltas.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_end_inside_a_branch_ends_the_answer(make_core, seed) -> None:
    """Nothing behind it is emitted, though it was drafted and would be accepted."""
    options = {"max_tokens": 12, "logit_bias": {EOS: 8.0}, "temperature": 1.0, "seed": seed}
    expected = run(make_core(dtype="float32"), [submit("a", [5, 6, 7], **options)])
    assert expected["a"][-1] == EOS
    core = make_core(dtype="float32")
    drafted = submit("a", [5, 6, 7], methods=NAMES, **options)
    teach(core, {"a": expected["a"] + [9] * 12}, [drafted])

    assert expected == run(core, [drafted])


def test_each_proposer_is_counted_for_its_own_nodes(make_core) -> None:
    """In the figures of the request and in all."""
    expected = run(make_core(), requests())
    core = make_core()
    drafted = requests(NAMES)
    teach(core, expected, drafted)
    deltas = run_deltas(core, drafted)

    figures = [one for mine in deltas.values() for one in mine[-1].figures.speculation]
    for name in NAMES:
        mine, total = [one for one in figures if one.method == name], core._drafting.totals[name]
        assert sum(one.num_draft_tokens for one in mine) == total.num_draft_tokens
        assert sum(one.num_accepted_tokens for one in mine) == total.num_accepted_tokens > 0


def test_a_tree_changes_no_token_of_an_int8_cache(make_core) -> None:
    """Scales are moved with their tokens."""
    options = {"dtype": "bfloat16", "kv_dtype": "int8"}
    expected = run(make_core(**options), requests())
    core = make_core(**options)
    drafted = requests(NAMES)
    teach(core, expected, drafted)

    assert expected == run(core, drafted)
    assert sum(core._drafting.totals[name].num_accepted_tokens for name in NAMES) > 60


def test_a_proposer_that_offers_nonsense_or_fails_harms_nobody(make_core, caplog) -> None:
    """Its offers are left out, and the answers are the plain ones."""
    expected = run(make_core(), requests())
    for draft in (Draft((VOCAB_SIZE,)), Draft((1, 2), (1, 0)), None):
        core = make_core()
        drafted = requests(("first", "ngram"))
        teach(core, expected, drafted)
        core._drafting._proposers["first"]._propose = lambda _, draft=draft: draft or 1 / 0

        deltas = run_deltas(core, drafted)
        assert expected == {name: [token for one in mine for token in one.token_ids] for name, mine in deltas.items()}
        failed = [one for mine in deltas.values() for one in mine[-1].figures.speculation if one.method == "first"]
        assert sum(one.num_dropped for one in failed) == core.stats().dropped_drafts["first"] > 0
        assert core.stats().dropped_drafts["ngram"] == 0
        assert {one.num_steps for one in failed} == {0}
        wholes = [mine[-1].figures.whole_drafts for mine in deltas.values()]
        assert {whole.method for whole in wholes if whole is not None} <= {"ngram"}
    assert "offers no tree of tokens" in caplog.text
    assert "proposer first failed" in caplog.text


def test_a_proposer_that_answers_some_requests_only_harms_nobody(make_core) -> None:
    """Nobody knows whose drafts they are, so all of them are left out."""
    expected = run(make_core(), requests())
    core = make_core()
    drafted = requests(("first",))
    teach(core, expected, drafted)
    core._drafting._proposers["first"].propose = lambda asking: [Draft((1,))] * (len(asking) - 1)

    assert expected == run(core, drafted)
    assert core.stats().dropped_drafts["first"] > 0
    assert core.stats().draft_tokens["first"] == 0


def test_the_engine_counts_its_tokens_by_origin(make_core) -> None:
    """All of them, whoever asked; and each method's steps by how much of its draft they accepted."""
    expected = run(make_core(), requests())
    core = make_core()
    drafted = requests(NAMES)
    teach(core, expected, drafted)
    run(core, drafted)
    stats = core.stats()

    assert sum(stats.token_origins.values()) == sum(map(len, expected.values()))
    assert set(stats.token_origins) == {*NAMES, "bonus", "target"}
    for name in NAMES:
        accepted = sum(count * index for index, count in enumerate(stats.acceptance_histograms[name]))
        assert accepted == stats.accepted_draft_tokens[name] >= stats.token_origins[name] > 0


class Misleading(Oracle):
    """Offers a wrong token before the right one at every depth, so that every accepted node must be moved."""

    def _propose(self, request: DraftRequest) -> Draft:
        right = self.answers[request.request_id][len(request.token_ids) :][: request.max_tokens // 2]
        token_ids = [token_id for one in right for token_id in ((one + 1) % VOCAB_SIZE, one)]
        return Draft(tuple(token_ids), tuple(2 * (node // 2) - 1 for node in range(len(token_ids))))


@pytest.mark.parametrize("length", range(20, 32))
def test_what_an_ending_request_leaves_in_the_cache_is_its_own_text(make_core, length) -> None:
    """A block that fills in the step that ends it holds the branch that was accepted, not what lay beside it."""
    generator = random.Random(length)
    prompt = [generator.randrange(2, VOCAB_SIZE) for _ in range(length)]
    options = {"max_tokens": 14, "ignore_eos": True}
    plain = run(make_core(dtype="float32"), [submit("a", prompt, **options)])["a"]
    for end in range(32 - length, min(36 - length, 14)):  # the first block of 32 fills in one of the last steps
        if plain[end] in plain[:end]:
            continue
        core = make_core(dtype="float32")
        item = submit("a", prompt, methods=NAMES[:1], stop_token_ids=(plain[end],), **options)
        teach(core, {"a": plain}, [item])
        core._drafting._proposers[NAMES[0]] = misleading = Misleading(0)
        misleading.answers = {"a": prompt + plain}
        answer = run(core, [item])["a"]
        assert answer == plain[: end + 1]

        again = submit("b", [*prompt, *answer, 7], max_tokens=8, num_logprobs=1)
        (found,) = run_deltas(core, [again]).values()
        (fresh,) = run_deltas(make_core(dtype="float32"), [again]).values()
        assert [delta.logprobs for delta in found] == [delta.logprobs for delta in fresh]
