"""How long something takes as a function of its size, learned from what it took."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

GRID: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SPEED_MEMORY: Final = 0.2  # weight of the newest time in the speed of the machine, which drifts
SHAPE_MEMORY: Final = 0.02  # the same in what one size takes beside the others
OUTLIER: Final = 3.0  # times the expected time; a longer one counts as this, for it tells of something else


class Costs:
    """Seconds by size: the machine's speed of the moment, times a shape over the sizes that is learned slowly.

    So a machine that slows down does not make the sizes that it was not asked for since then look cheap. The cost never
    falls with the size, and lies on a line between sizes that are known.
    """

    def __init__(self, measured: Mapping[int, float] | None = None, growth: float = 1.0) -> None:
        """What is known from the start.

        Args:
            measured: seconds by size; sizes count as the next one of GRID
            growth: beyond the largest known size, seconds grow as its power of this
        """
        self._growth = growth
        self._speed = 1.0
        self._shape = {_cell(size): seconds for size, seconds in (measured or {}).items()}
        self._num_learned: dict[int, int] = {}
        self._line: list[tuple[int, float]] | None = None

    def learn(self, size: int, seconds: float) -> None:
        """Takes in one more time."""
        cell = _cell(size)
        expected = self._speed * self._shape[cell] if cell in self._shape else self.seconds(size)
        if not expected:
            self._shape[cell], self._line = seconds, None
            return
        ratio = min(seconds / expected, OUTLIER)
        count = self._num_learned[cell] = self._num_learned.get(cell, 0) + 1
        shape = expected / self._speed
        self._shape[cell] = shape * (1.0 + max(SHAPE_MEMORY, 0.5 / count) * (ratio - 1.0))
        self._speed *= 1.0 + SPEED_MEMORY * (ratio - 1.0)
        self._line = None

    def seconds(self, size: int) -> float:
        """Expected for a size; 0 as long as nothing is known."""
        line = self._known()
        if not line:
            return 0.0
        index = bisect_left(line, size, key=lambda point: point[0])
        if index == 0:
            return self._speed * line[0][1]
        if index == len(line):
            beyond: float = (size / line[-1][0]) ** self._growth
            return self._speed * line[-1][1] * beyond
        (low, least), (high, most) = line[index - 1], line[index]
        return self._speed * (least + (most - least) * (size - low) / (high - low))

    def _known(self) -> list[tuple[int, float]]:
        """The shape, in the order of sizes, each at least as long as the one before."""
        if self._line is None:
            self._line, highest = [], 0.0
            for size in sorted(self._shape):
                highest = max(highest, self._shape[size])
                self._line.append((size, highest))
        return self._line


def _cell(size: int) -> int:
    return GRID[min(bisect_left(GRID, size), len(GRID) - 1)]
