"""What a proposer's scores are worth: how often a drafted token was drawn, by what the proposer said of it."""

from bisect import bisect
from typing import Final

SCORES: Final = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)  # between the classes of scores
MAX_DEPTH: Final = 4  # deeper nodes count as these
TRUST: Final = 4.0  # tokens that a score counts for beside what was seen
MEMORY: Final = 256.0  # tokens of one class; older ones fade


class Calibration:
    """Estimates that a token is drawn, given that its parent was, for one proposer."""

    def __init__(self) -> None:
        # By depth and class of score: tokens drawn, and tokens seen.
        self._hits = [[0.0] * (len(SCORES) + 1) for _ in range(MAX_DEPTH)]
        self._seen = [[0.0] * (len(SCORES) + 1) for _ in range(MAX_DEPTH)]

    def estimate(self, score: float, depth: int) -> float:
        """Between 0 and 1; the score itself as long as nothing is known. Depth counts from 0."""
        row, column = min(depth, MAX_DEPTH - 1), bisect(SCORES, score)
        return (self._hits[row][column] + TRUST * score) / (self._seen[row][column] + TRUST)

    def learn(self, score: float, depth: int, *, is_hit: bool) -> None:
        """Takes in what became of one token whose parent was drawn."""
        row, column = min(depth, MAX_DEPTH - 1), bisect(SCORES, score)
        if self._seen[row][column] >= MEMORY:
            self._hits[row][column] /= 2
            self._seen[row][column] /= 2
        self._hits[row][column] += is_hit
        self._seen[row][column] += 1
