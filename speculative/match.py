"""Verification by sample-then-match.

At each place the token is drawn from the target's own distribution, with noise that depends on seed, position and
token alone, whatever was drafted. A drafted token is accepted when it is the token drawn. So the output is the plain
output, token for token, and a draft can change nothing but its speed.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T", bound=int | None)


def match(draft: Sequence[int], drawn: Sequence[T]) -> list[T]:
    """The tokens to emit: the drawn ones up to and including the first that differs from the draft.

    Args:
        draft: k drafted tokens
        drawn: k + 1 tokens; `drawn[i]` was drawn behind the first i drafted ones. None matches nothing
    """
    num_accepted = 0
    while num_accepted < len(draft) and drawn[num_accepted] == draft[num_accepted]:
        num_accepted += 1
    return list(drawn[: num_accepted + 1])
