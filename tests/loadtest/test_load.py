"""The load on a real socket. Times have lower bounds from the script; upper bounds would test the machine."""

import asyncio
import math
from dataclasses import replace

import pytest

from outrider.loadtest.client import clock, open_session
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.load import Recorder, offer_load
from outrider.loadtest.measure import Summary, summarize
from outrider.loadtest.record import FailureKind

from .simulated_server import Script, SimulatedServer

BODY = b'{"messages": []}'
CONFIG = LoadtestConfig(base_url="http://127.0.0.1:8000")


async def measure(server: SimulatedServer, num_requests: int, **options: object) -> Summary:
    recorder = Recorder(lambda _: None)
    async with open_session(None) as session:
        config = replace(CONFIG, base_url=server.url, **options)
        await offer_load(config, session, [BODY] * num_requests, recorder)
    return summarize(recorder.measurement(), [50, 90])


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions"])
async def test_scripted_delays_are_measured(endpoint: str) -> None:
    """60 ms to the first chunk, then five chunks of three tokens 30 ms apart."""
    script = Script(chunks=[(0.06, 1)] + [(0.03, 3)] * 5)
    async with SimulatedServer([script]).running() as server:
        summary = await measure(server, 4, endpoint=endpoint, max_concurrency=1)
    latencies = summary.latencies

    assert (4, 0) == (summary.num_completed, summary.num_failed)
    assert (28, 64) == (summary.num_input_tokens, summary.num_output_tokens)
    assert 0.055 < latencies["ttft"].median < 0.2
    assert 0.027 < latencies["icl"].mean < 0.1
    assert latencies["itl"].mean == pytest.approx(latencies["icl"].mean / 3)
    assert 0.009 < latencies["tpot"].mean < 0.035
    assert 0.2 < latencies["e2el"].median < 0.7


async def test_a_stall_shows_in_the_high_percentiles() -> None:
    """One gap in twenty is 300 ms."""
    script = Script(chunks=[(0.002, 1)] * 10 + [(0.3, 1)] + [(0.002, 1)] * 10)
    async with SimulatedServer([script]).running() as server:
        itl = (await measure(server, 2, max_concurrency=2)).latencies["itl"]

    assert itl.median < 0.1
    assert itl.percentiles[99] >= 0.25


async def test_a_closed_loop_keeps_its_users_busy() -> None:
    """Never more under way than users, and never fewer while requests remain."""
    async with SimulatedServer([Script(chunks=[(0.03, 1)])]).running() as server:
        summary = await measure(server, 12, max_concurrency=3)

    assert (3, 3) == (server.peak_concurrency, summary.max_concurrent_requests)
    assert summary.latencies["client_queue_time"].median < 0.02


async def test_without_limits_everything_is_sent_at_once() -> None:
    """An infinite rate is a burst."""
    async with SimulatedServer([Script(chunks=[(0.3, 1)])]).running() as server:
        await measure(server, 20)

    assert server.peak_concurrency == 20


async def test_an_open_loop_does_not_omit_the_queue() -> None:
    """At 200 a second, one slot of 20 ms serves 50: the last of 20 waits some 300 ms, however fast the service."""
    async with SimulatedServer([Script(chunks=[(0.02, 1)])]).running() as server:
        latencies = (await measure(server, 20, request_rate=200.0, max_concurrency=1)).latencies

    assert server.peak_concurrency == 1
    assert latencies["e2el"].median < 0.1
    assert latencies["e2el_including_client_queue"].percentiles[99] > 0.2
    assert latencies["e2el_including_client_queue"].mean == pytest.approx(
        latencies["client_queue_time"].mean + latencies["e2el"].mean
    )


async def test_an_open_loop_sends_when_due() -> None:
    """The slow answers of a server hold nothing up: ten requests start within their schedule."""
    async with SimulatedServer([Script(chunks=[(0.5, 1)])]).running() as server:
        summary = await measure(server, 10, request_rate=100.0)

    assert summary.duration < 2.0
    assert summary.max_concurrent_requests > 1


async def test_failures_are_told_apart() -> None:
    """Each way to fail is counted under its own name and is infinite for the user."""
    scripts = [
        Script(),
        Script(status=429),
        Script(status=400),
        Script(status=503),
        Script(drop_after=1),
        Script(error_after=1),
    ]
    async with SimulatedServer(scripts).running() as server:
        summary = await measure(server, 12, max_concurrency=2)

    assert summary.num_completed == 2
    assert summary.failures == dict.fromkeys(
        [
            FailureKind.RATE_LIMITED,
            FailureKind.REJECTED,
            FailureKind.SERVER_ERROR,
            FailureKind.CONNECTION,
            FailureKind.STREAM_ERROR,
        ],
        2,
    )
    assert summary.latencies["e2el_including_client_queue"].median == math.inf
    assert summary.latencies["e2el"].count == 2


async def test_a_server_that_is_gone_fails_every_request() -> None:
    """The run ends all the same."""
    async with SimulatedServer().running() as server:
        pass
    summary = await measure(server, 3, max_concurrency=1)

    assert {FailureKind.CONNECTION: 3} == summary.failures


async def test_a_cancelled_load_leaves_a_partial_measurement() -> None:
    """Two answers are quick and the rest never come."""
    scripts = [Script(), Script(), *[Script(chunks=[(3600, 1)])] * 8]
    recorder = Recorder(lambda _: None)
    async with SimulatedServer(scripts).running() as server, open_session(None) as session:
        config = replace(CONFIG, base_url=server.url, max_concurrency=4)
        load = asyncio.ensure_future(offer_load(config, session, [BODY] * 10, recorder))
        await server.has_received(6)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
    measurement = recorder.measurement()

    assert (2, 4) == (len(measurement.records), measurement.num_unfinished)


async def test_a_blocked_event_loop_is_noticed() -> None:
    """The client measures its own lag while it measures the server."""
    recorder = Recorder(lambda _: block(0.1))
    async with SimulatedServer([Script(chunks=[(0.02, 1)])]).running() as server, open_session(None) as session:
        await offer_load(replace(CONFIG, base_url=server.url, max_concurrency=1), session, [BODY] * 4, recorder)

    assert summarize(recorder.measurement(), []).is_client_limited


def block(seconds: float) -> None:
    end = clock() + seconds
    while clock() < end:
        pass
