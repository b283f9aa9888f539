"""Engines that die, stall or fail under running requests: the answers are those of engines that do not."""

import asyncio
import time

import pytest
from null_gateway import NullGateway, null_gateway, text_of

from outrider.gateway.config import GatewayConfig
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.tracing import Tracing

TOKENS = 80  # twenty steps


async def run_all(server: NullGateway, disturb, num_requests: int = 32, **body: object) -> list[str]:
    """Answers to many streams; `disturb` is called once all of them run."""
    tasks = [
        asyncio.create_task(server.stream(f"Once {index}", seed=index, max_tokens=TOKENS, **body))
        for index in range(num_requests)
    ]
    while sum(len(engine.core.request_ids) for engine in server.engines) < num_requests:
        assert not any(task.done() for task in tasks), "ended before all ran"
        await asyncio.sleep(0)
    await disturb()
    return [text_of(events) for events in await asyncio.gather(*tasks)]


def expected(server: NullGateway, num_requests: int = 32) -> list[str]:
    return [server.expected(f"Once {index}", index, TOKENS) for index in range(num_requests)]


def resumed(server: NullGateway, reason: str) -> float:
    """How often requests were moved, as `/metrics` says."""
    name = f'outrider_resumed_requests_total{{reason="{reason}"}} '
    lines = server.gateway.metrics.render("")[0].decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("num_engines", [1, 2])
async def test_streams_go_on_when_an_engine_is_lost(tmp_path, num_engines) -> None:
    """On the other one, or on the same once it is back; no token is lost or doubled."""
    async with null_gateway(tmp_path, num_engines=num_engines, step_seconds=0.01) as server:

        async def tear() -> None:
            server.engines[0].tear()

        found = await run_all(server, tear)

        assert expected(server) == found
        assert 32 / num_engines == resumed(server, "lost")


async def test_a_request_survives_three_losses_and_not_four(tmp_path) -> None:
    """What kills every engine it comes to is kept from the rest."""
    async with null_gateway(tmp_path, step_seconds=0.005) as server:
        texts = []
        for num_losses in (3, 4):
            task = asyncio.create_task(server.post("/v1/completions", prompt="Once", seed=1, max_tokens=TOKENS))
            last: list[str] = []
            for _ in range(num_losses):
                while server.engines[0].core.request_ids in ([], last):
                    await asyncio.sleep(0)
                last = server.engines[0].core.request_ids
                server.engines[0].tear()
            texts.append(await task)

        (first, whole), (second, error) = texts
        assert (200, server.expected("Once", 1, TOKENS)) == (first, whole["choices"][0]["text"])
        assert (503, True) == (second, "failed 4 times" in error["error"]["message"])


async def test_an_engine_that_says_nothing_is_given_up(tmp_path) -> None:
    """Its requests go on elsewhere long before it would answer."""
    config = GatewayConfig(stall_timeout=0.1)
    async with null_gateway(tmp_path, config, num_engines=2) as server:
        core = server.engines[0].core
        step, stuck = core.step, [True]

        def stall():
            if stuck.pop() if stuck else False:
                time.sleep(0.5)
            return step()

        core.step = stall
        found = await asyncio.gather(
            *(server.complete(f"Once {index}", seed=index, max_tokens=8) for index in range(4))
        )

        assert [server.expected(f"Once {index}", index, 8) for index in range(4)] == found
        assert resumed(server, "stalled") > 0


async def test_a_step_that_fails_is_no_failure_of_its_requests(tmp_path) -> None:
    """Another engine takes them over."""
    async with null_gateway(tmp_path, num_engines=2, step_seconds=0.01) as server:
        core = server.engines[0].core

        async def break_a_step() -> None:
            def fail():
                del core.step
                raise RuntimeError("broken on purpose")

            core.step = fail

        found = await run_all(server, break_a_step)

        assert expected(server) == found
        assert 16 == resumed(server, "fault")


async def test_a_grammar_goes_along(tmp_path) -> None:
    """The other engine has not met it."""
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    async with null_gateway(tmp_path, num_engines=2, step_seconds=0.01) as server:

        async def tear() -> None:
            server.engines[1].tear()

        assert expected(server, 4) == await run_all(server, tear, 4, response_format=schema)


async def test_log_probabilities_stay_one_for_each_token(tmp_path) -> None:
    """Those of tokens from before the loss and those from behind it."""
    async with null_gateway(tmp_path, step_seconds=0.01) as server:
        task = asyncio.create_task(server.stream("Once", seed=1, max_tokens=TOKENS, logprobs=0))
        while not server.engines[0].core.request_ids:
            await asyncio.sleep(0)
        server.engines[0].tear()
        events = await task

        assert TOKENS == sum(
            len(event["choices"][0]["logprobs"]["tokens"]) for event in events if event["choices"][0]["logprobs"]
        )


async def test_requests_that_begin_alike_share_an_engine(tmp_path) -> None:
    """The one that has computed their beginning."""
    async with null_gateway(tmp_path, num_engines=2) as server:
        beginnings = ["one two three " * 40, "four five six " * 40]
        for turn in range(6):
            for beginning in beginnings:
                await server.complete(f"{beginning}{turn}", max_tokens=1)
        steps = [engine.core.stats().total_steps for engine in server.engines]

        assert [6, 6] == steps


async def test_the_trace_tells_of_the_move(tmp_path) -> None:
    """From which engine, why and at which token."""
    path = tmp_path / "trace.jsonl"
    tracing = Tracing.from_environment(TraceOptions(trace_file=path))
    async with null_gateway(tmp_path, tracing=tracing, step_seconds=0.01) as server:

        async def tear() -> None:
            server.engines[0].tear()

        await run_all(server, tear, 1)
    await asyncio.to_thread(tracing.close)

    assert '"outrider.resumed"' in path.read_text()


async def test_no_engine_is_a_503_that_can_be_tried_again(tmp_path, monkeypatch) -> None:
    """After a short wait for one that may come back."""
    monkeypatch.setattr("outrider.gateway.replicas.NEW_REQUEST_SECONDS", 0.05)
    async with null_gateway(tmp_path) as server:
        server.engines[0].vanish()
        async with server.session.post(f"{server.url}/v1/completions", json={"model": "null", "prompt": "a"}) as answer:
            assert (503, "1") == (answer.status, answer.headers["Retry-After"])
