"""Verification by sample-then-match.

At each place the token is drawn from the target's own distribution, with noise that depends on seed, position and
token alone, whatever was drafted. A drafted token is accepted when it is the token drawn. So the output is the plain
output, token for token, and a draft can change nothing but its speed.
"""

from collections.abc import Sequence

from outrider.speculative.tree import ROOT, TokenTree


def match(tree: TokenTree, drawn: Sequence[int | None]) -> tuple[list[int | None], list[int]]:
    """Walks down the tree as long as the drawn token is a child.

    Args:
        tree: k nodes
        drawn: k + 1 tokens, the first behind the request's newest token, `drawn[1 + i]` behind node i. None matches
            nothing

    Returns:
        the tokens to emit, of which the last one was not drafted, and the accepted nodes, one less
    """
    emitted = [drawn[0]]
    accepted: list[int] = []
    node = ROOT
    while (token_id := emitted[-1]) is not None and token_id in tree.children[node]:
        node = tree.children[node][token_id]
        accepted.append(node)
        emitted.append(drawn[1 + node])
    return emitted, accepted
