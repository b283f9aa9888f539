"""Drafts from how texts have gone on before: SuffixDecoding (Oliaro et al., 2024).

Unlike the n-gram proposer it prefers what is frequent to what is recent, and it stops where it is not sure.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from outrider.speculative.answers import Answers, Reading
from outrider.speculative.followers import Followers
from outrider.speculative.proposer import Draft, DraftRequest

MAX_READ: Final = 8192  # tokens of a request that are learned from for itself
READ_AT_ONCE: Final = 512  # tokens; a long prompt is read over several steps, so that no other request waits for it
MAX_TENANTS: Final = 16  # whose answers are known; those that asked longest ago are forgotten


@dataclass(slots=True)
class _Own:
    """What is known of a request's own text."""

    followers: Followers = field(default_factory=Followers)
    num_read: int = 0


@dataclass(frozen=True, slots=True)
class _Shared:
    """Where a request's answer is learned for others."""

    answers: Answers
    reading: Reading


class SuffixProposer:
    """Knows each request's own text; with `is_shared` also what the answers of its tenant's other requests said.

    Nothing of one tenant's is ever offered to another, as how fast an answer comes tells what is known.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._own: dict[str, _Own] = {}
        self._shared: dict[str, _Shared] = {}  # by request
        self._tenants: OrderedDict[str, Answers] = OrderedDict()  # the one that asked last is the last

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The continuation that promises most."""
        if self._is_shared:
            left = READ_AT_ONCE
            for request in requests:
                left -= self._learn(request, left)
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        """Drops what is known of a request; what its answer said stays known to its tenant, where that is shared."""
        self._own.pop(request_id, None)
        shared = self._shared.pop(request_id, None)
        if shared is not None:
            shared.answers.end(shared.reading)

    def _propose(self, request: DraftRequest) -> Draft:
        own = self._own.setdefault(request.request_id, _Own())
        stop = min(len(request.token_ids), own.num_read + READ_AT_ONCE, MAX_READ)
        own.followers.add(request.token_ids, range(own.num_read, stop))
        own.num_read = max(own.num_read, stop)
        draft, expected = own.followers.best(request.token_ids, request.max_tokens)
        if self._is_shared and expected < request.max_tokens:
            theirs = self._shared[request.request_id].answers.followers
            other, more = theirs.best(request.token_ids, request.max_tokens)
            if more > expected:
                return other
        return draft

    def _learn(self, request: DraftRequest, max_tokens: int) -> int:
        """Takes in what the answer says; returns how many tokens were read."""
        answers = self._tenants.setdefault(request.tenant, Answers())
        self._tenants.move_to_end(request.tenant)
        if len(self._tenants) > MAX_TENANTS:
            self._tenants.popitem(last=False)
        shared = self._shared.get(request.request_id)
        if shared is None or shared.answers is not answers:  # new, or its tenant was forgotten
            reading = answers.begin(request.token_ids, request.num_prompt_tokens)
            shared = self._shared[request.request_id] = _Shared(answers, reading)
        return answers.read(shared.reading, max_tokens)
