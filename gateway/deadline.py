"""By when a client wants its answer: the field `timeout` or the header `x-request-timeout`, in seconds from arrival."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from outrider.gateway.errors import deadline_exceeded, invalid

T = TypeVar("T")

HEADER = "x-request-timeout"
MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, and the time that there was in all."""

    at: float  # monotonic seconds
    seconds: float


def deadline_of(field: float | None, header: str | None, arrived: float) -> Deadline | None:
    """The earlier of the two; None where neither is there.

    Raises:
        ApiError: 400, the header is no such time.
    """
    given = [] if field is None else [field]
    if header is not None:
        try:
            seconds = float(header)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= MAX_SECONDS:
            raise invalid(
                f"The header {HEADER} must be a number of seconds up to {MAX_SECONDS:g}", HEADER, "invalid_value"
            )
        given.append(seconds)
    return Deadline(arrived + min(given), min(given)) if given else None


async def until(pieces: AsyncGenerator[T], deadline: Deadline) -> AsyncGenerator[T]:
    """What comes, as it comes; leaving early, or at the deadline, closes `pieces`.

    Raises:
        ApiError: 504, the deadline has passed.
    """
    async with aclosing(pieces):
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline.at - time.monotonic())):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise deadline_exceeded(deadline.seconds) from error
            yield piece
