"""The queue before the engine: whose turn is next, on a simulated engine and clock, and how requests wait and leave."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from outrider.gateway.errors import ApiError
from outrider.gateway.fair_queue import FairQueue, Ticket
from outrider.gateway.queue import Queue
from outrider.telemetry.queue_metrics import QueueMetrics


class Simulation:
    """An engine of so many places, each request taking the same time and making tokens evenly."""

    def __init__(self, places: int, seconds: float = 1.0, tokens: int = 100, aging_seconds: float = 1e9) -> None:
        self.queue = FairQueue(10_000, 10**9, aging_seconds)
        self.now = 0.0
        self.started: list[tuple[float, Ticket]] = []
        self._places = places
        self._seconds = seconds
        self._tokens = tokens
        self._running: list[tuple[float, Ticket]] = []

    def arrive(self, tenant: str, priority: int = 0, prompt: int = 10, expires: float = 1e9) -> Ticket:
        ticket = Ticket(tenant, priority, prompt, 1, self.now, expires)
        assert self.queue.push(ticket) is None
        self._fill()
        return ticket

    def run_until(self, time: float) -> None:
        while self._running and self._running[0][0] <= time:
            self.now, ticket = self._running.pop(0)
            self.queue.finish(ticket)
            self._fill()
        self.now = time

    def delay_of(self, ticket: Ticket) -> float:
        return next(time for time, one in self.started if one is ticket) - ticket.arrived

    def _fill(self) -> None:
        while len(self._running) < self._places and (ticket := self.queue.next(self.now)) is not None:
            begin = self.now
            ticket.count_output_tokens = lambda begin=begin: int(
                self._tokens * min(1.0, (self.now - begin) / self._seconds)
            )
            self.queue.start(ticket)
            self.started.append((begin, ticket))
            self._running.append((begin + self._seconds, ticket))


@settings(max_examples=50, deadline=None)
@given(
    places=st.integers(1, 8),
    arrival=st.floats(0, 20),
    prompts=st.lists(st.integers(1, 5000), min_size=200, max_size=200),
)
def test_two_hundred_requests_of_one_tenant_delay_another_by_at_most_two_service_times(
    places, arrival, prompts
) -> None:
    """Whenever it comes, and however long the prompts of the others are."""
    engine = Simulation(places)
    for prompt in prompts:
        engine.arrive("greedy", prompt=prompt)
    engine.run_until(arrival)
    modest = engine.arrive("modest", prompt=100)
    engine.run_until(arrival + 300)

    assert engine.delay_of(modest) <= 2.0
    assert 201 == len(engine.started), "a request was lost"


def test_tenants_share_the_engine_by_tokens_not_by_requests() -> None:
    """Who sends prompts four times as long gets a quarter of the turns."""
    engine = Simulation(1, tokens=0)
    for _ in range(200):
        engine.arrive("long", prompt=400)
        engine.arrive("short", prompt=100)
    engine.run_until(100)

    turns = [ticket.tenant for _, ticket in engine.started]
    assert 3.5 <= turns.count("short") / turns.count("long") <= 4.5


def test_who_was_away_has_saved_up_nothing() -> None:
    """After an hour of absence a tenant takes turns, and no more."""
    engine = Simulation(1)
    for _ in range(100):
        engine.arrive("steady")
    engine.run_until(50.5)
    for _ in range(20):
        engine.arrive("back")
    engine.run_until(70.5)

    turns = [ticket.tenant for _, ticket in engine.started[-20:]]
    assert 9 <= turns.count("back") <= 11


def test_better_priorities_come_first_and_waiting_makes_better() -> None:
    """A request of low priority is overtaken, but not for ever."""
    engine = Simulation(1, aging_seconds=10.0)
    engine.arrive("t")
    low = engine.arrive("t", priority=2)
    for second in range(40):
        engine.run_until(second + 0.5)
        engine.arrive("t", priority=0)

    engine.run_until(100.0)
    assert 19.0 <= engine.delay_of(low) <= 22.0


def test_the_nearest_deadline_of_a_tenant_is_served_first() -> None:
    """And one that has passed never reaches the engine."""
    engine = Simulation(1)
    engine.arrive("t")
    late, soon, missed = (engine.arrive("t", expires=expires) for expires in (60.0, 30.0, 0.5))
    engine.run_until(10)

    assert [soon, late] == [ticket for _, ticket in engine.started[1:]]
    assert missed.is_waiting


def test_a_full_queue_sends_away_the_newest_of_who_has_most_there() -> None:
    """So one tenant cannot shut the others out; alone, it is its own newest that leaves."""
    queue = FairQueue(3, 10**6, 10.0)
    greedy = [Ticket("greedy", 0, 1, 1, 0.0, 60.0) for _ in range(4)]
    modest = Ticket("modest", 0, 1, 1, 0.0, 60.0)

    assert [None, None, None, greedy[3]] == [queue.push(ticket) for ticket in greedy]
    assert greedy[2] is queue.push(modest)
    assert modest.is_waiting
    assert (3, 3) == (queue.num_waiting, queue.num_tokens)


def test_the_queue_holds_no_more_prompt_tokens_than_it_may() -> None:
    """Ten long prompts are as much as a thousand short ones."""
    queue = FairQueue(100, 1000, 10.0)
    first, second = (Ticket("t", 0, 600, 1, 0.0, 60.0) for _ in range(2))

    assert [None, second] == [queue.push(first), queue.push(second)]


def test_the_number_ahead_counts_turns() -> None:
    """Of other tenants only those that come before it by turns."""
    queue = FairQueue(100, 10**6, 10.0)
    for _ in range(50):
        queue.push(Ticket("greedy", 0, 1, 1, 0.0, 60.0))
    for _ in range(3):
        queue.push(Ticket("modest", 0, 1, 1, 0.0, 60.0))
    urgent, mine = Ticket("x", -1, 1, 1, 0.0, 60.0), Ticket("modest", 0, 1, 1, 0.0, 60.0)
    queue.push(urgent)
    queue.push(mine)

    assert (0, 1 + 3 + 4) == (queue.num_ahead(urgent, 0.0), queue.num_ahead(mine, 0.0))


class Line:
    """A queue with one place and its metrics."""

    def __init__(self, max_requests: int = 10, max_seconds: float = 60.0) -> None:
        self.registry = CollectorRegistry()
        self.fair = FairQueue(max_requests, 10**6, 10.0)
        self.queue = Queue(self.fair, lambda: 1, max_seconds, QueueMetrics(self.registry))
        self.leave = asyncio.Event()

    def turn(self, tenant: str = "t", deadline: float | None = None):
        return self.queue.turn(tenant, 0, 10, 1, deadline)

    async def hold(self, tenant: str = "t") -> float:
        """Has its turn until all may leave; how many were before it."""
        async with self.turn(tenant) as turn:
            await self.leave.wait()
            return turn.num_ahead

    def lines(self) -> set[str]:
        return set(generate_latest(self.registry).decode().splitlines())


async def started(line: Line, count: int, tenant: str = "t") -> list[asyncio.Task[float]]:
    tasks = [asyncio.create_task(line.hold(tenant)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_request_knows_how_many_were_before_it() -> None:
    """The metrics do too, and are empty again in the end."""
    line = Line()
    tasks = await started(line, 4)
    assert {"outrider_queue_requests 3.0", "outrider_queue_prompt_tokens 30.0"} <= line.lines()

    line.leave.set()

    assert [0, 0, 1, 2] == await asyncio.gather(*tasks)
    assert {"outrider_queue_requests 0.0", "outrider_queue_wait_seconds_count 4.0"} <= line.lines()


async def test_a_full_queue_is_a_429_with_a_wait() -> None:
    """Its text has the phrase that clients look for."""
    line = Line(max_requests=2)
    tasks = await started(line, 4)

    with pytest.raises(ApiError, match=r"Please try again in \S+s\.$") as caught:
        await tasks[3]
    assert (429, "queue_full") == (caught.value.status, caught.value.body.code)
    assert float(caught.value.headers["Retry-After"]) >= 1
    line.leave.set()
    await asyncio.gather(*tasks[:3])


@pytest.mark.parametrize("by", ["age", "deadline"])
async def test_a_request_that_waited_too_long_is_a_503(by) -> None:
    """By the queue's bound or by its own deadline; its place is free again."""
    line = Line(max_seconds=0.01 if by == "age" else 60.0)
    tasks = await started(line, 1)
    deadline = line.queue._clock() + 0.01 if by == "deadline" else None

    with pytest.raises(ApiError, match="waited") as caught:
        async with line.turn(deadline=deadline):
            pytest.fail("it had a turn")

    assert (503, "queue_timeout") == (caught.value.status, caught.value.body.code)
    assert 'outrider_queue_refused_total{reason="expired"} 1.0' in line.lines()
    assert 0 == line.fair.num_waiting
    line.leave.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("moment", ["waiting", "granted"])
