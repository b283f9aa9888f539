"""Meters in Redis, shared by all gateways that are given the same server. Time is the server's."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from outrider.gateway.limits import RATES, ROUNDING_SECONDS, Claim, Decision, Kind, Reading
from outrider.gateway.meters import MetersLostError

PREFIX = "{outrider}:"  # the braces keep all meters on one node of a cluster, as one script needs them
CONNECTIONS = 8
TIMEOUT_SECONDS = 1.0  # an answer that takes longer is none
LEASE_SECONDS = 60.0  # a gateway that dies holds its leases for so long
EPOCH = 1_767_225_600  # Unix time that meters count from, so that a double still tells nanoseconds apart

_CLOCK = """
local time = redis.call('TIME')
local wall = tonumber(time[1]) + tonumber(time[2]) / 1e6
local now = tonumber(time[1]) - tonumber(ARGV[2]) + tonumber(time[2]) / 1e6
local lease = ARGV[1]
local function set_rate(key, empty_at)
    if empty_at <= now then
        redis.call('DEL', key)
    else
        redis.call('SET', key, string.format('%.17g', empty_at), 'PX', math.ceil((empty_at - now) * 1000))
    end
end
"""

# ARGV: lease, EPOCH, LEASE_SECONDS, ROUNDING_SECONDS, then for each key: kind, limit, amount.
TAKE = (
    _CLOCK
    + """
local readings = {string.format('%.6f', wall)}
local fits = true
for i, key in ipairs(KEYS) do
    local kind, limit, amount = ARGV[3 * i + 2], tonumber(ARGV[3 * i + 3]), tonumber(ARGV[3 * i + 4])
    local used, slack = 0, 0
    if kind == 'rate' then
        local empty_at = tonumber(redis.call('GET', key) or now)
        used = math.max(0, empty_at - now) * limit / 60
        slack = tonumber(ARGV[4]) * limit / 60
    elseif kind == 'lease' then
        redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
        used = redis.call('ZCARD', key)
    else
        used = tonumber(redis.call('GET', key) or 0)
    end
    readings[i + 1] = string.format('%.17g', used)
    fits = fits and used + amount <= limit + slack
end
if fits then
    for i, key in ipairs(KEYS) do
        local kind, limit, amount = ARGV[3 * i + 2], tonumber(ARGV[3 * i + 3]), tonumber(ARGV[3 * i + 4])
        if kind == 'rate' then
            local empty_at = tonumber(redis.call('GET', key) or now)
            set_rate(key, math.max(empty_at, now) + amount * 60 / limit)
        elseif kind == 'lease' then
            redis.call('ZADD', key, now + tonumber(ARGV[3]), lease)
            redis.call('EXPIRE', key, math.ceil(2 * tonumber(ARGV[3])))
        else
            redis.call('INCRBY', key, amount)
            redis.call('EXPIRE', key, 172800)
        end
    end
end
return readings
"""
)

# ARGV: lease, EPOCH, then for each key: kind, limit, change.
CORRECT = (
    _CLOCK
    + """
for i, key in ipairs(KEYS) do
    local kind, limit, change = ARGV[3 * i], tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
    if kind == 'rate' then
        local empty_at = tonumber(redis.call('GET', key) or now)
        set_rate(key, math.max(empty_at, now) + change * 60 / limit)
    elseif kind == 'lease' then
        redis.call('ZREM', key, lease)
    elseif redis.call('EXISTS', key) == 1 then
        redis.call('INCRBY', key, change)
    end
end
"""
)

# ARGV: EPOCH, LEASE_SECONDS, then the leases, one for each key.
RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) - tonumber(ARGV[1]) + tonumber(time[2]) / 1e6
for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, 'XX', now + tonumber(ARGV[2]), ARGV[i + 2])
    redis.call('EXPIRE', key, math.ceil(2 * tonumber(ARGV[2])))
end
"""


class RedisMeters:
    """One gateway's connection to the shared meters."""

    def __init__(self, url: str) -> None:
        # Each new connection costs a round trip and more, so a crowd shares a few.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=5 * TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
        self._redis = Redis.from_pool(pool)
        self._take = self._redis.register_script(TAKE)
        self._correct = self._redis.register_script(CORRECT)
        self._renew = self._redis.register_script(RENEW)
        self._held: dict[str, list[str]] = {}  # leases of ours, and the meters that they are on
        self._tasks: set[asyncio.Task[None]] = set()  # nobody waits for these
        self._renewal: asyncio.Task[None] | None = None

    async def take(self, claims: Sequence[Claim], lease: str) -> Decision:
        """Takes all of the claims or none."""
        self._renewal = self._renewal or asyncio.create_task(self._renew_leases())
        asking = asyncio.create_task(self._ask(claims, lease))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._start(self._give_back(asking, claims, lease))  # the server may have taken it already
            raise

    def correct(self, changes: Iterable[tuple[Claim, int]], lease: str) -> None:
        """Raises each meter by so many units, a little later; if Redis is gone, it is lost with the meters."""
        self._held.pop(lease, None)
        self._start(self._send(list(changes), lease))

    async def close(self) -> None:
        """Sends what is under way and closes the connections."""
        if self._renewal is not None:
            self._renewal.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    async def _ask(self, claims: Sequence[Claim], lease: str) -> Decision:
        arguments = [part for claim in claims for part in (_kind(claim), claim.limit, claim.amount)]
        try:
            wall, *used = await self._take(
                [PREFIX + claim.meter for claim in claims],
                [lease, EPOCH, LEASE_SECONDS, ROUNDING_SECONDS, *arguments],
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise MetersLostError(f"Redis does not answer: {error}") from error
        readings = tuple(Reading(claim, float(one)) for claim, one in zip(claims, used, strict=True))
        decision = Decision(readings, float(wall))
        meters = [PREFIX + claim.meter for claim in claims if _kind(claim) == "lease"]
        if decision.denied_by is None and meters:
            self._held[lease] = meters
        return decision

    async def _give_back(self, asking: "asyncio.Task[Decision]", claims: Sequence[Claim], lease: str) -> None:
        with contextlib.suppress(MetersLostError):
            if (await asking).denied_by is None:
                self._held.pop(lease, None)
                await self._send([(claim, -claim.amount) for claim in claims], lease)

    async def _send(self, changes: list[tuple[Claim, int]], lease: str) -> None:
        arguments = [part for claim, change in changes for part in (_kind(claim), claim.limit, change)]
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self._correct([PREFIX + claim.meter for claim, _ in changes], [lease, EPOCH, *arguments])

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            held = [(meter, lease) for lease, meters in self._held.items() for meter in meters]
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                if held:
                    leases = [lease for _, lease in held]
                    await self._renew([meter for meter, _ in held], [EPOCH, LEASE_SECONDS, *leases])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _kind(claim: Claim) -> str:
    """As the scripts know it."""
    return "rate" if claim.kind in RATES else "lease" if claim.kind is Kind.CONCURRENCY else "budget"
