"""Drafts from how the request's own text has gone on before: SuffixDecoding (Oliaro et al., 2024), on one text.

For each tail of the text, up to a length, it is known which tokens followed it and how often. From each tail that has
occurred before, the likeliest tokens are followed as long as they stay likely; the draft of the tail that promises most
accepted tokens is offered. Unlike the n-gram proposer it prefers what is frequent to what is recent, and it stops where
it is not sure.
"""

from collections.abc import Sequence

from outrider.speculative.proposer import Draft, DraftRequest

MAX_TAIL = 8  # tokens; longer repetitions are found by their last ones
MIN_PROBABILITY = 0.1  # of a path's next token, for it to be followed
MAX_READ = 8192  # tokens of a request that are learned from; each costs one to three kilobytes
READ_AT_ONCE = 512  # tokens; a long prompt is read over several steps, so that no other request waits for it

Tail = tuple[int, ...]


class Followers:
    """What followed each tail of one growing token list."""

    def __init__(self) -> None:
        self._counts: dict[Tail, dict[int, int]] = {}
        self._num_read = 0

    def extend(self, token_ids: Sequence[int]) -> None:
        """Takes in tokens that are new, READ_AT_ONCE at most, up to MAX_READ in all."""
        stop = min(len(token_ids), self._num_read + READ_AT_ONCE, MAX_READ)
        for end in range(max(self._num_read, 1), stop):
            token_id = token_ids[end]
            tail = tuple(token_ids[max(0, end - MAX_TAIL) : end])
            for start in range(len(tail)):
                counts = self._counts.setdefault(tail[start:], {})
                counts[token_id] = counts.get(token_id, 0) + 1
        self._num_read = max(self._num_read, stop)

    def follow(self, tail: Tail, max_tokens: int) -> tuple[list[int], list[float], float]:
        """The likeliest continuation of a tail, each token's share, and how many are expected to be accepted.

        The text behind a tail is judged by the longest tail that is known, of the same beginning or a later one.
        """
        path: list[int] = []
        shares: list[float] = []
        probability, expected = 1.0, 0.0
        while len(path) < max_tokens:
            while tail and tail not in self._counts:
                tail = tail[1:]
            counts = self._counts.get(tail)
            if not counts:
                break
            token_id, count = max(counts.items(), key=lambda pair: pair[1])
            share = count / sum(counts.values())
            if share < MIN_PROBABILITY:
                break
            probability *= share
            expected += probability
            path.append(token_id)
            shares.append(share)
            tail = (*tail, token_id)[-MAX_TAIL:]
        return path, shares, expected

    def best(self, token_ids: Sequence[int], max_tokens: int) -> Draft:
        """The continuation of the tail that promises most; the longer tail where two promise the same."""
        best = Draft()
        most = 0.0
        for length in range(min(MAX_TAIL, len(token_ids)), 0, -1):
            tail = tuple(token_ids[-length:])
            if tail not in self._counts:
                continue
            path, shares, expected = self.follow(tail, max_tokens)
            if expected > most:
                # What has followed once and always is less sure behind a short tail.
                trust = length / (length + 1)
                best, most = Draft(tuple(path), None, tuple(share * trust for share in shares)), expected
            if most >= max_tokens:  # sure of every token: no shorter tail promises more
                break
        return best


class SuffixProposer:
    """Knows each request's own text alone: nothing is learned from one request for another."""

    def __init__(self) -> None:
        self._followers: dict[str, Followers] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The continuation that promises most."""
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        """Drops what is known of a request."""
        self._followers.pop(request_id, None)

    def _propose(self, request: DraftRequest) -> Draft:
        followers = self._followers.setdefault(request.request_id, Followers())
        followers.extend(request.token_ids)
        return followers.best(request.token_ids, request.max_tokens)
