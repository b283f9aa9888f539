"""What a proposer is, what it offers, and how offers are counted. The table of proposers is in `table.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import torch

from outrider.kernels.sample import Draw

GREEDY: Final = Draw(seed=0, position=0, temperature=0.0)


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """A request that may be drafted for. `token_ids` (prompt, then output) is the engine's own list: read only.

    `prediction` is what the client expects the output to be, if it has said so; `forced_text` tells what the request's
    grammar leaves no choice about, if it has one.

    A proposer with a cache of its own keeps the keys and values of a place where the target keeps them: `block_ids` has
    room for `max_tokens` places behind the last token. They hold nothing any more once `epoch` is another one.
    `digests` name the content of the leading full blocks, as far as they are known: what another request has left in
    a block of the same digest can be used. `draw` is how the target will draw the token at `draw.position`, the first
    to be drafted: a model that draws with the same noise meets its choice more often. What is learned from one request
    may be used for others of the same `tenant` alone.
    """

    request_id: str
    token_ids: Sequence[int]
    max_tokens: int
    num_prompt_tokens: int = 0
    prediction: Sequence[int] = ()
    forced_text: Callable[[], str] | None = None
    block_ids: Sequence[int] = ()
    digests: Sequence[bytes] = ()
    epoch: int = 0
    draw: Draw = GREEDY
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may follow a request's last one; none when the proposer has nothing to offer.

    `parents` makes a tree of them: of each token the place of the one before it, which comes earlier, or -1 for those
    that follow the request's last. None is a chain: each follows the one before.

    `scores` say of each token how likely it follows its parent, from 0 to 1, as the proposer sees it; none where it
    has no opinion. Another's are on another scale: what they are worth is learned from what comes of them.

    `is_pending`: there are none because the proposer is still reading the request's text, which tells nothing of how
    good its guesses are.
    """

    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] | None = None
    scores: tuple[float, ...] = ()
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Features:
    """What the target has computed in a step for one request's own tokens, at the places from `start` to `stop` - 1.

    `taps`: the inputs of the tapped layers, side by side, (num_places, num_taps * target_hidden_size), where any are
    tapped; for a head that names no layer, what is behind the final norm. `hidden`: what the output layer reads at the
    last place, (target_hidden_size,), where a token was drawn behind it. `epoch` as in `DraftRequest`.
    """

    request_id: str
    start: int
    stop: int
    epoch: int
    taps: torch.Tensor | None
    hidden: torch.Tensor | None


class Proposer(Protocol):
    """Guesses what comes next. A guess can be wrong at no cost but time: the engine verifies every token."""

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """One draft per request, in order, each of at most that request's `max_tokens`."""
        ...

    def forget(self, request_id: str) -> None:
        """Drops what is kept for a request that ended; an unknown one is fine."""
        ...


@runtime_checkable
class Observer(Protocol):
    """A proposer that reads the target's features."""

    def observe(self, features: Sequence[Features]) -> None:
        """Takes in what a step has computed for the requests that allow this proposer."""
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
