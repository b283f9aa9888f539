"""The load on a real socket. Times have lower bounds from the script; upper bounds would test the machine."""

import asyncio
import math

import pytest

from outrider.loadtest.client import clock
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.health import faults
from outrider.loadtest.job import Job, Offer, Turn
from outrider.loadtest.load import LOST_AFTER, Recorder, offer_load
from outrider.loadtest.measure import Summary, summarize
from outrider.loadtest.record import Failure, FailureKind, Record
from outrider.loadtest.workload import load_workload, make_offer

from .simulated_server import Script, SimulatedServer

BODY = b'{"messages": []}'


def offer(server: SimulatedServer, num_requests: int, **options: object) -> Offer:
    config = LoadtestConfig(base_url=server.url, num_prompts=num_requests, random_input_len=1, **options)
    return make_offer(config, load_workload(config), "simulated", None)


async def records(offered: Offer) -> tuple[Record, ...]:
    recorder = Recorder(lambda _: None)
    await offer_load(offered, recorder)
    return recorder.measurement().records


async def measure(server: SimulatedServer, num_requests: int, **options: object) -> Summary:
    recorder = Recorder(lambda _: None)
    await offer_load(offer(server, num_requests, **options), recorder)
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
    async with SimulatedServer(scripts).running() as server:
        load = asyncio.ensure_future(offer_load(offer(server, 10, max_concurrency=4), recorder))
        await server.has_received(6)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
    measurement = recorder.measurement()

    assert (2, 4) == (len(measurement.records), measurement.num_unfinished)


async def test_a_blocked_event_loop_is_noticed() -> None:
    """The client measures its own lag while it measures the server."""
    recorder = Recorder(lambda _: block(0.1))
    async with SimulatedServer([Script(chunks=[(0.02, 1)])]).running() as server:
        await offer_load(offer(server, 4, max_concurrency=1), recorder)

    assert any(
        "event loop lagged" in fault for fault in faults(summarize(recorder.measurement(), []), has_schedule=False)
    )


async def test_a_conversation_carries_what_was_said() -> None:
    """The second turn is due when the user has thought, and brings the first answer back."""
    job = Job(body=b'{"messages": [{"role": "user", "content": "A"}]}', turns=(Turn("B", 0.05), Turn("C")))
    async with SimulatedServer([Script(chunks=[(0.0, 1)])]).running() as server:
        offered = Offer(url=f"{server.url}/v1/chat/completions", jobs=(job,), is_closed_loop=True, max_concurrency=1)
        first, second, third = await records(offered)
    said = [message["content"] for message in server.requests[-1]["messages"]]

    assert ["A", "word ", "B", "word ", "C"] == said
    assert [0, 1, 2] == [first.turn, second.turn, third.turn]
    assert second.due - first.ended == pytest.approx(0.05, abs=0.005)


async def test_a_user_leaves_after_a_failure() -> None:
    """There is no answer to go on from."""
    job = Job(body=b'{"messages": []}', turns=(Turn("B"),))
    async with SimulatedServer([Script(status=500)]).running() as server:
        offered = Offer(url=f"{server.url}/v1/chat/completions", jobs=(job,), is_closed_loop=True, max_concurrency=1)
        (only,) = await records(offered)

    assert isinstance(only.outcome, Failure)


async def test_warm_ups_run_into_the_measured_requests() -> None:
    """No drain between them: the users of the last warm-ups take measured requests while others are still warm."""
    scripts = [Script(chunks=[(0.02, 1)]), Script(chunks=[(0.2, 1)])]
    async with SimulatedServer(scripts).running() as server:
        found = await records(offer(server, 4, num_warmups=2, max_concurrency=2))
    slow = next(record for record in found if record.index == 1)
    measured = [record for record in found if not record.is_warmup]

    assert (2, 4) == (len(found) - len(measured), len(measured))
    assert min(record.sent for record in measured) < slow.ended


async def test_each_request_shows_its_own_key() -> None:
    """Drawn by weight, for servers that limit or rank by key."""
    jobs = tuple(Job(body=BODY, headers={"Authorization": f"Bearer {key}"}) for key in ("a", "b"))
    async with SimulatedServer().running() as server:
        await records(Offer(url=f"{server.url}/v1/chat/completions", jobs=jobs, api_key="c"))

    assert {"Bearer a", "Bearer b"} == set(server.authorizations)


async def test_a_server_that_dies_ends_the_load_early() -> None:
    """Hundreds of refused connections would tell nothing more."""
    scripts = [*[Script()] * 5, Script(drop_after=0)]
    async with SimulatedServer(scripts, keeps_last=True).running() as server:
        recorder = Recorder(lambda _: None)
        await offer_load(offer(server, 200, max_concurrency=1), recorder)
    measurement = recorder.measurement()

    assert measurement.has_lost_server
    assert len(measurement.records) == 5 + LOST_AFTER


def block(seconds: float) -> None:
    end = clock() + seconds
    while clock() < end:
        pass
