"""Token trees: the union of what several proposers offer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.speculative.limits import MAX_NODES
from outrider.speculative.proposer import Draft
from outrider.speculative.tree import ROOT, TokenTree, chain, is_sound, merge

TOKENS = st.integers(0, 2)  # few, so that offers share beginnings


@st.composite
def drafts(draw) -> Draft:
    token_ids = tuple(draw(st.lists(TOKENS, max_size=8)))
    if draw(st.booleans()):
        return Draft(token_ids)
    return Draft(token_ids, tuple(draw(st.integers(ROOT, node - 1)) for node in range(len(token_ids))))


def branches(tree: TokenTree) -> set[tuple[int, ...]]:
    return {tree.tokens_to(node) for node in range(len(tree))}


def branches_of(draft: Draft) -> set[tuple[int, ...]]:
    parents = range(ROOT, len(draft.token_ids) - 1) if draft.parents is None else draft.parents
    found: list[tuple[int, ...]] = []
    for token_id, parent in zip(draft.token_ids, parents, strict=True):
        found.append((*(found[parent] if parent != ROOT else ()), token_id))
    return set(found)


@given(st.lists(drafts(), min_size=1, max_size=4))
def test_the_union_has_every_branch_once(offered) -> None:
    """And every node knows who offered it."""
    offers = {f"p{index}": draft for index, draft in enumerate(offered)}
    tree = merge(offers, MAX_NODES)

    expected = set().union(*(branches_of(draft) for draft in offered))
    if len(offered) > 1 or offered[0].parents is not None:
        assert len(tree) == len(branches(tree))
    assert branches(tree) == expected
    for node in range(len(tree)):
        offering = {name for name, draft in offers.items() if tree.tokens_to(node) in branches_of(draft)}
        assert offering == set(tree.origins[node])


@given(drafts())
def test_the_chain_of_an_offer_is_its_branch_of_first_children(draft) -> None:
    """Down to a node without a child; an offer that is a chain is its own."""
    parents = list(range(ROOT, len(draft.token_ids) - 1)) if draft.parents is None else list(draft.parents)
    expected, node = [], ROOT
    while node in parents:
        node = parents.index(node)
        expected.append(draft.token_ids[node])

    assert chain(draft).token_ids == tuple(expected)
    assert chain(draft).parents is None


@given(st.lists(drafts(), min_size=1, max_size=4), st.integers(0, 12))
def test_what_is_too_much_is_left_out_from_the_tips(offered, max_nodes) -> None:
    """No node is without its parent, and none that stays is deeper than one that went."""
    offers = {f"p{index}": draft for index, draft in enumerate(offered)}
    whole, cut = merge(offers, MAX_NODES), merge(offers, max_nodes)

    assert len(cut) == min(max_nodes, len(whole))
    assert all(parent < node for node, parent in enumerate(cut.parents))
    lost = branches(whole) - branches(cut)
    assert max(map(len, branches(cut)), default=0) <= min(map(len, lost), default=99)


def test_the_first_offer_lies_in_one_piece() -> None:
    """A chain that is accepted needs no place in the cache changed."""
    tree = merge({"a": Draft((1, 2, 3)), "b": Draft((1, 7)), "c": Draft((4,))}, 64)

    assert (1, 2, 3, 7, 4) == tree.token_ids
    assert (ROOT, 0, 1, 0, ROOT) == tree.parents
    assert (("a", "b"), ("a",), ("a",), ("b",), ("c",)) == tree.origins
    assert (1, 0b11, 0b111, 0b1001, 0b10000) == tree.ancestors
    assert not tree.is_chain
    assert tree.only([0, 3]).is_chain


def test_a_chain_is_the_special_case() -> None:
    """Cut at the end."""
    tree = merge({"a": Draft((1, 1, 1, 1))}, 3)

    assert ((1, 1, 1), (ROOT, 0, 1), True) == (tree.token_ids, tree.parents, tree.is_chain)
    assert (1, 1) == tree.tokens_to(1)
    assert () == tree.tokens_to(ROOT)


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (Draft(), True),
        (Draft((0, 9)), True),
        (Draft((0, 10)), False),
        (Draft((-1,)), False),
        (Draft((1, 2), (ROOT, 0)), True),
        (Draft((1, 2), (ROOT, 1)), False),  # its own parent
        (Draft((1, 2), (1, ROOT)), False),
        (Draft((1, 2), (ROOT,)), False),
        (Draft((1,), (-2,)), False),
    ],
)
def test_what_is_no_tree_of_tokens_is_told(draft, expected) -> None:
    """Ids below 10, parents before their children."""
    assert expected is is_sound(draft, 10)
