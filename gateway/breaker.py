"""Whether an engine that failed lately may be given requests: a circuit breaker. Pure: time is an argument."""

from dataclasses import dataclass

MAX_FAILURES = 5  # in a row, then no request is sent for a while
FIRST_PAUSE = 5.0  # seconds; twice as long after each probe that fails
LONGEST_PAUSE = 30.0
SAME_FAILURE = 0.1  # seconds: a step that fails takes all its requests with it, and counts once


@dataclass(slots=True)
class Breaker:
    """Counts how an engine's requests end. All times are monotonic seconds.

    After a pause one request is let through as a probe: its end decides for all.
    """

    num_failures: int = 0  # in a row
    last_failure: float = float("-inf")
    pause: float = 0.0  # the present one, or 0
    opens_at: float = 0.0  # end of the pause
    has_probe: bool = False  # whether the one request that may try is under way

    def allows(self, now: float) -> bool:
        """Whether a request may be sent."""
        return not self.pause or (now >= self.opens_at and not self.has_probe)

    def begin(self) -> None:
        """A request is sent."""
        self.has_probe = self.pause > 0

    def succeed(self) -> None:
        """The engine gave a request tokens."""
        self.num_failures = 0
        self.pause = 0.0
        self.has_probe = False

    def fail(self, now: float) -> None:
        """The engine failed a request."""
        self.has_probe = False
        if now - self.last_failure < SAME_FAILURE:
            return
        self.last_failure = now
        self.num_failures += 1
        if self.num_failures >= MAX_FAILURES and now >= self.opens_at:  # else of requests from before the pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE) or FIRST_PAUSE
            self.opens_at = now + self.pause

    def leave(self) -> None:
        """A request ended without a word on the engine: its client left, or its end was its own."""
        self.has_probe = False
