"""The queue before the engine: requests wait here, where they can be ordered and given up, and not in the engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from outrider.gateway.config import GatewayConfig
from outrider.gateway.errors import queue_full, queue_timeout
from outrider.gateway.fair_queue import FairQueue, Ticket
from outrider.telemetry.queue_metrics import QueueMetrics

SMOOTHING = 0.1  # weight of the newest request in the mean time that one takes


@dataclass(frozen=True, slots=True)
class Turn:
    """A request's turn: its ticket, and what came before it."""

    ticket: Ticket
    num_ahead: int  # requests before it when it came
    seconds: float  # that it waited


class Queue:
    """Lets so many answers run at a time as `capacity` says at each moment; a request that is larger runs alone.

    Args:
        queue: whose turn is next
        capacity: answers that the engines take at once
        max_seconds: the longest wait
        metrics: what happens here
        clock: monotonic seconds
    """

    def __init__(
        self,
        queue: FairQueue,
        capacity: Callable[[], int],
        max_seconds: float,
        metrics: QueueMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._capacity = capacity
        self._max_seconds = max_seconds
        self._metrics = metrics
        self._clock = clock
        self._num_running = 0  # answers
        self._waits: dict[Ticket, asyncio.Future[None]] = {}
        self._mean_seconds = 1.0  # that one request runs

    @asynccontextmanager
    async def turn(
        self, tenant: str, priority: int, num_prompt_tokens: int, num_answers: int, deadline: float | None
    ) -> AsyncIterator[Turn]:
        """Waits for the request's turn, which lasts as long as the context.

        Args:
            tenant: whom it is for
            priority: lower is first
            num_prompt_tokens: of the prompt
            num_answers: sequences that it takes
            deadline: clock time by which the client wants its answer

        Raises:
            ApiError: 429, the queue is full; 503, the request waited too long.
        """
        now = self._clock()
        expires = now + self._max_seconds if deadline is None else min(deadline, now + self._max_seconds)
        ticket = Ticket(tenant, priority, num_prompt_tokens, num_answers, now, expires)
        num_ahead = 0
        if self._queue.num_waiting or not self._has_room(ticket):
            num_ahead = await self._wait(ticket)
        else:
            self._start(ticket)
        started = self._clock()
        self._metrics.observe_turn(seconds=started - now, num_ahead=num_ahead)
        try:
            yield Turn(ticket, num_ahead, started - now)
        finally:  # no await here: a cancelled request must not keep its place
            self._mean_seconds += SMOOTHING * (self._clock() - started - self._mean_seconds)
            self._end(ticket)

    async def _wait(self, ticket: Ticket) -> int:
        """Returns when it is the ticket's turn: how many were before it."""
        wait = self._waits[ticket] = asyncio.get_running_loop().create_future()
        leaves = self._queue.push(ticket)
        if leaves is not None:
            full = queue_full(self._queue.num_waiting, self._predicted_seconds())
            if not self._waits[leaves].done():  # else it is cancelled, and leaves anyway
                self._waits[leaves].set_exception(full)
            self._metrics.count_refused("full")
        num_ahead = self._queue.num_ahead(ticket, ticket.arrived) if leaves is not ticket else 0
        self._show()
        self._advance()  # a place may be free that was too small for those before
        try:
            async with asyncio.timeout(max(0.0, ticket.expires - self._clock())):
                await wait
        except BaseException as error:
            if ticket.is_running:
                self._end(ticket)  # its turn came in the moment in which it was given up
            elif ticket.is_waiting:
                self._queue.remove(ticket)
                self._metrics.count_refused("expired" if isinstance(error, TimeoutError) else "cancelled")
                self._show()
                self._advance()
            if isinstance(error, TimeoutError):
                raise queue_timeout(self._clock() - ticket.arrived, self._predicted_seconds()) from error
            raise
        finally:
            del self._waits[ticket]
        return num_ahead

    def _has_room(self, ticket: Ticket) -> bool:
        return self._num_running == 0 or self._num_running + ticket.num_answers <= self._capacity()

    def _start(self, ticket: Ticket) -> None:
        self._num_running += ticket.num_answers
        self._queue.start(ticket)

    def _end(self, ticket: Ticket) -> None:
        self._num_running -= ticket.num_answers
        self._queue.finish(ticket)
        self._advance()

    def _advance(self) -> None:
        """Gives turns to those who are next, as long as there is room."""
        while self._queue.num_waiting:
            ticket = self._queue.next(self._clock())
            if ticket is None or not self._has_room(ticket):
                return
            wait = self._waits[ticket]
            self._start(ticket)
            if not wait.done():  # else it is cancelled, and gives its turn back as soon as it runs
                wait.set_result(None)
            self._show()

    def _predicted_seconds(self) -> float:
        """Until a request that comes now would have its turn."""
        return self._mean_seconds * (self._queue.num_waiting + 1) / max(1, self._capacity())

    def _show(self) -> None:
        self._metrics.set_waiting(self._queue.num_waiting, self._queue.num_tokens)


def open_queue(config: GatewayConfig, capacity: Callable[[], int], metrics: QueueMetrics) -> Queue:
    """The queue of a gateway; `capacity` is how many answers the engines take at once."""
    waiting = FairQueue(config.queue_requests, config.queue_tokens, config.queue_aging_seconds)
    return Queue(waiting, capacity, config.queue_seconds, metrics)
