"""A whole gateway in this process before null engines: real HTTP, real wire protocol, started in milliseconds.

async with null_gateway(tmp_path) as server:
    answer = await server.complete("Once", max_tokens=8)
"""

import functools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from outrider.demo import target_path
from outrider.engine.null import NullCore
from outrider.engine.tokenizer import Tokenizer
from outrider.engine.transport import EngineServer
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.engine_link import EngineLink
from outrider.gateway.state import Gateway, record_engine_stats
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

MODEL = "null"


class InstantCompiler:
    """Compiles every constraint to nothing, which a null engine takes for a grammar."""

    def is_cached(self, constraint: Constraint) -> bool:
        return True

    async def compile(self, constraint: Constraint) -> CompiledGrammar:
        return CompiledGrammar(key=constraint.key, backend="null", data=b"")


@functools.cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer(target_path())


@dataclass
class NullEngine:
    """One engine of this process; `core` tells what it runs."""

    core: NullCore
    server: EngineServer
    path: str

    @classmethod
    async def start(cls, path: str, **options: float) -> "NullEngine":
        core = NullCore(target_path(), **options)
        server = EngineServer(core)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            await server.start(listener.dup())
        return cls(core, server, path)


@dataclass
class NullGateway:
    """A running gateway and its engine."""

    url: str
    gateway: Gateway
    engine: NullEngine
    session: aiohttp.ClientSession

    async def post(self, path: str, **body: object) -> tuple[int, dict]:
        """Status and JSON body of an answer."""
        async with self.session.post(f"{self.url}{path}", json={"model": MODEL, **body}) as response:
            return response.status, await response.json()

    async def complete(self, prompt: str, **body: object) -> str:
        """The text of a completion that succeeds."""
        status, answer = await self.post("/v1/completions", prompt=prompt, **body)
        assert 200 == status, answer
        return answer["choices"][0]["text"]


@asynccontextmanager
async def null_gateway(
    folder: Path, config: GatewayConfig | None = None, *, tracing: Tracing | None = None, **engine_options: float
) -> AsyncIterator[NullGateway]:
    """A gateway on a free port; `engine_options` are those of `NullCore`, `step_seconds` say."""
    async with AsyncExitStack() as stack:
        engine = await NullEngine.start(str(folder / "engine.sock"), **engine_options)
        stack.push_async_callback(engine.server.close)
        metrics = Metrics(routes=ROUTES, models=[MODEL])
        link = await EngineLink.connect(engine.path, lambda stats: record_engine_stats(metrics, stats))
        stack.push_async_callback(link.close)
        gateway = Gateway(
            config=config or GatewayConfig(),
            model_name=MODEL,
            engine=link,
            tokenizer=demo_tokenizer(),
            compiler=InstantCompiler(),
            tracing=tracing or Tracing(),
            metrics=metrics,
            limit=None,
        )
        runner = web.AppRunner(build_app(gateway), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield NullGateway(f"http://127.0.0.1:{runner.addresses[0][1]}", gateway, engine, session)
