"""The engine's socket: one WebSocket per gateway, msgpack frames. The only file of the engine that knows aiohttp."""

import asyncio
import logging
import socket

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from outrider.engine import protocol
from outrider.engine.host import Core, EngineHost
from outrider.engine.protocol import Abort, Hello, LoadGrammar, StepOutputs, Submit
from outrider.structured.errors import StructuredError

logger = logging.getLogger("outrider.engine")

PATH = "/engine"


class EngineServer:
    """Accepts gateways, passes their commands to the step thread, and sends each the deltas of its own requests.

    All fields are written on the event loop's thread.
    """

    def __init__(self, core: Core) -> None:
        self._core = core  # only to load grammars: all else is the step thread's
        self._hello: Hello = core.hello()
        self._loop = asyncio.get_running_loop()
        self._host = EngineHost(core, self._publish_from_step_thread, self._end_from_step_thread)
        self._ended = asyncio.Event()
        self._outboxes: set[asyncio.Queue[bytes]] = set()
        self._owners: dict[str, asyncio.Queue[bytes]] = {}  # request id -> its gateway's outbox
        self._stats = core.stats()  # the newest
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serves on a socket that is bound and listening."""
        self._host.start()
        app = web.Application()
        app.router.add_get(PATH, self._serve_gateway)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def wait_ended(self) -> None:
        """Returns when the step loop is no more."""
        await self._ended.wait()

    async def close(self) -> None:
        """Ends the connections and the step loop."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._loop.run_in_executor(None, self._host.stop)

    async def _serve_gateway(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(max_msg_size=protocol.MAX_FRAME_BYTES, heartbeat=30.0, compress=False)
        await websocket.prepare(request)
        outbox: asyncio.Queue[bytes] = asyncio.Queue()
        outbox.put_nowait(protocol.encode(self._hello))
        outbox.put_nowait(protocol.encode(StepOutputs([], self._stats)))
        self._outboxes.add(outbox)
        sender = asyncio.create_task(_send_all(websocket, outbox))
        try:
            async for message in websocket:
                if message.type is WSMsgType.BINARY:
                    await self._receive(message.data, outbox)
        except msgspec.DecodeError:
            logger.exception("a gateway sent a frame that is no command: its connection ends")
            await websocket.close(code=WSCloseCode.PROTOCOL_ERROR)
        finally:
            self._outboxes.discard(outbox)
            for request_id in [known for known, owner in self._owners.items() if owner is outbox]:
                del self._owners[request_id]
                self._host.send(Abort(request_id))
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return websocket

    async def _receive(self, frame: bytes, outbox: asyncio.Queue[bytes]) -> None:
        command = protocol.decode_command(frame)
        if isinstance(command, LoadGrammar):
            # In a thread of its own: the step goes on, and what this gateway sends next waits for its grammar.
            await self._loop.run_in_executor(None, self._load_grammar, command)
            return
        if isinstance(command, Submit):
            self._owners.setdefault(command.request_id, outbox)
        self._host.send(command)

    def _load_grammar(self, command: LoadGrammar) -> None:
        try:
            self._core.load_grammar(command)
        except StructuredError:
            logger.exception("a compiled grammar cannot be loaded; the requests that name it fail")

    def _end_from_step_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)

    def _publish_from_step_thread(self, outputs: StepOutputs) -> None:
        self._loop.call_soon_threadsafe(self._publish, outputs)

    def _publish(self, outputs: StepOutputs) -> None:
        """Sorts the deltas by gateway; each gets a frame, for the state if nothing else."""
        self._stats = outputs.stats
        for outbox in self._outboxes:
            mine = [delta for delta in outputs.deltas if self._owners.get(delta.request_id) is outbox]
            outbox.put_nowait(protocol.encode(StepOutputs(mine, outputs.stats)))
        for delta in outputs.deltas:
            if delta.finish_reason is not None:
                self._owners.pop(delta.request_id, None)


async def _send_all(websocket: web.WebSocketResponse, outbox: asyncio.Queue[bytes]) -> None:
    try:
        while True:
            await websocket.send_bytes(await outbox.get())
    except ConnectionResetError:
        return  # the reader sees the same end and cleans up
