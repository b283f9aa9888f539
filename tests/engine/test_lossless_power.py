"""What the comparison of `test_lossless.py` notices: each way to change an answer is tried once."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from lossless import METHODS, Answer, answers, differing, make_requests, with_speculation

from outrider.engine import drawing, outcome, sampler
from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SpeculationParams, Submit
from outrider.engine.runner import ModelRunner
from outrider.engine.sampler import SampleRow
from outrider.speculative.tree import ROOT, TokenTree
from outrider.structured import grammar


@pytest.fixture(scope="module")
def make(family) -> Callable[[], EngineCore]:
    """Builds an engine with all speculators."""
    options = {"num_threads": 1, "dtype": "float32", "max_num_seqs": 12, "max_model_len": 192}
    return lambda: EngineCore(EngineConfig(**family, **options))


@pytest.fixture(scope="module")
def items(family) -> list[Submit]:
    return make_requests(range(33), family["model"])


@pytest.fixture(scope="module")
def plain(make, items) -> dict[str, Answer]:
    return answers(make(), items)


def shift_noise(monkeypatch) -> None:
    """The noise of drafted rows is that of the next place."""
    draw = SampleRow.draw.fget
    monkeypatch.setattr(
        SampleRow,
        "draw",
        property(lambda row: replace(draw(row), position=draw(row).position + bool(row.draft))),
    )


def leave_accepted_nodes(monkeypatch) -> None:
    """Keys and values of accepted nodes stay where they were computed."""
    monkeypatch.setattr(ModelRunner, "move", lambda runner, moves: None)


def see_other_branches(monkeypatch) -> None:
    """A node attends to all nodes before it, as in a chain."""
    monkeypatch.setattr(TokenTree, "is_chain", True)


def forget_draft_in_penalties(monkeypatch) -> None:
    """Penalties of drafted rows are those of the first."""
    edit = sampler._edit

    def edited(logits, row):
        edit(logits, row if row.params.bad_words else replace(row, draft=()))

    monkeypatch.setattr(sampler, "_edit", edited)


def forget_draft_in_bad_words(monkeypatch) -> None:
    """Bad words that begin in a draft are not known."""
    ends = sampler._ends_of_bad_words
    monkeypatch.setattr(sampler, "_ends_of_bad_words", lambda row: ends(replace(row, draft=())))


def take_siblings_for_history(monkeypatch) -> None:
    """The history of a node is all nodes before it, its own branch or not."""
    monkeypatch.setattr(TokenTree, "tokens_to", lambda tree, node: tree.token_ids[: node + 1])


def keep_grammar_at_draft(monkeypatch) -> None:
    """The grammar is not taken back behind the walk along a draft."""
    monkeypatch.setattr(grammar.XgrammarGrammar, "rollback", lambda matcher, count: None)


def mask_nodes_as_their_parents(monkeypatch) -> None:
    """The mask behind a node is that behind the newest token."""
    fill = drawing.fill_masks

    def filled(rows, vocab_size):
        return {name: mask[:1].expand_as(mask) if len(mask) else mask for name, mask in fill(rows, vocab_size).items()}

    monkeypatch.setattr("outrider.engine.core.fill_masks", filled)


def accept_one_too_many(monkeypatch) -> None:
    """The first child of the last accepted node is emitted in place of the token drawn behind it."""
    match = outcome.match

    def matched(tree, drawn):
        emitted, accepted = match(tree, drawn)
        children = tree.children[accepted[-1] if accepted else ROOT]
        return [*emitted[:-1], next(iter(children), emitted[-1])], accepted

    monkeypatch.setattr(outcome, "match", matched)


FAULTS = (
    shift_noise,
    leave_accepted_nodes,
    see_other_branches,
    forget_draft_in_penalties,
    forget_draft_in_bad_words,
    take_siblings_for_history,
    keep_grammar_at_draft,
    mask_nodes_as_their_parents,
    accept_one_too_many,
)


def drafted_answers(make, items, plain) -> dict[str, Answer]:
    speculation = SpeculationParams(METHODS, 8)
    return answers(make(), [with_speculation(item, speculation, plain) for item in items])


def test_without_a_fault_answers_are_the_same(make, items, plain) -> None:
    """With the very requests that find every fault below."""
    assert [] == differing(plain, drafted_answers(make, items, plain))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_makes_answers_differ(make, items, plain, monkeypatch, fault) -> None:
    """Where speculation is not lossless, the comparison says so."""
    fault(monkeypatch)

    assert [] != differing(plain, drafted_answers(make, items, plain))
