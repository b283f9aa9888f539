"""What a proposer is, what it offers, and how offers are counted. The table of proposers is in `table.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """A request that may be drafted for. `token_ids` (prompt, then output) is the engine's own list: read only.

    `prediction` is what the client expects the output to be, if it has said so; `forced_text` tells what the request's
    grammar leaves no choice about, if it has one.
    """

    request_id: str
    token_ids: Sequence[int]
    max_tokens: int
    num_prompt_tokens: int = 0
    prediction: Sequence[int] = ()
    forced_text: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may follow a request's last one; none when the proposer has nothing to offer.

    `parents` makes a tree of them: of each token the place of the one before it, which comes earlier, or -1 for those
    that follow the request's last. None is a chain: each follows the one before.
    """

    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] | None = None


class Proposer(Protocol):
    """Guesses what comes next. A guess can be wrong at no cost but time: the engine verifies every token."""

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """One draft per request, in order, each of at most that request's `max_tokens`."""
        ...

    def forget(self, request_id: str) -> None:
        """Drops what is kept for a request that ended; an unknown one is fine."""
        ...


@dataclass(slots=True)
class DraftCounts:
    """What one proposer did for one request; written by the engine after each match."""

    num_steps: int = 0  # steps that verified at least one drafted token
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    histogram: list[int] = field(default_factory=list)  # index j: steps that accepted j drafted tokens
    num_dropped: int = 0  # offers that were not used: the proposer failed, or they were no tree of tokens

    def add(self, num_drafted: int, num_accepted: int) -> None:
        """Counts one verified step."""
        self.num_steps += 1
        self.num_draft_tokens += num_drafted
        self.num_accepted_tokens += num_accepted
        self.histogram.extend([0] * (num_accepted + 1 - len(self.histogram)))
        self.histogram[num_accepted] += 1
