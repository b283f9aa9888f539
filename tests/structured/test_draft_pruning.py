"""Drafts are cut to what the grammar allows, on every backend, and the grammar stays where it stood."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from outrider.engine.draft_pruning import prune
from outrider.speculative.proposer import Draft
from outrider.speculative.tree import ROOT
from outrider.structured.grammar import Grammar
from outrider.structured.mask import allocate_bitmask

GrammarOf = Callable[[Any], Grammar]
NAME = {"enum": ["Ada", "Adele", "Bob"]}
SCHEMA = {"type": "object", "properties": {"name": NAME, "tags": {"type": "array"}}, "required": ["name", "tags"]}
AGE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def allowed(grammar: Grammar, vocabulary: Any) -> list[int]:
    """Ids of the tokens that may follow."""
    bitmask = allocate_bitmask(1, vocabulary.size)
    grammar.fill_mask(bitmask, 0)
    bits = np.unpackbits(bitmask.numpy().view(np.uint8), bitorder="little")[: vocabulary.size]
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def follows(grammar: Grammar, path: list[int]) -> bool:
    """Whether a grammar takes these tokens one behind the other; it is left as it was."""
    taken = next((place for place, one in enumerate(path) if not grammar.accept(one)), len(path))
    grammar.rollback(taken)
    return taken == len(path)


def random_tree(grammar: Grammar, vocabulary: Any, generator: random.Random) -> Draft:
    """64 nodes, half of them allowed behind their parents if those are."""
    token_ids: list[int] = []
    parents: list[int] = []
    paths: list[list[int]] = []
    while len(token_ids) < 64:
        parent = generator.randrange(ROOT, len(token_ids))
        above = [] if parent == ROOT else paths[parent]
        choices = list(range(vocabulary.size))
        if generator.random() < 0.5 and follows(grammar, above):
            for token_id in above:
                grammar.accept(token_id)
            choices = allowed(grammar, vocabulary)
            grammar.rollback(len(above))
        token_ids.append(generator.choice(choices))
        parents.append(parent)
        paths.append([*above, token_ids[-1]])
    return Draft(tuple(token_ids), tuple(parents), tuple(node / 64 for node in range(64)))


def paths_of(draft: Draft) -> list[list[int]]:
    paths: list[list[int]] = []
    for token_id, parent in zip(draft.token_ids, draft.parents or (), strict=True):
        paths.append([*([] if parent == ROOT else paths[parent]), token_id])
    return paths


@pytest.mark.parametrize("seed", range(4))
def test_exactly_the_allowed_nodes_of_a_tree_are_left(grammar_of: GrammarOf, vocabulary: Any, seed: int) -> None:
    """With their scores, as they were offered, wherever the grammar stands."""
    grammar, generator = grammar_of(SCHEMA), random.Random(seed)
    for token_id in vocabulary.tokens('{"name":"Ad')[: seed * 3]:
        assert grammar.accept(token_id)
    before = allowed(grammar, vocabulary)
    draft = random_tree(grammar, vocabulary, generator)
    pruned = prune(draft, grammar)

    expected = [
        (path, score) for path, score in zip(paths_of(draft), draft.scores, strict=True) if follows(grammar, path)
    ]
    assert expected == list(zip(paths_of(pruned), pruned.scores, strict=True))
    assert 0 < len(expected) < 64
    assert before == allowed(grammar, vocabulary)


def test_a_chain_ends_before_the_first_forbidden_token(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """A stop token may be its last; one that is allowed as a whole is returned as it came."""
    grammar = grammar_of(AGE)
    right = vocabulary.tokens('{"a":12}')
    stopped = Draft((*right, vocabulary.stop_token_ids[0]), None, (0.5,) * (len(right) + 1))
    wrong = Draft((*right[:3], vocabulary.tokens("]")[0], *right[3:]))

    assert stopped is prune(stopped, grammar)
    assert Draft(tuple(right[:3])) == prune(wrong, grammar)
    assert Draft() == prune(Draft((vocabulary.size - 1,)), grammar)
    assert follows(grammar, right)
