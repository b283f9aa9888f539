"""The gateway's end of the WebSocket to one engine: commands out, each request's deltas to whoever waits for them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

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


class EngineLink:
    """One connection. All its fields are written on the event loop's thread.

    Each request has an inbox here from `generate` until its end; None in an inbox means that the engine is lost.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        websocket: aiohttp.ClientWebSocketResponse,
        hello: Hello,
        on_stats: Callable[[EngineStats], None],
    ) -> None:
        self.hello = hello
        self._lost = asyncio.Event()
        self.stats: EngineStats | None = None
        self._session = session
        self._websocket = websocket
        self._on_stats = on_stats
        self._inboxes: dict[str, asyncio.Queue[TokenDelta | None]] = {}
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._grammar_keys: set[str] = set()  # grammars that the engine has
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._write()))

    @classmethod
    async def connect(cls, unix_path: str, on_stats: Callable[[EngineStats], None]) -> "EngineLink":
        """Connects to an engine, and waits for it to load its model if it must.

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
        return cls(session, websocket, hello, on_stats)

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
            ApiError: the engine refused or failed the request, or was lost.
        """
        inbox: asyncio.Queue[TokenDelta | None] = asyncio.Queue()
        self._inboxes[submit.request_id] = inbox
        is_running = may_reload = True
        try:
            if not self.is_connected:
                raise engine_failed("the engine is not connected: send the request again later", status=503)
            self._submit(submit, grammar)
            while is_running:
                delta = await inbox.get()
                if delta is not None and delta.needs_grammar and may_reload and grammar is not None:
                    may_reload = False
                    self._grammar_keys.discard(grammar.key)
                    self._submit(submit, grammar)
                    continue
                is_running = delta is not None and delta.finish_reason is None
                if delta is None:
                    raise engine_failed("the engine was lost in the middle of the request: send it again", status=503)
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

    async def close(self) -> None:
        """Ends the connection; requests that still run end with an error."""
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
            self._lost.set()
            for inbox in self._inboxes.values():
                inbox.put_nowait(None)

    def _deliver(self, event: protocol.Event) -> None:
        if not isinstance(event, StepOutputs):
            raise TypeError(f"the engine sent {type(event).__name__} in the middle")
        self.stats = event.stats
        self._on_stats(event.stats)
        for delta in event.deltas:
            inbox = self._inboxes.get(delta.request_id)
            if inbox is not None:
                inbox.put_nowait(delta)
