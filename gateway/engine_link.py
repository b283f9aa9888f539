"""The gateway's end of the WebSocket to one engine: commands out, each request's deltas to whoever waits for them.

An engine sends a frame for every step: one that has requests and is silent for long is as good as dead.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from enum import StrEnum

import aiohttp

from outrider.engine import protocol
from outrider.engine.protocol import (
    Abort,
    Command,
    EngineStats,
    FinishReason,
    Hello,
    LoadGrammar,
    StepOutputs,
    Submit,
    TokenDelta,
)
from outrider.gateway.errors import engine_failed
from outrider.structured.constraint import CompiledGrammar

logger = logging.getLogger("outrider.gateway")


class Failure(StrEnum):
    """How an engine can fail a request that another one may go on with."""

    LOST = "lost"  # the connection ended
    STALLED = "stalled"  # it has requests, and was silent for too long
    FAULT = "fault"  # a step failed
    RESTARTED = "restarted"  # on purpose


class EngineFailedError(Exception):
    """An engine failed a request, and not by the request's fault."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class EngineLink:
    """One connection. All its fields are written on the event loop's thread.

    Each request has an inbox here from `generate` until its end; an exception in an inbox is raised there.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        websocket: aiohttp.ClientWebSocketResponse,
        hello: Hello,
        stall_seconds: float,
    ) -> None:
        self.hello = hello
        self.failure: Failure | None = None  # why it is lost
        self._lost = asyncio.Event()
        self._heard = time.monotonic()
        self._stall_seconds = stall_seconds
        self.stats: EngineStats | None = None
        self._session = session
        self._websocket = websocket
        self._inboxes: dict[str, asyncio.Queue[TokenDelta | Exception]] = {}
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._grammar_keys: set[str] = set()  # grammars that the engine has
        self._reader = asyncio.create_task(self._read())
        self._tasks = (self._reader, asyncio.create_task(self._write()), asyncio.create_task(self._watch()))

    @classmethod
    async def connect(cls, unix_path: str, stall_seconds: float = 60.0) -> "EngineLink":
        """Connects to an engine, and waits for it to load its model if it must.

        Args:
            unix_path: where it listens
            stall_seconds: an engine with requests is given up when it is silent for so long

        Raises:
            OSError: nothing listens there, or the engine ended before it was ready.
        """
        session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(unix_path), timeout=aiohttp.ClientTimeout(total=None)
        )
        try:
            websocket = await session.ws_connect(
                "http://engine/engine", max_msg_size=protocol.MAX_FRAME_BYTES, heartbeat=30.0, compress=0
            )
            hello = protocol.decode_event(await websocket.receive_bytes())
            if not isinstance(hello, Hello):
                raise TypeError(f"it began with {type(hello).__name__}")
        except (aiohttp.ClientError, TypeError) as error:  # TypeError also when the first frame was the end
            await session.close()
            raise ConnectionError(f"no engine answers at {unix_path}: {error}") from error
        except BaseException:
            await session.close()
            raise
        return cls(session, websocket, hello, stall_seconds)

    @property
    def is_connected(self) -> bool:
        """Whether the engine is there."""
        return not self._lost.is_set()

    async def wait_lost(self) -> None:
        """Returns when the engine is gone."""
        await self._lost.wait()

    async def generate(self, submit: Submit, grammar: CompiledGrammar | None) -> AsyncGenerator[TokenDelta]:
        """Runs a request and yields its deltas; the last has a finish reason. Closing the iterator early aborts it.

        Raises:
            EngineFailedError: the engine is lost, or failed all its requests.
            ApiError: the engine refused or failed this request.
        """
        if not self._inboxes:
            self._heard = time.monotonic()  # it had nothing to say
        inbox: asyncio.Queue[TokenDelta | Exception] = asyncio.Queue()
        self._inboxes[submit.request_id] = inbox
        is_running = may_reload = True
        try:
            if not self.is_connected:
                raise EngineFailedError(self.failure or Failure.LOST)
            self._submit(submit, grammar)
            while is_running:
                delta = await inbox.get()
                if isinstance(delta, Exception):
                    raise delta
                if delta.needs_grammar and may_reload and grammar is not None:
                    may_reload = False
                    self._grammar_keys.discard(grammar.key)
                    self._submit(submit, grammar)
                    continue
                is_running = delta.finish_reason is None
                if delta.is_engine_fault:
                    raise EngineFailedError(Failure.FAULT)
                if delta.finish_reason is FinishReason.ERROR:
                    raise engine_failed(delta.error or "the engine failed the request")
                yield delta
        finally:
            del self._inboxes[submit.request_id]
            if is_running:  # no await here: a cancelled caller must not leave the request behind
                self.abort(submit.request_id)

    def _submit(self, submit: Submit, grammar: CompiledGrammar | None) -> None:
        """Sends a request, and its grammar first unless the engine has it."""
        if grammar is not None and grammar.key not in self._grammar_keys:
            self._grammar_keys.add(grammar.key)
            self._send(LoadGrammar(grammar.key, grammar.backend, grammar.data))
        self._send(submit)

    def _send(self, command: Command) -> None:
        """Encodes here, where a caller sees what cannot be encoded."""
        self._outbox.put_nowait(protocol.encode(command))

    def abort(self, request_id: str) -> None:
        """Ends a request early; its iterator still yields the last delta, with the figures."""
        self._send(Abort(request_id))

    def fail_all(self, error: Exception) -> None:
        """Raises an error in every request that still runs."""
        for inbox in self._inboxes.values():
            inbox.put_nowait(error)

    def give_up(self, failure: Failure) -> None:
        """Takes the engine for lost, whatever it may still send."""
        self.failure = failure
        self._reader.cancel()

    async def close(self) -> None:
        """Ends the connection; requests that still run fail."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._websocket.close()
        await self._session.close()

    async def _write(self) -> None:
        try:
            while True:
                await self._websocket.send_bytes(await self._outbox.get())
        except (ConnectionError, aiohttp.ClientError):
            return  # the reader sees the same end and tells everybody

    async def _read(self) -> None:
        try:
            async for message in self._websocket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._deliver(protocol.decode_event(message.data))
        except Exception:  # the end of the task: without its log line the engine would seem to have died
            logger.exception("what the engine sent cannot be read")
        finally:
            self.failure = self.failure or Failure.LOST
            self._lost.set()
            self.fail_all(EngineFailedError(self.failure))

    async def _watch(self) -> None:
        """Gives an engine up that has requests and says nothing."""
        while True:
            await asyncio.sleep(self._stall_seconds / 4)
            if self._inboxes and time.monotonic() - self._heard > self._stall_seconds:
                self.give_up(Failure.STALLED)

    def _deliver(self, event: protocol.Event) -> None:
        if not isinstance(event, StepOutputs):
            raise TypeError(f"the engine sent {type(event).__name__} in the middle")
        self._heard = time.monotonic()
        self.stats = event.stats
        for delta in event.deltas:
            inbox = self._inboxes.get(delta.request_id)
            if inbox is not None:
                inbox.put_nowait(delta)
