"""Limits that several gateways share, on a real Redis that the test starts on a Unix socket."""

import asyncio
import shutil
import subprocess
import time

import pytest

from outrider.gateway.errors import ApiError
from outrider.gateway.limiter import Limiter
from outrider.gateway.limits import Claim, Cost, Kind, Limits
from outrider.gateway.meters import MetersLostError

redis_meters = pytest.importorskip("outrider.gateway.redis_meters", reason="the package redis is not installed")
SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed: apt-get install redis-server")


class RedisServer:
    """One server that keeps nothing on disk."""

    def __init__(self, folder) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        arguments = ("--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(folder))
        self.process = subprocess.Popen([SERVER, *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert any("accept connections" in line for line in self.process.stdout)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("r"))
    yield running
    running.stop()


@pytest.fixture
async def gateways(server):
    """Two limiters, as two gateways have them."""
    both = [Limiter(redis_meters.RedisMeters(server.url), "closed") for _ in range(2)]
    yield both
    for limiter in both:
        await limiter.close()


async def attempt(limiter: Limiter, limits: Limits, cost: Cost, used: Cost | None = None) -> bool:
    try:
        with limiter.lease([("global", limits)]) as lease:
            await lease.take(cost, "m")
            lease.used = used or cost
    except ApiError as error:
        assert 429 == error.status, error
        return False
    return True


async def test_two_gateways_admit_one_limit_together(gateways) -> None:
    """Exactly one limit's worth, and then what refills while they try."""
    limits = Limits(requests_per_minute=60)
    started = time.monotonic()

    passed = await asyncio.gather(*(attempt(gateways[i % 2], limits, Cost(1, 1)) for i in range(200)))
    refilled = int(time.monotonic() - started)

    assert 60 <= sum(passed) <= 60 + refilled


async def test_token_budgets_are_one_and_settle_across_gateways(gateways) -> None:
    """What one gives back, the other may take; what one overdraws, the other waits for."""
    limits = Limits(tokens_per_day=1000)
    first, second = gateways
    assert await attempt(first, limits, Cost(600, 400), used=Cost(300, 100))
    await asyncio.gather(*first._shared._tasks)

    assert await attempt(second, limits, Cost(500, 100), used=Cost(500, 400))
    await asyncio.gather(*second._shared._tasks)

    assert not await attempt(first, limits, Cost(1, 0))


async def test_leases_come_back_even_from_cancelled_requests(gateways) -> None:
    """Also where the script had run before the caller was gone."""
    limiter = gateways[0]
    limits = Limits(concurrency=10)

    async def request() -> None:
        with limiter.lease([("key:a", limits)]) as lease:
            await lease.take(Cost(1, 1), "m")
            await asyncio.sleep(60)

    for number in range(60):
        tasks = [asyncio.create_task(request()) for _ in range(10)]
        for _ in range(number % 20):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while limiter._shared._tasks:
            await asyncio.gather(*limiter._shared._tasks)

    decision = await limiter._shared.take([Claim("key:a", Kind.CONCURRENCY, 10, 1)], "last")
    assert 0 == decision.readings[0].used


async def test_retry_after_is_true_by_the_clock_of_redis(gateways) -> None:
    """A request sent after that passes, and not one much sooner."""
    meters = gateways[0]._shared
    claim = Claim("global", Kind.INPUT, 60_000, 60_000)
    await meters.take([claim], "a")
    small = Claim("global", Kind.INPUT, 60_000, 200)
    refused = await meters.take([small], "b")
    assert 0.1 < refused.retry_after <= 0.2

    await asyncio.sleep(refused.retry_after)

    assert (await meters.take([small], "c")).denied_by is None


async def test_a_dead_redis_is_told_as_such_and_its_return_is_noticed(server, gateways, monkeypatch) -> None:
    """No request hangs; what comes meanwhile degrades as configured."""
    limits = Limits(requests_per_minute=5)
    assert await attempt(gateways[0], limits, Cost(1, 1))
    server.stop()

    with pytest.raises(MetersLostError, match="Redis does not answer"):
        await gateways[1]._shared.take([Claim("global", Kind.REQUESTS, 5, 1)], "a")
    with pytest.raises(ApiError, match="cannot be checked") as caught:
        await gateways[0].lease([("global", limits)]).take(Cost(1, 1), "m")
    assert 503 == caught.value.status

    monkeypatch.setattr("outrider.gateway.limiter.RETRY_SECONDS", 0.0)
    gateways[0]._lost_until = 0.1
    server.path.unlink(missing_ok=True)
    server.__init__(server.path.parent)
    assert await attempt(gateways[0], limits, Cost(1, 1))
