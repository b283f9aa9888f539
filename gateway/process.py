"""The gateway as a process: connect to an engine, serve HTTP, and stop in order when told to."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from outrider.engine.errors import LoadError
from outrider.engine.protocol import EngineStats
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.errors import draining
from outrider.gateway.queue import open_queue
from outrider.gateway.replica import EnginePlace, EngineStartError
from outrider.gateway.replicas import Replicas
from outrider.gateway.state import Gateway, record_engine_end
from outrider.structured.compiler import Compiler
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.options import profile_of_environment
from outrider.telemetry.push import MetricPush
from outrider.telemetry.tracing import Tracing

KEEP_ALIVE_SECONDS = 75.0
LAST_WORDS_SECONDS = 1.0  # for the final events of answers that were ended
REPORT_SECONDS = 1.0  # between the engines' figures in metrics that are pushed


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
    engines: Sequence[EnginePlace],
    on_ready: Callable[[Gateway], None],
) -> list[EngineStats]:
    """Serves until a signal, then drains and stops; returns the engines' last figures. A second signal ends at once.

    Args:
        config: of the gateway
        listener: the bound HTTP socket
        access: keys and limits
        engines: at least one, to start or to connect to
        on_ready: called once requests are taken

    Raises:
        StartError: no engine came up, or all were given up.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        profile = profile_of_environment(config.traces.profile)
        metrics = Metrics(routes=ROUTES, profile=profile, vllm_names=config.metrics_compat == "vllm")
        replicas = Replicas(
            engines,
            stall_seconds=config.stall_timeout,
            failover_seconds=config.failover_timeout,
            on_lost=lambda name, stats: record_engine_end(metrics, name, stats),
        )
        stack.push_async_callback(replicas.close)
        if not await _start(replicas, stop):
            return []  # told to stop while the engine was loading
        gateway = await stack.enter_async_context(_open_gateway(config, replicas, metrics, access))
        runner = web.AppRunner(
            build_app(gateway),
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=LAST_WORDS_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()
        restarting = _restart_on_signal(replicas, config.drain_timeout)
        stack.push_async_callback(restarting.stop)
        if config.keys is not None or config.config is not None:  # else SIGHUP stops us, as other signals do
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, access.reload)
        on_ready(gateway)
        await _first(stop.wait(), replicas.wait_given_up())
        if not stop.is_set():
            raise StartError("no engine is left, the last lines above may say why")
        await _drain(gateway)
        return list(replicas.stats.values())


async def _drain(gateway: Gateway) -> None:
    """Lets what runs come to its end for a while, and ends what is left with an error. New requests are refused."""
    gateway.is_draining = True
    gateway.metrics.set_draining()
    with suppress(TimeoutError):
        async with asyncio.timeout(gateway.config.drain_timeout):
            await gateway.idle.wait()
    gateway.engine.end_all(draining("The server is shutting down and ended this answer: send the request again"))
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await gateway.idle.wait()


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


def _restart_on_signal(replicas: Replicas, drain_seconds: float) -> "_Restarting":
    """On SIGUSR1 the engines that are ours are started anew, one after the other."""
    restarting = _Restarting(replicas, drain_seconds)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, restarting.begin)
    return restarting


class _Restarting:
    """A rolling restart, if one is under way."""

    def __init__(self, replicas: Replicas, drain_seconds: float) -> None:
        self._replicas = replicas
        self._drain_seconds = drain_seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begins one, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._replicas.restart_all(self._drain_seconds))

    async def stop(self) -> None:
        """Leaves it where it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _start(replicas: Replicas, stop: asyncio.Event) -> bool:
    """Returns once requests can be taken; False when told to stop before that."""
    starting = asyncio.create_task(replicas.start())
    try:
        await _first(asyncio.wait({starting}), stop.wait())
        if not stop.is_set():
            await starting
        return not stop.is_set()
    except EngineStartError as error:
        raise StartError(str(error)) from error
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


@asynccontextmanager
async def _open_gateway(
    config: GatewayConfig, engine: Replicas, metrics: Metrics, access: Access
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
        queue = open_queue(config, lambda: engine.num_answers_at_once, metrics.queue)
        gateway = Gateway(config, model_name, engine, tokenizer, compiler, tracing, metrics, access, queue)
        stack.push_async_callback(gateway.checker.close)
        reporting = asyncio.create_task(_report(gateway))
        stack.callback(reporting.cancel)
        yield gateway


async def _report(gateway: Gateway) -> None:
    """Keeps the engines' figures fresh for who does not ask for them."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        gateway.record_engines()


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
