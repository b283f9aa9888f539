"""Cuts a draft to what a request's grammar allows, before it takes a place that another node could have."""

from outrider.speculative.proposer import Draft
from outrider.speculative.tree import ROOT
from outrider.structured.grammar import Grammar


def prune(draft: Draft, grammar: Grammar) -> Draft:
    """The same draft without the tokens that the grammar forbids, and all that follows them.

    Args:
        draft: sound; a parent comes before its children
        grammar: stands behind the request's newest token, before and after
    """
    kept = _allowed_chain(draft, grammar) if draft.parents is None else _allowed_nodes(draft, draft.parents, grammar)
    return draft if len(kept) == len(draft.token_ids) else _only(draft, kept)


def _allowed_chain(draft: Draft, grammar: Grammar) -> list[int]:
    length = next((place for place, one in enumerate(draft.token_ids) if not grammar.accept(one)), len(draft.token_ids))
    grammar.rollback(length)
    return list(range(length))


def _allowed_nodes(draft: Draft, parents: tuple[int, ...], grammar: Grammar) -> list[int]:
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    kept: list[int] = []

    def visit(node: int) -> None:
        for child in children.get(node, ()):
            if grammar.accept(draft.token_ids[child]):
                kept.append(child)
                visit(child)
                grammar.rollback(1)

    visit(ROOT)
    return sorted(kept)  # as they were offered


def _only(draft: Draft, nodes: list[int]) -> Draft:
    place = {node: index for index, node in enumerate(nodes)} | {ROOT: ROOT}
    return Draft(
        tuple(draft.token_ids[node] for node in nodes),
        None if draft.parents is None else tuple(place[draft.parents[node]] for node in nodes),
        tuple(draft.scores[node] for node in nodes) if draft.scores else (),
    )
