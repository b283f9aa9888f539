"""One engine that requests can be sent to: started or found, connected, and connected anew whenever it is lost."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outrider.engine.protocol import EngineStats, Hello
from outrider.gateway.breaker import Breaker
from outrider.gateway.engine_link import EngineLink, Failure
from outrider.gateway.routing import Load, PrefixMemory
from outrider.gateway.supervisor import EngineProcess

logger = logging.getLogger("outrider.gateway")

MAX_STARTS = 5  # of an engine of ours that fail in a row; then it is given up
FIRST_PAUSE = 0.5  # seconds before another try, twice as long each time
LONGEST_PAUSE = 30.0


_HOW = {
    Failure.LOST: "is lost",
    Failure.STALLED: "has requests and says nothing any more",
    Failure.FAULT: "fails again and again",
    Failure.RESTARTED: "is stopped",
}


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """One engine: with `arguments` one that we start, else one that listens at the Unix socket `path` already."""

    arguments: tuple[str, ...] | None = None
    path: str = ""


class EngineStartError(Exception):
    """An engine did not come up. The message is one line; empty when the engine itself has said why."""


class Replica:
    """One of a gateway's engines. All fields are written on the event loop's thread, by this class alone.

    Attributes:
        link: None while it is not connected.
        num_requests: Sent to it and not ended.
        is_leaving: Whether it gets no new requests because it is about to be restarted.
        is_given_up: Whether it is not started again.
    """

    def __init__(
        self,
        name: str,
        place: EnginePlace,
        *,
        stall_seconds: float,
        on_change: Callable[[], None],
        on_lost: Callable[[str, EngineStats | None], None],
    ) -> None:
        """Starts nothing yet.

        Args:
            name: for logs, metrics and traces
            place: which engine it is
            stall_seconds: with requests and silent for so long, it is given up
            on_change: called when it is connected, given up, or trusted again
            on_lost: called with its name and its last figures when its connection has ended
        """
        self.name = name
        self.link: EngineLink | None = None
        self.num_requests = 0
        self.is_leaving = False
        self.is_given_up = False
        self.breaker = Breaker()
        self._prefixes = PrefixMemory()
        self._place = place
        self._stall_seconds = stall_seconds
        self._on_change = on_change
        self._on_lost = on_lost
        self._process: EngineProcess | None = None
        self._connected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_local(self) -> bool:
        """Whether its process is ours."""
        return self._place.arguments is not None

    def is_open(self, now: float) -> bool:
        """Whether a request may be sent to it."""
        is_there = self.link is not None and self.link.is_connected and not self.is_leaving
        return is_there and self.breaker.allows(now)

    def load(self, chain: Sequence[bytes]) -> Load:
        """What a request with this prefix chain finds here."""
        stats = None if self.link is None else self.link.stats
        if stats is None:
            return Load(self.num_requests, 0.0)
        num_requests = max(self.num_requests, stats.num_running + stats.num_waiting)  # others may send it some, too
        return Load(num_requests, stats.num_blocks_used / max(1, stats.num_blocks), self._prefixes.matched(chain))

    def begin(self, chain: Sequence[bytes]) -> EngineLink:
        """Counts a request that is sent to it now, and returns where."""
        assert self.link is not None, "it was chosen because it is connected"
        self.num_requests += 1
        self._idle.clear()
        self.breaker.begin()
        if self.link.stats is not None:
            self._prefixes.remember(chain, self.link.stats.num_blocks)
        return self.link

    def succeed(self) -> None:
        """It gave a request tokens."""
        was_closed = not self.breaker.pause
        self.breaker.succeed()
        if not was_closed:
            self._on_change()

    def fail(self, failure: Failure) -> None:
        """It failed a request; one of ours whose steps fail again and again is started anew."""
        if failure is not Failure.FAULT:
            return  # its connection is lost, which `run` sees
        self.breaker.fail(time.monotonic())
        if self.breaker.pause and self.is_local and self.link is not None:
            self.link.give_up(Failure.FAULT)

    def end(self) -> None:
        """A request that was sent to it has ended, in whatever way."""
        self.num_requests -= 1
        self.breaker.leave()
        if not self.num_requests:
            self._idle.set()

    async def open(self, expected: Hello | None = None) -> Hello:
        """Starts it if it is ours, and connects; one try.

        Args:
            expected: what it must serve, if others serve already

        Raises:
            EngineStartError: it did not come up, or serves another model.
        """
        try:
            link = await self._connect()
            if expected is not None and _model(link.hello) != _model(expected):
                await link.close()
                raise EngineStartError(f"{self.name} serves {_model(link.hello)}, but others serve {_model(expected)}")
        except BaseException:
            await self._stop_process()
            raise
        if self._process is not None:
            self._process.forget_socket()
        self.link = link
        self.breaker = Breaker()
        self._prefixes = PrefixMemory()
        self._connected.set()
        self._on_change()
        return link.hello

    async def run(self, hello: Hello) -> None:
        """Keeps it connected, until it is given up or this is cancelled; it must serve what `hello` says."""
        num_failures = 0
        while True:
            if self.link is None:
                try:
                    await self.open(hello)
                except EngineStartError as error:
                    num_failures += 1
                    if self.is_local and num_failures >= MAX_STARTS:
                        logger.error("%s is given up: it failed to start %d times in a row", self.name, num_failures)
                        self.is_given_up = True
                        self._connected.set()  # nobody shall wait for it
                        self._on_change()
                        return
                    pause = min(FIRST_PAUSE * 2 ** (num_failures - 1), LONGEST_PAUSE)
                    logger.warning("%s did not start: %s; again in %.1f s", self.name, error or "see above", pause)
                    await asyncio.sleep(pause)
                    continue
                logger.warning("%s is connected", self.name)
            num_failures = 0
            assert self.link is not None, "just opened"
            await self.link.wait_lost()
            todo = "it is started again" if self.is_local else "connecting again"
            logger.warning("%s %s: %s", self.name, _HOW[self.link.failure or Failure.LOST], todo)
            await self._close_link()

    async def restart(self, seconds: float) -> None:
        """Starts it anew on purpose: first its requests may end, for up to so many seconds; the others go on elsewhere.

        Returns when it is connected again.
        """
        self.is_leaving = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%s is restarted with %d requests, which go on elsewhere", self.name, self.num_requests)
        finally:
            self.is_leaving = False
        if self.link is not None:
            self._connected.clear()
            self.link.give_up(Failure.RESTARTED)
        await self._connected.wait()

    async def close(self) -> None:
        """Ends the connection, and the process if it is ours."""
        await self._close_link()

    async def _connect(self) -> EngineLink:
        path = self._place.path
        if self._place.arguments is not None:
            self._process = await EngineProcess.start(list(self._place.arguments))
            path = self._process.unix_path
        process = self._process
        connecting = asyncio.create_task(EngineLink.connect(path, self._stall_seconds))
        ended = None if process is None else asyncio.create_task(process.wait())
        try:
            await asyncio.wait(
                {connecting} if ended is None else {connecting, ended}, return_when=asyncio.FIRST_COMPLETED
            )
            if ended is not None and ended.done() and not connecting.done():
                raise OSError("it ended")
            return await connecting
        except OSError as error:
            status = None if ended is None else await ended
            known = {None: f"no engine listens at {path}", 1: ""}  # 1: it has said why
            raise EngineStartError(known.get(status, f"the engine ended with status {status}")) from error
        finally:
            for task in (connecting, ended):
                if task is not None:
                    task.cancel()

    async def _close_link(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            self._connected.clear()
            self._on_lost(self.name, link.stats)
            await link.close()
        await self._stop_process()

    async def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop()


def _model(hello: Hello) -> str:
    """What must be the same for a request to go on elsewhere, in words."""
    return (
        f"`{Path(hello.model_path).name}` with {hello.vocab_size} tokens, a context of {hello.max_model_len} "
        f"and speculation {', '.join(hello.speculation_methods) or 'off'}"
    )
