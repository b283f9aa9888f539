"""What followed each tail of some texts, and how often: what suffix decoding knows.

From each tail of a text that has occurred before, the likeliest tokens are followed as long as they stay likely; the
continuation of the tail that promises most accepted tokens is the best one.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from outrider.speculative.proposer import Draft

MAX_TAIL: Final = 8  # tokens; longer repetitions are found by their last ones
MIN_PROBABILITY: Final = 0.1  # of a path's next token, for it to be followed

Tail = tuple[int, ...]


class _Choice(NamedTuple):
    """The token that has followed a tail most often."""

    token_id: int
    share: float  # of all that has followed
    num_places: int  # where the tail has been met


class Followers:
    """Counts of the tokens behind each tail of at most MAX_TAIL tokens; a token takes one to three kilobytes."""

    def __init__(self) -> None:
        self._counts: dict[Tail, dict[int, int]] = {}
        self._choices: dict[Tail, _Choice] = {}  # as far as they have been asked for since they changed

    def add(self, token_ids: Sequence[int], places: range) -> None:
        """Counts the tokens at some places of a text as following what is before each."""
        for place in places:
            token_id = token_ids[place]
            for tail in _tails(token_ids, place):
                counts = self._counts.get(tail)
                if counts is None:
                    self._counts[tail] = {token_id: 1}
                else:
                    counts[token_id] = counts.get(token_id, 0) + 1
                    self._choices.pop(tail, None)

    def remove(self, token_ids: Sequence[int], places: range) -> None:
        """Takes back what `add` has counted for the same places of the same text."""
        for place in places:
            token_id = token_ids[place]
            for tail in _tails(token_ids, place):
                counts = self._counts[tail]
                counts[token_id] -= 1
                if not counts[token_id]:
                    del counts[token_id]
                if not counts:
                    del self._counts[tail]
                self._choices.pop(tail, None)

    def best(self, token_ids: Sequence[int], max_tokens: int) -> tuple[Draft, float]:
        """The continuation of a text that promises most, by its longer tail where two promise the same.

        Returns:
            the draft, and how many of its tokens are expected to be accepted
        """
        best, most, num_places = Draft(), 0.0, 0
        for length in range(min(MAX_TAIL, len(token_ids)), 0, -1):
            tail = tuple(token_ids[-length:])
            choice = self._choice(tail)
            # A longer tail that was met at the same places has been followed already.
            if choice is None or choice.num_places == num_places:
                continue
            num_places = choice.num_places
            path, shares, expected = self._follow(tail, choice, max_tokens, most)
            if expected > most:
                # What has followed once and always is less sure behind a short tail.
                trust = length / (length + 1)
                best, most = Draft(tuple(path), None, tuple(share * trust for share in shares)), expected
            if most >= max_tokens:  # sure of every token: no shorter tail promises more
                break
        return best, most

    def _choice(self, tail: Tail) -> _Choice | None:
        """What has followed a tail most often; None for a tail that is not known."""
        choice = self._choices.get(tail)
        if choice is None and (counts := self._counts.get(tail)):
            token_id, count = max(counts.items(), key=itemgetter(1))
            num_places = sum(counts.values())
            choice = self._choices[tail] = _Choice(token_id, count / num_places, num_places)
        return choice

    def _follow(
        self, tail: Tail, choice: _Choice | None, max_tokens: int, most: float
    ) -> tuple[list[int], list[float], float]:
        """The likeliest continuation of a tail, each token's share, and how many are expected to be accepted.

        The text behind a tail is judged by the longest part of it that is known. What can no more promise above `most`
        is not followed on.
        """
        path: list[int] = []
        shares: list[float] = []
        probability, expected = 1.0, 0.0
        for left in range(max_tokens, 0, -1):
            while choice is None and tail:
                tail = tail[1:]
                choice = self._choice(tail)
            if choice is None or choice.share < MIN_PROBABILITY:
                break
            probability *= choice.share
            if expected + probability * left <= most:
                break
            expected += probability
            path.append(choice.token_id)
            shares.append(choice.share)
            tail = (*tail, choice.token_id)[-MAX_TAIL:]
            choice = self._choice(tail)
        return path, shares, expected


def _tails(token_ids: Sequence[int], place: int) -> list[Tail]:
    longest = tuple(token_ids[max(0, place - MAX_TAIL) : place])
    return [longest[start:] for start in range(len(longest))]
