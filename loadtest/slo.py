"""Service level objectives: which answers were good. Pure."""

import math
from collections.abc import Mapping, Sequence

from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.measure import largest_gap
from outrider.loadtest.record import Answer, Record

NAMES = ("ttft", "tpot", "itl", "e2el")


def parse_goodput(texts: Sequence[str]) -> dict[str, float]:
    """Seconds by name of `ttft:200 tpot:50` (milliseconds), split by blanks or commas. Raises InvalidOptionError."""
    limits: dict[str, float] = {}
    for part in " ".join(texts).replace(",", " ").split():
        name, _, limit = part.partition(":")
        if name not in NAMES:
            raise InvalidOptionError(f"--goodput {part}: write NAME:MILLISECONDS with one of {', '.join(NAMES)}")
        try:
            limits[name] = float(limit) / 1000
        except ValueError as error:
            raise InvalidOptionError(f"--goodput {part}: write NAME:MILLISECONDS, as in ttft:200") from error
        if not limits[name] > 0:
            raise InvalidOptionError(f"--goodput {part}: must be above 0")
    return limits


def is_good(record: Record, limits: Mapping[str, float]) -> bool:
    """Whether it kept every limit (seconds), with waits counted from its intended start; a failure keeps none.

    `itl` is the longest that one token of the answer took. Answers of a single token keep `tpot` and `itl`.
    """
    answer = record.outcome
    if not isinstance(answer, Answer):
        return False
    first = answer.chunks[0].received if answer.chunks else math.inf
    more = answer.num_output_tokens - 1
    observed = {
        "ttft": first - record.due,
        "tpot": (answer.ended - first) / more if more > 0 and answer.chunks else 0.0,
        "itl": largest_gap(answer.chunks),
        "e2el": answer.ended - record.due,
    }
    return all(observed[name] <= limit for name, limit in limits.items())
