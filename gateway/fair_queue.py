"""Who waits before the engine, and whose turn is next. Pure: time is an argument, in monotonic seconds.

Better priorities come first (lower values), and every `aging_seconds` of waiting count as one step better, so that
nobody waits for ever. Within a priority, the tenant that was served the fewest tokens is next: a virtual token counter,
in which an answer's token weighs two of the prompt. A tenant that comes back is lifted to the least served one that is
there, so that nobody saves up turns. Within a tenant, the request that must begin first is next.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field

OUTPUT_WEIGHT = 2


def _none_yet() -> int:
    return 0


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place. Written by the queue; only `count_output_tokens` by who runs the request."""

    tenant: str
    priority: int
    num_prompt_tokens: int
    num_answers: int  # sequences of the engine that it takes
    arrived: float
    expires: float  # when it has waited too long
    count_output_tokens: Callable[[], int] = _none_yet  # those that were made so far
    number: int = field(default=0, init=False)  # in the order of arrival
    is_waiting: bool = field(default=False, init=False)
    is_running: bool = field(default=False, init=False)

    @property
    def order(self) -> tuple[float, int]:
        """Among its tenant's requests of the same priority."""
        return self.expires, self.number


@dataclass(slots=True)
class _Tenant:
    counter: float = 0.0  # of requests that ended, and of the prompts of those that run
    last_turn: int = 0
    num_waiting: int = 0
    running: set[Ticket] = field(default_factory=set)

    @property
    def is_active(self) -> bool:
        return self.num_waiting > 0 or bool(self.running)

    @property
    def served(self) -> float:
        """Weighted tokens, those of running answers included."""
        return self.counter + OUTPUT_WEIGHT * sum(ticket.count_output_tokens() for ticket in self.running)


class FairQueue:
    """The requests that wait, at most so many and with so many prompt tokens."""

    def __init__(self, max_requests: int, max_tokens: int, aging_seconds: float) -> None:
        self.num_waiting = 0
        self.num_tokens = 0  # of their prompts
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._aging_seconds = aging_seconds
        self._tenants: dict[str, _Tenant] = {}
        self._groups: dict[tuple[int, str], list[Ticket]] = {}  # by priority and tenant, each in order; none is empty
        self._num_tickets = 0
        self._num_turns = 0

    def push(self, ticket: Ticket) -> Ticket | None:
        """Lets a request wait; returns who has to leave for want of room, None where there is some.

        That is the request itself, or the newest of the tenant that has the most requests here, if it has more of them.
        """
        tenant = self._tenant(ticket.tenant)
        self._num_tickets += 1
        ticket.number = self._num_tickets
        self._add(ticket, tenant)
        if self.num_waiting <= self._max_requests and self.num_tokens <= self._max_tokens:
            return None
        largest = max(self._tenants, key=lambda name: self._tenants[name].num_waiting)
        leaves = ticket
        if self.num_waiting > self._max_requests and self._tenants[largest].num_waiting > tenant.num_waiting:
            leaves = max((group[-1] for (_, name), group in self._groups.items() if name == largest), key=_number)
        self.remove(leaves)
        return leaves

    def remove(self, ticket: Ticket) -> None:
        """Takes a waiting request out, whatever for."""
        ticket.is_waiting = False
        group = self._groups[ticket.priority, ticket.tenant]
        del group[bisect_left(group, ticket.order, key=_order)]
        if not group:
            del self._groups[ticket.priority, ticket.tenant]
        self.num_waiting -= 1
        self.num_tokens -= ticket.num_prompt_tokens
        self._tenants[ticket.tenant].num_waiting -= 1
        self._forget_all_if_idle()

    def next(self, now: float) -> Ticket | None:
        """Whose turn it is; None when nobody waits who has not waited too long."""
        heads = [head for group in self._groups.values() if (head := _first_alive(group, now)) is not None]
        return min(heads, key=lambda ticket: self._rank(ticket, now), default=None)

    def start(self, ticket: Ticket) -> None:
        """The turn of a request begins, whether it waited or there was room at once."""
        tenant = self._tenant(ticket.tenant)
        ticket.is_running = True
        tenant.running.add(ticket)
        tenant.counter += ticket.num_prompt_tokens
        self._num_turns += 1
        tenant.last_turn = self._num_turns
        if ticket.is_waiting:
            self.remove(ticket)

    def finish(self, ticket: Ticket) -> None:
        """A request that had its turn has ended."""
        tenant = self._tenants[ticket.tenant]
        ticket.is_running = False
        tenant.running.discard(ticket)
        tenant.counter += OUTPUT_WEIGHT * ticket.count_output_tokens()
        self._forget_all_if_idle()

    def num_ahead(self, ticket: Ticket, now: float) -> int:
        """How many presumably come before a waiting request, if tenants take turns and none arrives."""
        band = self._band(ticket, now)
        own = bisect_left(self._groups[ticket.priority, ticket.tenant], ticket.order, key=_order)
        ahead = own
        for (_, tenant), group in self._groups.items():
            other = self._band(group[0], now)
            if other < band:
                ahead += len(group)
            elif other == band and tenant != ticket.tenant:
                ahead += min(len(group), own + 1)
        return ahead

    def _rank(self, ticket: Ticket, now: float) -> tuple[int, float, int, tuple[float, int]]:
        tenant = self._tenants[ticket.tenant]
        return self._band(ticket, now), tenant.served, tenant.last_turn, ticket.order

    def _band(self, ticket: Ticket, now: float) -> int:
        return ticket.priority - int((now - ticket.arrived) / self._aging_seconds)

    def _add(self, ticket: Ticket, tenant: _Tenant) -> None:
        ticket.is_waiting = True
        insort(self._groups.setdefault((ticket.priority, ticket.tenant), []), ticket, key=_order)
        tenant.num_waiting += 1
        self.num_waiting += 1
        self.num_tokens += ticket.num_prompt_tokens

    def _tenant(self, name: str) -> _Tenant:
        """What is known of a tenant, lifted if it was away."""
        tenant = self._tenants.setdefault(name, _Tenant())
        if not tenant.is_active:
            least = min((other.served for other in self._tenants.values() if other.is_active), default=0.0)
            tenant.counter = max(tenant.counter, least)
        return tenant

    def _forget_all_if_idle(self) -> None:
        """Where nobody is left, nobody is owed anything."""
        if not any(tenant.is_active for tenant in self._tenants.values()):
            self._tenants.clear()


def _order(ticket: Ticket) -> tuple[float, int]:
    return ticket.order


def _number(ticket: Ticket) -> int:
    return ticket.number


def _first_alive(group: list[Ticket], now: float) -> Ticket | None:
    return next((ticket for ticket in group if ticket.expires > now), None)
