"""A gateway in this process, over real HTTP with all its limits, before an engine that answers at once.

async with api_server(max_body_bytes=1000) as server: ...     # on the test's own loop
with threaded_api_server() as server: ...                     # for clients that block
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

from aiohttp import web

from outrider.demo import target_path
from outrider.engine.protocol import FinishReason, Hello, RequestFigures, Submit, TokenDelta, TokenLogprobs
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES
from outrider.gateway.config import GatewayConfig
from outrider.gateway.queue import open_queue
from outrider.gateway.server import build_runner
from outrider.gateway.state import Gateway
from outrider.gateway.tls import tls_context
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

MODEL = "demo"
TOKEN = 300
HELLO = Hello("folder", 8192, 512, (1,), {}, ("ngram",), 8, ("off",))


@functools.cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer(target_path())


class InstantCompiler:
    """Compiles every constraint to nothing."""

    def is_cached(self, constraint: Constraint) -> bool:
        return True

    async def compile(self, constraint: Constraint) -> CompiledGrammar:
        return CompiledGrammar(key=constraint.key, backend="none", data=b"")


@dataclass
class InstantEngine:
    """Answers each request with the same token, one a step of the event loop."""

    hello: Hello = HELLO
    is_connected: bool = True
    stats: dict[str, object] = field(default_factory=dict)
    num_running: int = 0
    num_steps: int = 0
    submits: list[Submit] = field(default_factory=list)

    async def generate(
        self, submit: Submit, grammar: CompiledGrammar | None, on_resume: object = None
    ) -> AsyncIterator[TokenDelta]:
        self.submits.append(submit)
        self.num_running += 1
        try:
            params = submit.params
            for index in range(params.max_tokens):
                await asyncio.sleep(0)
                self.num_steps += 1
                is_last = index + 1 == params.max_tokens
                logprobs = [] if params.num_logprobs is None else [TokenLogprobs(-1.0, [TOKEN], [-1.0])]
                yield TokenDelta(
                    submit.request_id,
                    [TOKEN],
                    logprobs,
                    finish_reason=FinishReason.LENGTH if is_last else None,
                    figures=RequestFigures(0.0, 0.0, 0.0, index + 1, 0) if is_last else None,
                    origins=["target"] if submit.token_origins else [],
                )
        finally:
            self.num_running -= 1

    def abort(self, request_id: str) -> None:
        """Leaving `generate` is enough."""


@dataclass
class ApiServer:
    """A running gateway."""

    gateway: Gateway
    engine: InstantEngine
    host: str
    port: int
    scheme: str
    connections: Callable[[], list[web.RequestHandler]]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@asynccontextmanager
async def api_server(**settings: object) -> AsyncIterator[ApiServer]:
    """On a free port, with these settings of `GatewayConfig`."""
    config = GatewayConfig(**settings)
    engine, metrics = InstantEngine(), Metrics(routes=ROUTES, models=[MODEL])
    queue = open_queue(config, lambda: 64, metrics.queue)
    parts = (demo_tokenizer(), InstantCompiler(), Tracing(), metrics, Access(config), queue)
    gateway = Gateway(config, MODEL, engine, *parts)
    runner = build_runner(gateway, 0.5)
    await runner.setup()
    tls = tls_context(config)
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        host, port = runner.addresses[0]
        yield ApiServer(
            gateway, engine, host, port, "http" if tls is None else "https", lambda: runner.server.connections
        )
    finally:
        await runner.cleanup()
        await gateway.checker.close()


@contextmanager
def threaded_api_server(**settings: object) -> Iterator[ApiServer]:
    """The same on a loop of its own."""
    told = SimpleNamespace(server=None, stop=None)
    ready = threading.Event()

    async def serve() -> None:
        told.loop, told.stop = asyncio.get_running_loop(), asyncio.Event()
        async with api_server(**settings) as told.server:
            ready.set()
            await told.stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield told.server
    finally:
        if told.stop is not None:
            told.loop.call_soon_threadsafe(told.stop.set)
        thread.join()
