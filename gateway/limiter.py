"""Leases: what a running request holds of its limits, and how it is given back."""

import logging
import secrets
import time
from collections.abc import Sequence
from types import TracebackType

from outrider.gateway.errors import rate_limited, unavailable
from outrider.gateway.limits import NOTHING, Claim, Cost, Decision, Kind, Limits, claims, corrections, merged
from outrider.gateway.meters import MemoryMeters, Meters, MetersLostError

logger = logging.getLogger("outrider.gateway")

RETRY_SECONDS = 1.0  # how long meters that failed are left alone


class Limiter:
    """Decides by the meters; by those in memory, or in another way, while shared ones cannot be reached.

    Args:
        shared: meters of several gateways; None counts in memory alone
        when_lost: what holds meanwhile: "open" lets all pass, "closed" none, "local" counts here
    """

    def __init__(self, shared: Meters | None = None, when_lost: str = "local") -> None:
        self.local = MemoryMeters()
        self._shared = shared
        self._when_lost = when_lost
        self._lost_until = 0.0  # monotonic seconds; 0 while the shared meters answer

    def lease(self, scopes: Sequence[tuple[str, Limits]]) -> "Lease":
        """What a request will hold of the limits of these scopes; nothing yet."""
        return Lease(self, scopes)

    async def take(self, wanted: Sequence[Claim], lease: str) -> tuple[Decision, Meters | None]:
        """Takes the claims, and tells whose meters counted them.

        Raises:
            ApiError: 503, the shared meters are lost and nothing may pass without them.
        """
        if not wanted:
            return Decision((), 0.0), None
        if self._shared is not None and time.monotonic() >= self._lost_until:
            try:
                decision = await self._shared.take(wanted, lease)
            except MetersLostError as error:
                if not self._lost_until:
                    logger.error(
                        "the shared limits are lost, so limits are %s until they answer: %s", self._when_lost, error
                    )
                self._lost_until = time.monotonic() + RETRY_SECONDS
            else:
                if self._lost_until:
                    logger.warning("the shared limits answer again")
                self._lost_until = 0.0
                return decision, self._shared
        if self._shared is None or self._when_lost == "local":
            return await self.local.take(wanted, lease), self.local
        if self._when_lost == "closed":
            raise unavailable("The limits cannot be checked at present: send the request again later")
        return Decision((), 0.0), None

    async def close(self) -> None:
        """Ends what runs behind the meters."""
        if self._shared is not None:
            await self._shared.close()


class Lease:
    """One request's hold on its limits, as a context manager: whatever way it is left, all that is unused goes back.

    `used` is what the request has cost when it is left; nothing until it is said.
    """

    def __init__(self, limiter: Limiter, scopes: Sequence[tuple[str, Limits]]) -> None:
        self.used = NOTHING
        self.num_requests = 0  # that it counts as, so far
        self._limiter = limiter
        self._scopes = scopes
        self._id = secrets.token_hex(8)
        self._taken: tuple[Claim, ...] = ()
        self._meters: Meters | None = None  # that counted what was taken

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        taken, self._taken = self._taken, ()
        if self._meters is not None:  # no await: a cancelled request must not keep what it holds
            self._meters.correct(corrections(taken, self.used), self._id)

    async def take(self, cost: Cost, model: str) -> dict[str, str]:
        """Takes what a request will presumably cost, and when called again what it costs more; the rate headers.

        Raises:
            ApiError: 429, a limit refuses it; nothing is held then.
        """
        wanted = claims(self._scopes, cost, time.time())
        if self.num_requests:
            wanted = [claim for claim in wanted if claim.kind is not Kind.CONCURRENCY]  # it runs already
        decision, meters = await self._limiter.take(wanted, self._id)
        headers = decision.headers()
        if decision.denied_by is not None:
            raise rate_limited(decision, model, headers)
        self.num_requests += cost.requests
        if self._meters is None or meters is self._meters:  # what others counted meanwhile stays with them
            self._taken, self._meters = merged(self._taken, wanted), meters
        return headers
