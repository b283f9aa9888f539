"""Drafts from what the client expects the answer to be: OpenAI's Predicted Outputs, as a proposer.

An edited text is mostly the old text. The proposer follows the prediction as long as the answer does; where the two
part, it looks for the place at which the answer's newest tokens stand in the prediction, the nearest to where it was.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

from outrider.speculative.proposer import Draft, DraftRequest

MIN_N = 2  # tokens that must agree before the prediction is followed again
MAX_N = 8
READ_AT_ONCE = 2048  # tokens of a prediction that a step takes into the index, so that no other request waits for it
MAX_PLACES = 16  # on either side of where it was, at which the answer is looked for


@dataclass(slots=True)
class _Follower:
    """Where one request's answer stands in its prediction."""

    prediction: Sequence[int]
    # Behind which places of the prediction each few tokens end, in rising order, as far as it is indexed.
    places: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    num_indexed: int = MIN_N
    num_read: int = 0  # tokens of the answer
    place: int = 0  # of the token that would come next
    is_lost: bool = False

    def index(self) -> None:
        """Takes in some more of the prediction; nothing follows its last tokens."""
        stop = min(len(self.prediction), self.num_indexed + READ_AT_ONCE)
        for place in range(self.num_indexed, stop):
            self.places.setdefault(tuple(self.prediction[place - MIN_N : place]), []).append(place)
        self.num_indexed = max(self.num_indexed, stop)

    def read(self, answer: Sequence[int]) -> None:
        """Takes in the answer's new tokens."""
        for end in range(self.num_read + 1, len(answer) + 1):
            token_id = answer[end - 1]
            if not self.is_lost and self.place < len(self.prediction) and self.prediction[self.place] == token_id:
                self.place += 1
            else:
                self._search(answer[max(0, end - MAX_N) : end])
        self.num_read = len(answer)

    def _search(self, tail: Sequence[int]) -> None:
        """Stands behind the longest tail that the prediction has, the nearest one where there are several."""
        found = self.places.get(tuple(tail[-MIN_N:]), []) if len(tail) >= MIN_N else []
        self.is_lost = not found
        if found:
            middle = bisect(found, self.place)
            near = found[max(0, middle - MAX_PLACES) : middle + MAX_PLACES]
            was = self.place
            self.place = max(near, key=lambda place: (self.agreement(tail, place), -abs(place - was), place))

    def agreement(self, tail: Sequence[int], place: int) -> int:
        """How many of the last tokens stand before a place of the prediction."""
        count = 0
        while count < min(len(tail), place) and tail[-1 - count] == self.prediction[place - 1 - count]:
            count += 1
        return count


class PredictionProposer:
    """Follows each request's prediction; offers nothing to requests without one."""

    def __init__(self) -> None:
        self._followers: dict[str, _Follower] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """What the prediction has next."""
        return [self._propose(request) if request.prediction else Draft() for request in requests]

    def forget(self, request_id: str) -> None:
        """Drops what is kept for a request."""
        self._followers.pop(request_id, None)

    def _propose(self, request: DraftRequest) -> Draft:
        follower = self._followers.get(request.request_id)
        if follower is None:
            follower = self._followers[request.request_id] = _Follower(request.prediction)
        follower.index()
        follower.read(request.token_ids[request.num_prompt_tokens :])
        if follower.is_lost:
            return Draft()
        token_ids = tuple(follower.prediction[follower.place : follower.place + request.max_tokens])
        newest = request.token_ids[max(request.num_prompt_tokens, len(request.token_ids) - MAX_N) :]
        agreement = follower.agreement(newest, follower.place)
        # The more of the answer has agreed, the likelier that it goes on to.
        return Draft(token_ids, None, ((agreement + 1) / (agreement + 2),) * len(token_ids))
