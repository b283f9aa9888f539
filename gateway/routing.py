"""Which engine a request goes to. Pure decisions over plain data; `PrefixMemory` is what they remember.

An engine that computed a prompt's beginning has its keys and values still, so requests that begin alike go to the same
one, unless that has much more to do than another.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from outrider.engine.prefix import extend_digests

BLOCK_TOKENS = 32  # prefixes are compared in steps of this many tokens

# What a whole prefix, an idle engine and an empty cache are worth.
PREFIX_WEIGHT = 3.0
LOAD_WEIGHT = 2.0
CACHE_WEIGHT = 2.0

# Beyond both, prefixes do not count: the busiest engine has so many more requests than the least busy one.
IMBALANCE_REQUESTS = 16
IMBALANCE_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Load:
    """One engine as a request finds it."""

    num_requests: int  # under way, those that wait included
    kv_use: float  # share of its cache that requests hold, 0 to 1
    matched: float = 0.0  # share of the prompt that it has computed before, 0 to 1


def choose(loads: Sequence[Load]) -> int:
    """The place of the engine to take; of equal ones the first.

    Args:
        loads: at least one
    """
    busiest = max(load.num_requests for load in loads)
    least = min(load.num_requests for load in loads)
    if busiest - least > IMBALANCE_REQUESTS and busiest > IMBALANCE_RATIO * least:
        return min(range(len(loads)), key=lambda place: loads[place].num_requests)
    return max(range(len(loads)), key=lambda place: _score(loads[place], busiest))


def _score(load: Load, busiest: int) -> float:
    idle = 1.0 - load.num_requests / busiest if busiest else 1.0
    return PREFIX_WEIGHT * load.matched + LOAD_WEIGHT * idle + CACHE_WEIGHT * (1.0 - load.kv_use)


def prefix_chain(token_ids: Sequence[int], salt: str) -> list[bytes]:
    """Names of a prompt's beginnings, block by block; equal names mean equal tokens from the start, and equal salts."""
    digests: list[bytes] = []
    extend_digests(digests, token_ids, len(token_ids) // BLOCK_TOKENS, BLOCK_TOKENS, salt)
    return digests


class PrefixMemory:
    """The prefixes that one engine has computed, as far as they are likely to be there still."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def matched(self, chain: Sequence[bytes]) -> float:
        """The share of a prompt's blocks that the engine has, 0 to 1."""
        for count, digest in enumerate(chain):
            if digest not in self._digests:
                return count / len(chain)
        return 1.0 if chain else 0.0

    def remember(self, chain: Sequence[bytes], capacity: int) -> None:
        """The engine, whose cache has so many blocks, computes this prompt now."""
        for digest in reversed(chain):  # a beginning is forgotten after what follows it, as the engine does
            self._digests[digest] = None
            self._digests.move_to_end(digest)
        while len(self._digests) > capacity:
            self._digests.popitem(last=False)
