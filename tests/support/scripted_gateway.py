"""A gateway on a real port whose engine, at the other end of a real Unix socket, does what a test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from outrider.demo import target_path
from outrider.engine import protocol
from outrider.engine.protocol import (
    EngineStats,
    FinishReason,
    Hello,
    RequestFigures,
    SpeculationFigures,
    StepOutputs,
    Submit,
    TokenDelta,
    TokenGaps,
)
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.queue import open_queue
from outrider.gateway.replica import EnginePlace
from outrider.gateway.replicas import Replicas
from outrider.gateway.state import Gateway, record_engine_end
from outrider.structured.constraint import CompiledGrammar
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

MODEL = "tiny"
STATS = EngineStats(1, 0, 4, 1, 0, 0.0, 0, 0, {}, {}, {}, {}, {}, 0, 0)

Script = Callable[[web.WebSocketResponse, Submit], Awaitable[None]]


def figures(**changes) -> RequestFigures:
    """Of a request that arrived now, waited 10 us, was preempted once, and drafted."""
    told = {
        "queue_seconds": 1e-5,
        "prefill_seconds": 2e-5,
        "decode_seconds": 4e-5,
        "num_steps": 5,
        "num_preemptions": 1,
        "num_cached_tokens": 16,
        "speculation": [SpeculationFigures("ngram", 2, 6, 3, [1, 0, 0, 1])],
        "whole_drafts": SpeculationFigures("ngram", 2, 6, 3, [1, 0, 0, 1]),
        "arrived_at": time.time(),
        "waits": [(0.0, 1e-5), (2e-5, 2.5e-5)],
        "num_waiting": 3,
        "num_chunks": 2,
        "num_cache_writes": 32,
        "token_gaps": TokenGaps(0.001, 0.002, 0.003),
        **changes,
    }
    return RequestFigures(**told)


async def send(websocket: web.WebSocketResponse, *deltas: TokenDelta) -> None:
    await websocket.send_bytes(protocol.encode(StepOutputs(list(deltas), STATS)))


async def answer(websocket: web.WebSocketResponse, submit: Submit) -> None:
    """Three tokens in two frames."""
    arrived_at = time.time()
    start = figures(decode_seconds=0.0, token_gaps=None, num_steps=2, arrived_at=arrived_at)
    await send(websocket, TokenDelta(submit.request_id, [20], figures=start))
    last = TokenDelta(
        submit.request_id, [21, 22], finish_reason=FinishReason.STOP, figures=figures(arrived_at=arrived_at)
    )
    await send(websocket, last)


class FakeCompiler:
    """Takes every grammar, or does what `problem` says."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem

    def is_cached(self, constraint: object) -> bool:
        return False

    async def compile(self, constraint: object) -> CompiledGrammar:
        if self.problem is not None:
            raise self.problem
        return CompiledGrammar(key="g", backend="xgrammar", data=b"{}")


@asynccontextmanager
async def scripted_gateway(
    folder: Path,
    tracing: Tracing,
    script: Script = answer,
    config: GatewayConfig | None = None,
    problem: Exception | None = None,
) -> AsyncIterator[tuple[str, Gateway]]:
    """Its address, and the gateway itself; `folder` takes the socket."""
    config = config or GatewayConfig()
    engine_runner, path = await _start_engine(folder, script)
    metrics = Metrics(routes=ROUTES, models=[MODEL])
    engine = Replicas(
        [EnginePlace(path=path)],
        stall_seconds=config.stall_timeout,
        failover_seconds=config.failover_timeout,
        on_lost=lambda name, stats: record_engine_end(metrics, name, stats),
    )
    await engine.start()
    queue = open_queue(config, lambda: 8, metrics.queue)
    tokenizer = Tokenizer(str(target_path()))
    gateway = Gateway(config, MODEL, engine, tokenizer, FakeCompiler(problem), tracing, metrics, Access(config), queue)
    runner = web.AppRunner(build_app(gateway), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", gateway
    finally:
        await runner.cleanup()
        await engine.close()
        await engine_runner.cleanup()
        await asyncio.to_thread(tracing.close)


async def _start_engine(folder: Path, script: Script) -> tuple[web.AppRunner, str]:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        hello = Hello("folder", 8192, 512, (1,), {}, ("ngram",), 8, ("off",))
        await websocket.send_bytes(protocol.encode(hello))
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.BINARY:
                command = protocol.decode_command(message.data)
                if isinstance(command, Submit):
                    await script(websocket, command)
        return websocket

    app = web.Application()
    app.router.add_get("/engine", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path = str(folder / "engine.sock")
    await web.UnixSite(runner, path).start()
    return runner, path
