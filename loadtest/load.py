"""Offers the load: sends each request when it is due and collects the records. The only file with tasks.

Two shapes. Open loop: requests become due at their arrival times, however slow the server is, and wait for a slot where
--max-concurrency is set too. Closed loop: `max_concurrency` users, each due again when its last request has ended.
"""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp

from outrider.loadtest.arrival import arrival_offsets
from outrider.loadtest.client import clock, send
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import ServerUnusableError
from outrider.loadtest.measure import Measurement
from outrider.loadtest.record import Failure, Record

LAG_INTERVAL = 0.01


class Recorder:
    """The running state of one run: what has been seen so far. Written by the load; read when that has stopped."""

    def __init__(self, on_record: Callable[[Record], None]) -> None:
        self._on_record = on_record
        self._records: list[Record] = []
        self._loop_lags: list[float] = []
        self._num_sent = 0
        self._started: float | None = None
        self._stopped: float | None = None

    def __repr__(self) -> str:
        return f"Recorder(sent={self._num_sent}, ended={len(self._records)}, started={self.has_started})"

    @property
    def has_started(self) -> bool:
        """Whether there is something to report after an interrupt."""
        return self._started is not None

    def start(self) -> float:
        """Returns the start of the run."""
        self._started = clock()
        return self._started

    def stop(self) -> None:
        """Ends the duration of the run."""
        self._stopped = clock()

    def count_sent(self) -> None:
        """Tells what an interrupt leaves unfinished."""
        self._num_sent += 1

    def add(self, record: Record) -> None:
        """Takes a request that has ended."""
        self._records.append(record)
        self._on_record(record)

    def add_loop_lag(self, lag: float) -> None:
        """Takes one sample, in seconds."""
        self._loop_lags.append(lag)

    def measurement(self) -> Measurement:
        """Needs a run that has stopped, at its end or by an interrupt."""
        assert self._started is not None
        assert self._stopped is not None
        return Measurement(
            records=tuple(self._records),
            loop_lags=tuple(self._loop_lags),
            duration=self._stopped - self._started,
            num_unfinished=self._num_sent - len(self._records),
        )


async def offer_load(
    config: LoadtestConfig, session: aiohttp.ClientSession, bodies: Sequence[bytes], recorder: Recorder
) -> None:
    """Returns when every request has ended. Cancelled, it abandons those in flight and leaves the recorder complete."""
    load = _Load(session, config.url, recorder)
    started = recorder.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(_watch_loop_lag(recorder))
            if config.is_closed_loop:
                assert config.max_concurrency is not None
                await load.closed_loop(bodies, started, config.max_concurrency)
            else:
                offsets = arrival_offsets(len(bodies), config.request_rate, config.burstiness, config.seed)
                due_times = [started + offset for offset in offsets]
                await load.open_loop(bodies, due_times, config.max_concurrency or len(bodies))
            watcher.cancel()
    finally:
        recorder.stop()


async def warm_up(config: LoadtestConfig, session: aiohttp.ClientSession, bodies: Sequence[bytes]) -> None:
    """Sends all, `max_concurrency` at a time, and records none. Raises ServerUnusableError if every one failed."""
    unrecorded = Recorder(lambda _: None)
    load = _Load(session, config.url, unrecorded)
    started = unrecorded.start()
    await load.closed_loop(bodies, started, config.max_concurrency or len(bodies))
    unrecorded.stop()
    failures = [record.outcome for record in unrecorded.measurement().records if isinstance(record.outcome, Failure)]
    if failures and len(failures) == len(bodies):
        raise ServerUnusableError(f"no warm-up request succeeded: {failures[0].message}")


class _Load:
    def __init__(self, session: aiohttp.ClientSession, url: str, recorder: Recorder) -> None:
        self._session = session
        self._url = url
        self._recorder = recorder

    async def closed_loop(self, bodies: Sequence[bytes], started: float, num_users: int) -> None:
        remaining = iter(bodies)

        async def use() -> None:
            due = started
            for body in remaining:  # shared: each user takes the next one
                await self._send(body, due, dispatched=clock())
                due = clock()

        async with asyncio.TaskGroup() as users:
            for _ in range(min(num_users, len(bodies))):
                users.create_task(use())

    async def open_loop(self, bodies: Sequence[bytes], due_times: Sequence[float], max_concurrency: int) -> None:
        slots = asyncio.Semaphore(max_concurrency)

        async def wait_and_send(body: bytes, due: float, dispatched: float) -> None:
            async with slots:
                await self._send(body, due, dispatched)

        async with asyncio.TaskGroup() as requests:
            for body, due in zip(bodies, due_times, strict=True):
                # Against an absolute time: lateness of one does not delay the next.
                if (wait := due - clock()) > 0:
                    await asyncio.sleep(wait)
                requests.create_task(wait_and_send(body, due, dispatched=clock()))

    async def _send(self, body: bytes, due: float, dispatched: float) -> None:
        self._recorder.count_sent()
        self._recorder.add(await send(self._session, self._url, body, due=due, dispatched=dispatched))


async def _watch_loop_lag(recorder: Recorder) -> None:
    """How late the event loop wakes a sleeper is how late it may stamp a chunk."""
    while True:
        wake = clock() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        recorder.add_loop_lag(max(0.0, clock() - wake))
