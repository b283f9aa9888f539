"""The gateway as a process: connect to an engine, serve HTTP, and stop in order when told to."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from outrider.engine.errors import LoadError
from outrider.engine.protocol import EngineStats
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES
from outrider.gateway.config import GatewayConfig
from outrider.gateway.engine_link import EngineLink
from outrider.gateway.queue import open_queue
from outrider.gateway.server import build_runner
from outrider.gateway.state import Gateway, record_engine_stats
from outrider.gateway.supervisor import EngineProcess
from outrider.gateway.tls import tls_context
from outrider.structured.compiler import Compiler
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.options import profile_of_environment
from outrider.telemetry.push import MetricPush
from outrider.telemetry.tracing import Tracing


class StartError(Exception):
    """The gateway cannot start or go on. The message is one clear line; empty when the engine has said why."""


def bind(host: str, port: int) -> socket.socket:
    """The HTTP socket, bound before anything slow, so that a port in use is known at once.

    Raises:
        StartError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "the port is in use, choose another with --port" if in_use else error
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from error
    return listener


async def run_gateway(
    config: GatewayConfig,
    listener: socket.socket,
    access: Access,
    *,
    engine_arguments: list[str] | None = None,
    engine_path: str = "",
    on_ready: Callable[[Gateway], None],
) -> EngineStats | None:
    """Serves until a signal, then drains and stops; returns the engine's last figures. A second signal ends at once.

    Args:
        config: of the gateway
        listener: the bound HTTP socket
        access: keys and limits
        engine_arguments: of the engine process to start; None to use the engine that listens at `engine_path`
        engine_path: a Unix socket
        on_ready: called once requests are taken

    Raises:
        StartError: no engine came up, or it ended while serving.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        process: EngineProcess | None = None
        if engine_arguments is not None:
            process = await EngineProcess.start(engine_arguments)
            stack.push_async_callback(process.stop)
            engine_path = process.unix_path
        profile = profile_of_environment(config.traces.profile)
        metrics = Metrics(routes=ROUTES, profile=profile, vllm_names=config.metrics_compat == "vllm")
        engine = await _connect(engine_path, process, stop, metrics)
        if engine is None:
            return None  # told to stop while the engine was loading
        stack.push_async_callback(engine.close)
        if process is not None:
            process.forget_socket()
        gateway = await stack.enter_async_context(_open_gateway(config, engine, metrics, access))
        runner = build_runner(gateway, config.drain_seconds / 2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)  # stops listening, then lets running requests finish
        await web.SockSite(runner, listener, ssl_context=tls_context(config)).start()
        if config.keys is not None or config.config is not None:  # else SIGHUP stops us, as other signals do
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, access.reload)
        on_ready(gateway)
        await _first(stop.wait(), engine.wait_lost())
        gateway.is_draining = True
        metrics.set_draining()
        if not stop.is_set():
            raise StartError("the engine ended unexpectedly, its last lines above may say why")
    return engine.stats


def _stop_on_signals(stop: asyncio.Event) -> None:
    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)  # the engine and the compile worker see their pipes close and follow
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means that we stay
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


async def _connect(
    path: str, process: EngineProcess | None, stop: asyncio.Event, metrics: Metrics
) -> EngineLink | None:
    """The link to the engine once it has loaded; None when told to stop before that."""

    def on_stats(stats: EngineStats) -> None:
        record_engine_stats(metrics, stats)

    connecting = asyncio.create_task(EngineLink.connect(path, on_stats))
    waiting = [stop.wait()] if process is None else [stop.wait(), process.wait()]
    try:
        await _first(asyncio.wait({connecting}), *waiting)
        if not stop.is_set():
            return await connecting
        connecting.cancel()
        (link,) = await asyncio.gather(connecting, return_exceptions=True)
        if isinstance(link, EngineLink):  # it came up in the same moment
            await link.close()
        return None
    except OSError as error:
        status = None if process is None else await process.wait()
        message = {None: f"no engine listens at {path}", 1: ""}.get(status, f"the engine ended with status {status}")
        raise StartError(message) from error
    finally:
        connecting.cancel()


@asynccontextmanager
async def _open_gateway(
    config: GatewayConfig, engine: EngineLink, metrics: Metrics, access: Access
) -> AsyncIterator[Gateway]:
    hello = engine.hello
    model_name = config.served_model_name or Path(hello.model_path).name
    metrics.add_model(model_name)
    try:
        tokenizer = Tokenizer(hello.model_path)
    except LoadError as error:
        raise StartError(str(error)) from error
    async with AsyncExitStack() as stack:
        tracing = Tracing.from_environment(config.traces)
        push = MetricPush(metrics.registry)
        stack.push_async_callback(_close_telemetry, tracing, push)
        budget = config.grammar_compile_seconds
        compiler = Compiler(hello.model_path, hello.vocab_size, hello.eos_token_ids, budget_seconds=budget)
        stack.push_async_callback(compiler.close)
        await compiler.start()
        stack.push_async_callback(access.limiter.close)
        queue = open_queue(config, lambda: engine.hello.num_answers_at_once, metrics.queue)
        gateway = Gateway(config, model_name, engine, tokenizer, compiler, tracing, metrics, access, queue)
        stack.push_async_callback(gateway.checker.close)
        yield gateway


async def _close_telemetry(tracing: Tracing, push: MetricPush) -> None:
    """Both at once: each may wait two seconds for a collector that does not answer."""
    await asyncio.gather(asyncio.to_thread(tracing.close), asyncio.to_thread(push.close))


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Waits until one is done, and cancels the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
