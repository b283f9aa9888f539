"""Runs a load in this process, or in several where one core does not suffice; their clocks are the same."""

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from outrider.loadtest.client import clock
from outrider.loadtest.errors import LoadtestError
from outrider.loadtest.job import Offer
from outrider.loadtest.load import Recorder, offer_load
from outrider.loadtest.measure import Measurement, merge
from outrider.loadtest.record import Record

START_DELAY = 0.1
"""Seconds from the moment that all processes are ready to the start of the run."""

BATCH_SECONDS = 0.25
"""How often a process tells what has ended."""

OnRecord = Callable[[Record], None]


def run_offer(offer: Offer, processes: int, on_record: OnRecord) -> tuple[Measurement, bool]:
    """What was measured, and whether Ctrl-C ended it. Raises KeyboardInterrupt if nothing had begun."""
    shares = offer.shares(processes)
    return _run_here(offer, on_record) if len(shares) == 1 else _run_apart(shares, on_record)


def _run_here(offer: Offer, on_record: OnRecord) -> tuple[Measurement, bool]:
    recorder = Recorder(on_record)
    try:
        asyncio.run(offer_load(offer, recorder))
    except KeyboardInterrupt:
        if not recorder.has_started:
            raise
        return recorder.measurement(), True
    return recorder.measurement(), False


@dataclass(slots=True)
class _Worker:
    """A process and what it has told; `last` is its measurement, without records."""

    process: BaseProcess
    pipe: Connection
    records: list[Record] = field(default_factory=list)
    last: Measurement | None = None


def _run_apart(shares: list[Offer], on_record: OnRecord) -> tuple[Measurement, bool]:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks in any state
    workers: list[_Worker] = []
    try:
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        for worker in workers:
            worker.pipe.recv()
        started = clock() + START_DELAY
        for worker in workers:
            worker.pipe.send(started)
        is_interrupted = _collect(workers, on_record)
    except EOFError as error:
        raise LoadtestError("a process of the load generator ended early: use fewer --processes") from error
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
    parts = [replace(worker.last, records=tuple(worker.records)) for worker in workers if worker.last is not None]
    return merge(parts), is_interrupted


def _collect(workers: list[_Worker], on_record: OnRecord) -> bool:
    """Takes what the processes tell until all have told their last; returns whether Ctrl-C ended it."""
    is_interrupted = False
    by_pipe = {worker.pipe: worker for worker in workers}
    while by_pipe:
        try:
            for pipe in wait(list(by_pipe)):
                assert isinstance(pipe, Connection)
                told = pipe.recv()
                if isinstance(told, Measurement):
                    by_pipe.pop(pipe).last = told
                    continue
                by_pipe[pipe].records += told
                for record in told:
                    on_record(record)
        except KeyboardInterrupt:
            if is_interrupted:
                raise
            is_interrupted = True
            for pipe in by_pipe:
                pipe.send("stop")
    return is_interrupted


def _work(offer: Offer, pipe: Connection) -> None:
    """The life of one process: ready, started, batches of records, and at the end the rest of its measurement."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop
    batch: list[Record] = []
    told = clock()

    def tell(record: Record) -> None:
        nonlocal told
        batch.append(record)
        if clock() - told > BATCH_SECONDS:
            pipe.send(tuple(batch))
            batch.clear()
            told = clock()

    pipe.send("ready")
    started = pipe.recv()
    recorder = Recorder(tell)
    asyncio.run(_stoppable(offer, recorder, started, pipe))
    pipe.send(tuple(batch))
    pipe.send(replace(recorder.measurement(), records=()))


async def _stoppable(offer: Offer, recorder: Recorder, started: float, pipe: Connection) -> None:
    load = asyncio.ensure_future(offer_load(offer, recorder, started))
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), load.cancel)
    try:
        await load
    except asyncio.CancelledError:
        pass  # what was measured until then is told
    finally:
        loop.remove_reader(pipe.fileno())
