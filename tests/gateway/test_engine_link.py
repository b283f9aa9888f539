"""The gateway's end of the engine's WebSocket, against a scripted engine on a real Unix socket."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
from aiohttp import web

from outrider.engine import protocol
from outrider.engine.protocol import (
    Abort,
    Command,
    EngineStats,
    FinishReason,
    Hello,
    LoadGrammar,
    SamplingParams,
    StepOutputs,
    Submit,
    TokenDelta,
)
from outrider.gateway.engine_link import EngineFailedError, EngineLink, Failure
from outrider.gateway.errors import ApiError
from outrider.structured.constraint import CompiledGrammar

HELLO = Hello("folder", 10, 100, (1,), {}, ("ngram",), 8, ("off",))
STATS = EngineStats(0, 0, 4, 0, 0, 0.0, 0, 0, {}, {}, {}, {}, {}, 0, 0)
GRAMMAR = CompiledGrammar(key="g", backend="xgrammar", data=b"{}")
SUBMIT = Submit(request_id="r", prompt_ids=[1], params=SamplingParams(seed=0, max_tokens=4), grammar_key="g")
LAST = TokenDelta("r", [3], finish_reason=FinishReason.STOP)

Script = Callable[[web.WebSocketResponse, Command], Awaitable[None]]


class ScriptedEngine:
    """Greets, records every command, and answers each by the script."""

    def __init__(self, script: Script) -> None:
        self.commands: list[Command] = []
        self._script = script

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_bytes(protocol.encode(HELLO))
        async for message in websocket:
            self.commands.append(protocol.decode_command(message.data))
            await self._script(websocket, self.commands[-1])
        return websocket


@pytest.fixture
async def linked(tmp_path):
    """Starts a scripted engine and links to it."""
    opened = []

    async def start(script: Script) -> tuple[ScriptedEngine, EngineLink]:
        engine = ScriptedEngine(script)
        app = web.Application()
        app.router.add_get("/engine", engine.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        path = str(tmp_path / "engine.sock")
        await web.UnixSite(runner, path).start()
        link = await EngineLink.connect(path)
        opened.append((link, runner))
        return engine, link

    yield start
    for link, runner in opened:
        await link.close()
        await runner.cleanup()


async def send(websocket: web.WebSocketResponse, *deltas: TokenDelta) -> None:
    await websocket.send_bytes(protocol.encode(StepOutputs(list(deltas), STATS)))


async def collect(link: EngineLink, submit: Submit = SUBMIT) -> list[TokenDelta]:
    return [delta async for delta in link.generate(submit, GRAMMAR)]


async def test_deltas_reach_the_request_they_are_for(linked) -> None:
    """Others' are left alone, and the iterator ends with the finish reason."""

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            await send(websocket, TokenDelta("other", [9]), TokenDelta("r", [2]))
            await send(websocket, LAST)

    _, link = await linked(script)

    assert [TokenDelta("r", [2]), LAST] == await collect(link)


async def test_a_grammar_is_sent_once_and_before_its_request(linked) -> None:
    """The second request names it and does not carry it."""

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            await send(websocket, LAST)

    engine, link = await linked(script)
    await collect(link)
    await collect(link)

    assert [LoadGrammar, Submit, Submit] == [type(command) for command in engine.commands]


async def test_a_grammar_that_the_engine_gave_up_is_sent_again(linked) -> None:
    """The request goes on as if nothing had been."""
    answers = iter(
        [TokenDelta("r", [], finish_reason=FinishReason.ERROR, error="not loaded", needs_grammar=True), LAST]
    )

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            await send(websocket, next(answers))

    engine, link = await linked(script)

    assert [LAST] == await collect(link)
    assert [LoadGrammar, Submit] * 2 == [type(command) for command in engine.commands]


async def test_a_grammar_that_never_loads_fails_its_request(linked) -> None:
    """One more try, and not an endless loop."""

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            missing = TokenDelta("r", [], finish_reason=FinishReason.ERROR, error="not loaded", needs_grammar=True)
            await send(websocket, missing)

    engine, link = await linked(script)

    with pytest.raises(ApiError, match="not loaded"):
        await collect(link)
    assert [LoadGrammar, Submit] * 2 == [type(command) for command in engine.commands]


async def test_leaving_early_aborts_the_request(linked) -> None:
    """The engine hears of it without the caller waiting."""
    aborted: list[Command] = []

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            await send(websocket, TokenDelta("r", [2]))
        if isinstance(command, Abort):
            aborted.append(command)
            await send(websocket, TokenDelta("r2", [], finish_reason=FinishReason.STOP))

    _, link = await linked(script)
    async with aclosing(link.generate(SUBMIT, None)) as deltas:
        await anext(deltas)
    # The answer to the abort ends this second request, so that there is nothing to wait for blindly.
    second = Submit(request_id="r2", prompt_ids=[1], params=SUBMIT.params)
    async for delta in link.generate(second, None):
        assert delta.request_id == "r2"

    assert [Abort("r")] == aborted


async def test_a_request_that_the_engine_fails_raises_its_reason(linked) -> None:
    """As a 500 whose text says why."""

    async def script(websocket, command) -> None:
        if isinstance(command, Submit):
            await send(websocket, TokenDelta("r", [], finish_reason=FinishReason.ERROR, error="it broke"))

    _, link = await linked(script)

    with pytest.raises(ApiError, match="it broke") as caught:
        await collect(link)
    assert 500 == caught.value.status


async def test_a_lost_engine_fails_every_request(linked) -> None:
    """Those that run and those that come."""

    async def script(websocket, command) -> None:
        await websocket.close()

    _, link = await linked(script)

    for _ in range(2):
        with pytest.raises(EngineFailedError) as caught:
            await collect(link)
        assert Failure.LOST is caught.value.failure
    await link.wait_lost()
    assert not link.is_connected


async def test_nobody_there_is_an_oserror(tmp_path) -> None:
    """The caller turns it into one line."""
    with pytest.raises(OSError, match="no engine answers"):
        await EngineLink.connect(str(tmp_path / "none.sock"))