async def test_a_cancelled_request_leaves_its_place_to_the_next(moment) -> None:
    """Also where its turn has just come and it has not noticed."""
    line = Line()
    first, second, third = await started(line, 3)
    if moment == "granted":
        first.cancel()
        await asyncio.sleep(0)
    second.cancel()
    line.leave.set()
    await asyncio.gather(first, second, third, return_exceptions=True)

    assert second.cancelled()
    assert not third.cancelled()
    assert 0 == line.queue._num_running
    async with asyncio.timeout(1), line.turn():
        pass


async def test_thousands_who_leave_at_any_moment_leave_no_place_taken() -> None:
    """Cancelled, expired, sent away or served: at the end the queue is as new."""
    line = Line(max_requests=20, max_seconds=0.02)
    line.leave.set()

    async def visit(number: int) -> None:
        async with line.turn(f"tenant-{number % 5}"):
            for _ in range(number % 7):
                await asyncio.sleep(0)

    for start in range(0, 3000, 50):
        tasks = [asyncio.create_task(visit(start + number)) for number in range(50)]
        for _ in range(start % 11):
            await asyncio.sleep(0)
        for task in tasks[:: 1 + start % 3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert (0, 0, {}) == (line.queue._num_running, line.fair.num_waiting, line.queue._waits)
    assert {} == line.fair._tenants
