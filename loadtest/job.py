"""A request, or a conversation, as the load generator holds it: bytes ready to send. Pure."""

from dataclasses import dataclass, field, replace

import msgspec


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says next, so many seconds after the last answer has ended."""

    text: str
    think_time: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`offset` is the arrival in seconds from the start of the run; in a closed loop it says nothing.

    `headers` go with its requests alone. `turns` follow on the first answer, each with all that was said before.
    """

    body: bytes
    index: int = 0
    offset: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    is_warmup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One process's share of a load; travels between processes.

    A closed loop has so many users who take the next job when they are free; otherwise jobs become due at their
    offsets. None for `max_concurrency` is no limit.
    """

    url: str
    jobs: tuple[Job, ...]
    is_closed_loop: bool = False
    max_concurrency: int | None = None
    api_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    is_insecure: bool = False

    def shares(self, number: int) -> list["Offer"]:
        """Split over at most so many processes: jobs in turn, slots evenly."""
        most = self.max_concurrency
        number = min(number, len(self.jobs), len(self.jobs) if most is None else most)
        return [
            replace(
                self,
                jobs=self.jobs[each::number],
                max_concurrency=None if most is None else most // number + (each < most % number),
            )
            for each in range(number)
        ]


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that shows the key; none without one."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def next_body(body: bytes, answer: str, text: str) -> bytes:
    """The request that follows: the same with the answer and the user's next text behind its messages."""
    fields = msgspec.json.decode(body)
    fields["messages"] += [{"role": "assistant", "content": answer}, {"role": "user", "content": text}]
    return msgspec.json.encode(fields)
