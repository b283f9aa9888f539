"""What is known of one request after it has ended: plain data that the client writes and the statistics read.

All times are seconds of one monotonic clock, which all processes of a run share.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a request has no answer; each is counted apart."""

    RATE_LIMITED = "rate_limited"
    """429: the server protected itself, which is neither a success nor a fault."""
    REJECTED = "rejected"
    """Any other 4xx, or a 3xx."""
    SERVER_ERROR = "server_error"
    """5xx."""
    STREAM_ERROR = "stream_error"
    """An error event, or something that is no event, in mid-stream."""
    INCOMPLETE = "incomplete"
    """The stream ended in good order but without a finish reason or [DONE]."""
    CONNECTION = "connection"
    """Refused, reset, dropped in mid-stream."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The message is one line."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the answer that carries content, reasoning or a tool call."""

    received: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Speculation:
    """The counts that the server reports for one request, or their sums.

    `histogram[j]` are the verified steps that accepted j drafted tokens; empty where the server does not tell.
    """

    num_draft_tokens: int
    num_accepted_draft_tokens: int
    num_spec_steps: int
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text that the model wrote, JSON if all is well."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer.

    `ended` is the arrival of the last chunk that has choices, as in vLLM: not of the usage chunk or `[DONE]`.
    `num_coalesced` counts chunks that were read together with an earlier one and so share its time. `origins` counts
    tokens by the proposer that drafted them, and `server_queue` is the server's own queue in seconds, where it tells.
    """

    chunks: tuple[Chunk, ...]
    ended: float
    num_prompt_tokens: int
    num_output_tokens: int
    has_usage: bool
    num_coalesced: int
    speculation: Speculation | None
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    is_refusal: bool = False
    finish_reason: str | None = None
    num_cached_tokens: int = 0
    origins: dict[str, int] = field(default_factory=dict)
    server_queue: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request. `due <= dispatched <= sent <= ended`.

    `due` is its intended start: its arrival time, or in a closed loop the moment its user became free. `dispatched` is
    when the client turned to it, `sent` when it had a slot under the concurrency limit and was about to be written,
    `ended` when nothing more was to be read. `index` is the number of its sample, `turn` counts the requests of a
    conversation from 0.
    """

    due: float
    dispatched: float
    sent: float
    ended: float
    outcome: Answer | Failure
    index: int = 0
    turn: int = 0
    is_warmup: bool = False
