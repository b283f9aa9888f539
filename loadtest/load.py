"""Offers the load: sends each request when it is due and collects the records. The only file with tasks.

Two shapes. Open loop: requests become due at their arrival times, however slow the server is, and wait for a slot where
--max-concurrency is set too. Closed loop: `max_concurrency` users, each due again when its last request has ended.
Warm-ups come first in the same schedule: nothing waits for the last of them, which would make a burst of the first
measured ones.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from itertools import chain

import aiohttp

from outrider.loadtest.client import clock, exchange, open_session
from outrider.loadtest.job import Job, Offer, next_body
from outrider.loadtest.measure import Measurement
from outrider.loadtest.record import Answer, Failure, FailureKind, Record

LAG_INTERVAL = 0.01
LOST_AFTER = 10
"""Broken connections one after the other, with nothing between them, after which the server is taken for gone."""


class Recorder:
    """The running state of one process's share: what has been seen so far. Written by the load."""

    def __init__(self, on_record: Callable[[Record], None]) -> None:
        self._on_record = on_record
        self._records: list[Record] = []
        self._loop_lags: list[float] = []
        self._num_sent = 0
        self._num_broken = 0
        self._started: float | None = None
        self._stopped: float | None = None
        self._processor_started = time.process_time()
        self._processor_seconds = 0.0

    def __repr__(self) -> str:
        return f"Recorder(sent={self._num_sent}, ended={len(self._records)}, started={self.has_started})"

    @property
    def has_started(self) -> bool:
        """Whether there is something to report after an interrupt."""
        return self._started is not None

    @property
    def has_lost_server(self) -> bool:
        """Whether it is useless to go on."""
        return self._num_broken >= LOST_AFTER

    def start(self, started: float) -> None:
        """Begins the duration of the run."""
        self._started = started
        self._processor_started = time.process_time()

    def stop(self) -> None:
        """Ends the duration of the run."""
        self._stopped = clock()
        self._processor_seconds = time.process_time() - self._processor_started

    def count_sent(self) -> None:
        """Tells what an interrupt leaves unfinished."""
        self._num_sent += 1

    def add(self, record: Record) -> None:
        """Takes a request that has ended."""
        self._records.append(record)
        is_broken = isinstance(record.outcome, Failure) and record.outcome.kind is FailureKind.CONNECTION
        self._num_broken = self._num_broken + 1 if is_broken else 0
        self._on_record(record)

    def add_loop_lag(self, lag: float) -> None:
        """Takes one sample, in seconds."""
        self._loop_lags.append(lag)

    def measurement(self) -> Measurement:
        """Needs a run that has stopped, at its end or by an interrupt."""
        assert self._started is not None
        assert self._stopped is not None
        seconds = self._stopped - self._started
        return Measurement(
            records=tuple(self._records),
            loop_lags=tuple(self._loop_lags),
            started=self._started,
            stopped=self._stopped,
            num_unfinished=self._num_sent - len(self._records),
            processor_loads=(self._processor_seconds / seconds if seconds else 0.0,),
            has_lost_server=self.has_lost_server,
        )


async def offer_load(offer: Offer, recorder: Recorder, started: float | None = None) -> None:
    """Returns when every request has ended, or the server is lost.

    Cancelled, it abandons those in flight and leaves the recorder complete. `started` is the moment that offsets count
    from, now if left out.
    """
    async with open_session(offer.api_key, offer.headers, is_insecure=offer.is_insecure) as session:
        load = _Load(session, offer.url, recorder)
        # What exists now lives until the end: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        started = clock() if started is None else started
        recorder.start(started)
        try:
            if (wait := started - clock()) > 0:
                await asyncio.sleep(wait)
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(_watch_loop_lag(recorder))
                if offer.is_closed_loop:
                    await load.closed_loop(offer, started)
                else:
                    await load.open_loop(offer, started)
                watcher.cancel()
        finally:
            recorder.stop()
            gc.unfreeze()


class _Load:
    def __init__(self, session: aiohttp.ClientSession, url: str, recorder: Recorder) -> None:
        self._session = session
        self._url = url
        self._recorder = recorder

    async def closed_loop(self, offer: Offer, started: float) -> None:
        assert offer.max_concurrency is not None
        remaining = self._until_lost(iter(offer.jobs))

        async def use() -> None:
            due = started
            for job in remaining:  # shared: each user takes the next one
                await self._converse(job, due, dispatched=clock())
                due = clock()

        async with asyncio.TaskGroup() as users:
            for _ in range(min(offer.max_concurrency, len(offer.jobs))):
                users.create_task(use())

    async def open_loop(self, offer: Offer, started: float) -> None:
        slots = asyncio.Semaphore(offer.max_concurrency or len(offer.jobs))

        async def wait_and_send(job: Job, due: float, dispatched: float) -> None:
            async with slots:
                # Thinking users keep their slot: a conversation is one visit.
                for each in self._until_lost(iter((job,))):
                    await self._converse(each, due, dispatched)

        async with asyncio.TaskGroup() as requests:
            for job in self._until_lost(iter(offer.jobs)):
                due = started + job.offset
                # Against an absolute time: lateness of one does not delay the next.
                if (wait := due - clock()) > 0:
                    await asyncio.sleep(wait)
                requests.create_task(wait_and_send(job, due, dispatched=clock()))

    def _until_lost(self, jobs: Iterator[Job]) -> Iterator[Job]:
        return (job for job in jobs if not self._recorder.has_lost_server)

    async def _converse(self, job: Job, due: float, dispatched: float) -> None:
        """All turns; the user thinks from the end of an answer, and leaves after a failure."""
        body = job.body
        for number, turn in enumerate(chain(job.turns, (None,))):
            answer = await self._send(job, body, number, due, dispatched)
            if turn is None or not isinstance(answer, Answer):
                return
            body = next_body(body, answer.text, turn.text)
            due = clock() + turn.think_time
            if turn.think_time:
                await asyncio.sleep(turn.think_time)
            dispatched = clock()

    async def _send(self, job: Job, body: bytes, turn: int, due: float, dispatched: float) -> Answer | Failure:
        self._recorder.count_sent()
        sent, ended, outcome = await exchange(self._session, self._url, body, job.headers)
        self._recorder.add(
            Record(
                due=due,
                dispatched=dispatched,
                sent=sent,
                ended=ended,
                outcome=outcome,
                index=job.index,
                turn=turn,
                is_warmup=job.is_warmup,
            )
        )
        return outcome


async def _watch_loop_lag(recorder: Recorder) -> None:
    """How late the event loop wakes a sleeper is how late it may stamp a chunk."""
    while True:
        wake = clock() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        recorder.add_loop_lag(max(0.0, clock() - wake))
