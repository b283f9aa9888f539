"""All engines of a gateway as one: chooses among them, and goes on elsewhere when one fails in mid-stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from outrider.engine.protocol import EngineStats, Hello, Submit, TokenDelta
from outrider.gateway.continuation import Continuation
from outrider.gateway.engine_link import EngineFailedError, EngineLink, Failure
from outrider.gateway.errors import ApiError, engine_failed, unavailable
from outrider.gateway.replica import EnginePlace, EngineStartError, Replica
from outrider.gateway.routing import choose, prefix_chain
from outrider.structured.constraint import CompiledGrammar

MAX_RESUMES = 3  # of one request: what kills three engines is kept from the rest
NEW_REQUEST_SECONDS = 10.0  # how long a new request waits for an engine that is being restarted


@dataclass(frozen=True, slots=True)
class Resume:
    """A request that went on with another engine, or with the same one after its restart."""

    reason: Failure
    lost: str  # name of the engine that failed
    engine: str  # name of the one that goes on
    num_output_tokens: int  # that the client had been given
    seconds: float  # without an engine


class Replicas:
    """The engines. All fields are written on the event loop's thread, by this class alone.

    Attributes:
        hello: What all of them serve.
    """

    hello: Hello

    def __init__(
        self,
        places: Sequence[EnginePlace],
        *,
        stall_seconds: float = 60.0,
        failover_seconds: float = 120.0,
        on_lost: Callable[[str, EngineStats | None], None],
    ) -> None:
        """Starts nothing yet.

        Args:
            places: of at least one engine
            stall_seconds: an engine with requests that is silent for so long is given up
            failover_seconds: how long a request that was running waits for an engine to go on with
            on_lost: called with the name and the last figures of an engine whose connection has ended
        """
        self.replicas = tuple(
            Replica(f"engine-{index}", place, stall_seconds=stall_seconds, on_change=self._note_change, on_lost=on_lost)
            for index, place in enumerate(places)
        )
        self._failover_seconds = failover_seconds
        self._running: dict[str, tuple[EngineLink, str]] = {}  # request id -> where it runs, and its id there
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()  # replaced at each change
        self._given_up = asyncio.Event()
        self._ended: ApiError | None = None  # what requests end with, once no more may run
        self._turn = 0

    @property
    def is_connected(self) -> bool:
        """Whether any engine is there."""
        return any(replica.link is not None and replica.link.is_connected for replica in self.replicas)

    @property
    def num_answers_at_once(self) -> int:
        """How many to send at a time, to all that are there together; as many as one takes while none is."""
        num_there = sum(replica.link is not None for replica in self.replicas)
        return max(1, num_there) * self.hello.num_answers_at_once

    @property
    def stats(self) -> dict[str, EngineStats]:
        """The newest of each engine that is there, by its name."""
        links = {replica.name: replica.link for replica in self.replicas}
        return {name: link.stats for name, link in links.items() if link is not None and link.stats is not None}

    async def start(self) -> None:
        """Connects to the engines; returns when requests can be taken.

        Of engines of ours the first is started alone: what is wrong with one is wrong with all. The others follow while
        it serves.

        Raises:
            EngineStartError: no engine came up.
        """
        first = self.replicas[:1] if self.replicas[0].is_local else self.replicas
        found = await asyncio.gather(*(replica.open() for replica in first), return_exceptions=True)
        hellos = [hello for hello in found if isinstance(hello, Hello)]
        if not hellos:
            reasons = dict.fromkeys(str(error) for error in found)
            raise EngineStartError("; ".join(reasons))
        self.hello = hellos[0]
        self._tasks = [asyncio.create_task(replica.run(self.hello)) for replica in self.replicas]

    async def close(self) -> None:
        """Ends the connections, and the engines that are ours."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self.replicas))

    async def wait_given_up(self) -> None:
        """Returns when no engine is left, and none will come."""
        await self._given_up.wait()

    async def restart_all(self, drain_seconds: float) -> None:
        """Starts the engines that are ours anew, one after the other; no request is lost by it."""
        for replica in self.replicas:
            if replica.is_local and not replica.is_given_up:
                has_others = any(other.is_open(time.monotonic()) for other in self.replicas if other is not replica)
                await replica.restart(drain_seconds if has_others else 0.0)

    def end_all(self, error: ApiError) -> None:
        """Ends every request that runs with an error, and those that come."""
        self._ended = error
        for replica in self.replicas:
            if replica.link is not None:
                replica.link.fail_all(error)
        self._signal()

    def abort(self, request_id: str) -> None:
        """Ends a request early; its iterator still yields the last delta, with the figures, if its engine lives."""
        if request_id in self._running:
            link, engine_request_id = self._running.pop(request_id)
            link.abort(engine_request_id)

    async def generate(
        self, submit: Submit, grammar: CompiledGrammar | None, on_resume: Callable[[Resume], None]
    ) -> AsyncGenerator[TokenDelta]:
        """Runs a request and yields its deltas; the last has a finish reason. Closing the iterator early aborts it.

        When its engine fails it goes on with another one from the exact position, and `on_resume` is told.

        Raises:
            ApiError: an engine refused or failed the request, or no engine was left for it.
        """
        continuation = Continuation(submit, time.monotonic())
        chain = prefix_chain(submit.prompt_ids, submit.cache_salt) if len(self.replicas) > 1 else []
        failure: tuple[Failure, Replica, float] | None = None
        num_failures = 0
        try:
            while True:
                replica = await self._place(chain, None if failure is None else failure[1])
                now = time.monotonic()
                if failure is not None:
                    reason, lost, since = failure
                    on_resume(Resume(reason, lost.name, replica.name, continuation.num_output_tokens, now - since))
                attempt = continuation.submit(now)
                link = replica.begin(chain)
                self._running[submit.request_id] = link, attempt.request_id
                try:
                    async with aclosing(link.generate(attempt, grammar)) as deltas:
                        async for delta in deltas:
                            replica.succeed()
                            continuation.add(delta)
                            yield delta
                    return
                except EngineFailedError as error:
                    replica.fail(error.failure)
                    if submit.request_id not in self._running:
                        return  # it was ended early: only its figures are lost
                    failure = error.failure, replica, time.monotonic()
                finally:
                    replica.end()
                continuation.num_resumes += 1
                num_failures += failure[0] is not Failure.RESTARTED
                if num_failures > MAX_RESUMES:
                    message = f"the engine failed {num_failures} times in the middle of the request: send it again"
                    raise engine_failed(message, status=503)
        finally:
            self._running.pop(submit.request_id, None)

    async def _place(self, chain: Sequence[bytes], failed: Replica | None) -> Replica:
        """The engine to send a request to, as soon as there is one; another than the one that failed it, if possible.

        Raises:
            ApiError: none came in time.
        """
        deadline = time.monotonic() + (NEW_REQUEST_SECONDS if failed is None else self._failover_seconds)
        while True:
            if self._ended is not None:
                raise self._ended
            now = time.monotonic()
            found = self._choose(chain, failed, now)
            if found is not None:
                return found
            if self._given_up.is_set() or now >= deadline:
                raise unavailable("No engine is available: send the request again later")
            pauses = [replica.breaker.opens_at - now for replica in self.replicas]
            wait = min([deadline - now, *(pause for pause in pauses if pause > 0)])
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _choose(self, chain: Sequence[bytes], failed: Replica | None, now: float) -> Replica | None:
        found = [replica for replica in self.replicas if replica.is_open(now)]
        if len(found) > 1:
            found = [replica for replica in found if replica is not failed]
        if len(found) <= 1:
            return found[0] if found else None
        self._turn = (self._turn + 1) % len(found)  # equal ones take turns
        found = found[self._turn :] + found[: self._turn]
        return found[choose([replica.load(chain) for replica in found])]

    def _note_change(self) -> None:
        if all(replica.is_given_up for replica in self.replicas):
            self._given_up.set()
        self._signal()

    def _signal(self) -> None:
        """Wakes all requests that wait for an engine."""
        self._changed.set()
        self._changed = asyncio.Event()
