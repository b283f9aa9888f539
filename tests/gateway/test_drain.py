"""The gateway as a process: signals, draining, and engines that it starts itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from null_gateway import NullEngine, NullGateway, text_of

from outrider.gateway.access import Access
from outrider.gateway.config import GatewayConfig
from outrider.gateway.process import StartError, bind, run_gateway
from outrider.gateway.replica import EnginePlace
from outrider.gateway.state import Gateway


@asynccontextmanager
async def running(places: list[EnginePlace], engines: list[NullEngine], **config: float) -> AsyncIterator[tuple]:
    """A gateway run as its process runs it; yields it and the task, which a signal ends."""
    listener = bind("127.0.0.1", 0)
    ready: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()
    settings = GatewayConfig(served_model_name="null", **config)
    task = asyncio.create_task(
        run_gateway(settings, listener, Access(settings), engines=places, on_ready=ready.set_result)
    )
    try:
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield NullGateway(url, await ready, engines, session), task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            asyncio.get_running_loop().remove_signal_handler(number)


@asynccontextmanager
async def running_on_one(folder: Path, step_seconds: float, **config: float) -> AsyncIterator[tuple]:
    engine = await NullEngine.start(str(folder / "engine.sock"), step_seconds=step_seconds)
    try:
        async with running([EnginePlace(path=engine.path)], [engine], **config) as found:
            yield found
    finally:
        await engine.server.close()


async def all_run(engine: NullEngine, num_requests: int) -> None:
    while len(engine.core.request_ids) < num_requests:
        await asyncio.sleep(0)


async def test_requests_end_before_the_gateway_stops(tmp_path) -> None:
    """And others are told at once to go elsewhere."""
    async with running_on_one(tmp_path, 0.01) as (server, task):
        streams = [asyncio.create_task(server.stream(f"Once {i}", seed=i, max_tokens=80)) for i in range(8)]
        await all_run(server.engines[0], 8)
        os.kill(os.getpid(), signal.SIGTERM)
        while not server.gateway.is_draining:
            await asyncio.sleep(0)
        status, refused = await server.post("/v1/completions", prompt="a")
        async with server.session.get(f"{server.url}/ready") as ready:
            readiness = ready.status, ready.headers["Retry-After"]
        texts = [text_of(events) for events in await asyncio.gather(*streams)]
        await task

        assert ((503, "1"), 503, "draining") == (readiness, status, refused["error"]["code"])
        assert [server.expected(f"Once {i}", i, 80) for i in range(8)] == texts


async def test_what_does_not_end_in_time_ends_with_an_event(tmp_path) -> None:
    """A stream with an error and `[DONE]`, a whole answer with a 503."""
    async with running_on_one(tmp_path, 0.02, drain_timeout=0.05) as (server, task):
        stream = asyncio.create_task(server.stream("Once", max_tokens=2000))
        whole = asyncio.create_task(server.post("/v1/completions", prompt="Once", max_tokens=2000))
        await all_run(server.engines[0], 2)
        os.kill(os.getpid(), signal.SIGTERM)
        events, (status, answer) = await stream, await whole
        await task

        assert (503, "draining") == (status, answer["error"]["code"])
        assert "draining" == events[-1]["error"]["code"]


async def test_engines_restart_under_load_without_a_failed_request(tmp_path) -> None:
    """One after the other, on SIGUSR1."""
    place = EnginePlace(arguments=("--null", "--null-step=5"))
    reference = NullEngine.start(str(tmp_path / "reference.sock"))
    async with running([place, place], [await reference]) as (server, _):
        replicas = server.gateway.engine.replicas
        count = 0
        has_restarted = asyncio.Event()

        async def ask() -> None:
            nonlocal count
            while not has_restarted.is_set():
                count += 1
                seed = count
                assert server.expected(f"Once {seed}", seed, 64) == await server.complete(
                    f"Once {seed}", seed=seed, max_tokens=64
                )

        async def connected(known: list[object]) -> list[object]:
            """Both engines' links, once neither is a known one."""
            while True:
                links = [replica.link for replica in replicas]
                if all(link is not None and link not in known for link in links):
                    return links
                await asyncio.sleep(0.01)

        clients = [asyncio.create_task(ask()) for _ in range(8)]
        first = await connected([])
        os.kill(os.getpid(), signal.SIGUSR1)
        await connected(first)
        has_restarted.set()
        await asyncio.gather(*clients)

        assert count > 8
    await server.engines[0].server.close()


async def test_an_engine_that_cannot_start_ends_the_gateway_with_a_line(tmp_path) -> None:
    """The engine has said why on its own."""
    try:
        async with running([EnginePlace(arguments=("--null", str(tmp_path)))], []):
            found = None
    except StartError as error:
        found = str(error)

    assert "" == found


async def test_an_engine_that_never_comes_back_is_given_up(tmp_path, monkeypatch) -> None:
    """After a few tries; with none left, the gateway ends with a line."""
    monkeypatch.setattr("outrider.gateway.replica.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("outrider.gateway.replica.MAX_STARTS", 2)
    folder = tmp_path / "model"
    folder.symlink_to(Path(__file__).parents[2] / "demo" / "target")
    async with running([EnginePlace(arguments=("--null", str(folder)))], []) as (server, task):
        folder.unlink()
        os.kill(server.gateway.engine.replicas[0]._process._process.pid, signal.SIGKILL)
        await asyncio.wait({task})

        assert "no engine is left, the last lines above may say why" == str(task.exception())
