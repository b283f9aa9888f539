"""Drafts from the request's own text: what followed the last occurrence of its newest few tokens.

Costs no model. Each request has an index from n-grams to the place behind their latest occurrence, extended by the
tokens that are new since the last call, so that a step costs the same at any length.
"""

from collections.abc import Sequence

from outrider.speculative.proposer import Draft, DraftRequest

MIN_N = 2
MAX_N = 4
MAX_MATCH = 16  # tokens before the two places that are compared


class NgramIndex:
    """Where each n-gram of one growing token list was last followed by something."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0  # n-grams that end before this place are in the table

    def extend(self, token_ids: Sequence[int]) -> None:
        """Takes in the tokens that are new. The newest n-grams stay out: nothing follows them yet."""
        for end in range(max(self._num_indexed, MIN_N), len(token_ids)):
            for n in range(MIN_N, min(MAX_N, end) + 1):
                self._behind[tuple(token_ids[end - n : end])] = end
        self._num_indexed = max(self._num_indexed, len(token_ids))

    def find(self, token_ids: Sequence[int]) -> int | None:
        """The place behind the latest earlier occurrence of the longest known tail of the list."""
        for n in range(min(MAX_N, len(token_ids)), MIN_N - 1, -1):
            place = self._behind.get(tuple(token_ids[-n:]))
            if place is not None:
                return place
        return None


class NgramProposer:
    """Prompt lookup decoding (Saxena, 2023) with the longest match first and the latest occurrence of it."""

    def __init__(self) -> None:
        self._indexes: dict[str, NgramIndex] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """Copies what followed; a copy that reaches the end of the text goes on into itself, as a loop does."""
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        """Drops the index of a request."""
        self._indexes.pop(request_id, None)

    def _propose(self, request: DraftRequest) -> Draft:
        index = self._indexes.setdefault(request.request_id, NgramIndex())
        index.extend(request.token_ids)
        place = index.find(request.token_ids)
        if place is None:
            return Draft()
        token_ids, count = request.token_ids, request.max_tokens
        following = token_ids[place : place + count]
        match = 0
        while match < min(MAX_MATCH, place) and token_ids[place - 1 - match] == token_ids[-1 - match]:
            match += 1
        # The longer the match, the likelier that it goes on.
        score = match / (match + 1)
        return Draft(tuple(following[i % len(following)] for i in range(count)), None, (score,) * count)
