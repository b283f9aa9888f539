"""The token tree of one request: what all its proposers offer, each shared beginning once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from outrider.speculative.proposer import Draft

ROOT = -1  # the parent of the nodes that follow the committed text
UNKNOWN = 0.5  # the score of a token of which its proposer says nothing


@dataclass(frozen=True)
class TokenTree:
    """Drafted tokens behind a request's newest one. Parents come before their children.

    A node's `origins` are the proposers that offered it, its `scores` what each of them says of it. A chain, in which
    each node's parent is the node before it, is the special case.
    """

    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()  # of each node, ROOT or an earlier node
    origins: tuple[tuple[str, ...], ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        """How many nodes."""
        return len(self.token_ids)

    @property
    def is_chain(self) -> bool:
        """Whether no node has a sibling."""
        return all(parent == node - 1 for node, parent in enumerate(self.parents))

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """For each node the nodes from the first to itself."""
        paths: list[tuple[int, ...]] = []
        for node, parent in enumerate(self.parents):
            paths.append((*(paths[parent] if parent != ROOT else ()), node))
        return tuple(paths)

    @cached_property
    def children(self) -> Mapping[int, Mapping[int, int]]:
        """For ROOT and each node its children, by their tokens."""
        children: dict[int, dict[int, int]] = {node: {} for node in range(ROOT, len(self))}
        for node, (parent, token_id) in enumerate(zip(self.parents, self.token_ids, strict=True)):
            children[parent][token_id] = node
        return children

    @property
    def ancestors(self) -> tuple[int, ...]:
        """For each node the bits of its path, its own among them."""
        return tuple(sum(1 << node for node in path) for path in self.paths)

    def tokens_to(self, node: int) -> tuple[int, ...]:
        """The drafted tokens from the first to the node's own; none for ROOT."""
        return () if node == ROOT else tuple(self.token_ids[one] for one in self.paths[node])

    def only(self, nodes: Sequence[int]) -> "TokenTree":
        """The tree of these nodes, in their order; each one's parent is among those before it."""
        place = {node: index for index, node in enumerate(nodes)} | {ROOT: ROOT}
        return TokenTree(
            tuple(self.token_ids[node] for node in nodes),
            tuple(place[self.parents[node]] for node in nodes),
            tuple(self.origins[node] for node in nodes),
            tuple(self.scores[node] for node in nodes),
        )


def merge(offers: Mapping[str, Draft], max_nodes: int) -> TokenTree:
    """The union of all offers: nodes of the same parent and token are one.

    Where there are more than `max_nodes`, those of less depth stay, and of equal depth those offered first. The first
    offer's own nodes lie one behind the other as far as it is a chain, so that accepting them moves nothing in the
    cache.

    Args:
        offers: by the proposer's name, the one to be trusted most first
        max_nodes: at most MAX_NODES
    """
    if len(offers) == 1:
        ((name, draft),) = offers.items()
        if draft.parents is None:
            token_ids = draft.token_ids[:max_nodes]
            return TokenTree(
                token_ids,
                tuple(range(ROOT, len(token_ids) - 1)),
                ((name,),) * len(token_ids),
                tuple((score,) for score in _scores(draft)[:max_nodes]),
            )
    # A node is known by the tokens that lead to it.
    origins: dict[tuple[int, ...], dict[str, float]] = {}
    for name, draft in offers.items():
        for path, score in zip(_paths(draft), _scores(draft), strict=True):
            mine = origins.setdefault(path, {})
            mine[name] = max(score, mine.get(name, 0.0))
    kept = sorted(origins, key=len)[:max_nodes]  # a stable sort
    order = _depth_first(kept)
    place = {path: node for node, path in enumerate(order)}
    return TokenTree(
        tuple(path[-1] for path in order),
        tuple(place[path[:-1]] if len(path) > 1 else ROOT for path in order),
        tuple(tuple(origins[path]) for path in order),
        tuple(tuple(origins[path].values()) for path in order),
    )


def chain(draft: Draft) -> Draft:
    """Of an offer the branch that goes on with the first child of each node."""
    if draft.parents is None:
        return draft
    nodes: list[int] = []
    for node, parent in enumerate(draft.parents):
        if parent == (nodes[-1] if nodes else ROOT):
            nodes.append(node)
    return Draft(tuple(draft.token_ids[node] for node in nodes), None, tuple(_scores(draft)[node] for node in nodes))


def is_sound(draft: Draft, vocab_size: int) -> bool:
    """Whether all tokens are the model's, each parent comes before its children, and scores are from 0 to 1."""
    ids, parents, scores = draft.token_ids, draft.parents, draft.scores
    if scores and (len(scores) != len(ids) or not all(0.0 <= score <= 1.0 for score in scores)):
        return False
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        return False
    if parents is None:
        return True
    return len(parents) == len(ids) and all(ROOT <= parent < node for node, parent in enumerate(parents))


def _scores(draft: Draft) -> tuple[float, ...]:
    return draft.scores or (UNKNOWN,) * len(draft.token_ids)


def _paths(draft: Draft) -> list[tuple[int, ...]]:
    """The tokens that lead to each node of an offer."""
    paths: list[tuple[int, ...]] = []
    for node, token_id in enumerate(draft.token_ids):
        parent = node - 1 if draft.parents is None else draft.parents[node]
        paths.append((*(paths[parent] if parent != ROOT else ()), token_id))
    return paths


def _depth_first(paths: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The same paths, each directly behind the last of its branch, siblings in the order in which they came."""
    rank: dict[tuple[int, ...], int] = {}
    for path in paths:
        rank.setdefault(path, len(rank))
    return sorted(paths, key=lambda path: [rank[path[:depth]] for depth in range(1, len(path) + 1)])
