"""A whole gateway in this process before null engines: real HTTP, real wire protocol, started in milliseconds.

async with null_gateway(tmp_path) as server:
    answer = await server.complete("Once", max_tokens=8)
"""

import functools
import json
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
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.queue import open_queue
from outrider.gateway.replica import EnginePlace
from outrider.gateway.replicas import Replicas
from outrider.gateway.state import Gateway, record_engine_end
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

    def tear(self) -> None:
        """Breaks its connections off, as the end of its process would; it can be connected to again at once."""
        assert self.server._runner is not None
        for connection in self.server._runner.server.connections:
            connection.transport.abort()

    def vanish(self) -> None:
        """Breaks off, and cannot be connected to any more."""
        Path(self.path).unlink()
        self.tear()


@dataclass
class NullGateway:
    """A running gateway and its engines."""

    url: str
    gateway: Gateway
    engines: list[NullEngine]
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

    async def stream(self, prompt: str, **body: object) -> list[dict]:
        """The events of a streamed completion, `[DONE]` left out."""
        asked = {"model": MODEL, "prompt": prompt, "stream": True, **body}
        async with self.session.post(f"{self.url}/v1/completions", json=asked) as response:
            assert 200 == response.status, await response.text()
            lines = [line async for line in response.content if line.startswith(b"data: ")]
        assert b"data: [DONE]\n" == lines.pop()
        return [json.loads(line[len(b"data: ") :]) for line in lines]

    def expected(self, prompt: str, seed: int, num_tokens: int) -> str:
        """What an answer must say, however often it was moved."""
        start = len(demo_tokenizer().encode(prompt))
        core = self.engines[0].core
        return demo_tokenizer().decode([core.token(seed, start + place) for place in range(num_tokens)])


def text_of(events: list[dict]) -> str:
    """What the events of a completion's stream say together."""
    return "".join(event["choices"][0]["text"] for event in events)


@asynccontextmanager
async def null_gateway(
    folder: Path,
    config: GatewayConfig | None = None,
    *,
    num_engines: int = 1,
    tracing: Tracing | None = None,
    **engine_options: float,
) -> AsyncIterator[NullGateway]:
    """A gateway on a free port; `engine_options` are those of `NullCore`, `step_seconds` say."""
    config = config or GatewayConfig()
    async with AsyncExitStack() as stack:
        paths = [str(folder / f"{index}.sock") for index in range(num_engines)]
        engines = [await NullEngine.start(path, **engine_options) for path in paths]
        for engine in engines:
            stack.push_async_callback(engine.server.close)
        metrics = Metrics(routes=ROUTES, models=[MODEL])
        replicas = Replicas(
            [EnginePlace(path=engine.path) for engine in engines],
            stall_seconds=config.stall_timeout,
            failover_seconds=config.failover_timeout,
            on_lost=lambda name, stats: record_engine_end(metrics, name, stats),
        )
        stack.push_async_callback(replicas.close)
        await replicas.start()
        gateway = Gateway(
            config=config,
            model_name=MODEL,
            engine=replicas,
            tokenizer=demo_tokenizer(),
            compiler=InstantCompiler(),
            tracing=tracing or Tracing(),
            metrics=metrics,
            access=Access(config),
            queue=open_queue(config, lambda: replicas.num_answers_at_once, metrics.queue),
        )
        runner = web.AppRunner(build_app(gateway), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield NullGateway(f"http://127.0.0.1:{runner.addresses[0][1]}", gateway, engines, session)
