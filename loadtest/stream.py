"""Reads a streamed answer after it has ended: server-sent events to an Answer. Pure; knows nothing of sockets.

Reads are stamped as they come and parsed here afterwards, so that no chunk waits for another to be parsed.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Speculation, ToolCall


@dataclass(frozen=True, slots=True)
class Read:
    """What one read of the socket returned, and when."""

    received: float
    data: bytes


def parse_stream(reads: Sequence[Read]) -> Answer | Failure:
    """The answer, if the stream is complete; see `tokens_per_chunk` for how tokens are counted.

    Where the server sends no usage at all, each chunk counts as one token and `has_usage` is false.
    """
    lengths: list[int] = []  # of the text in each chunk that carries any
    times: list[float] = []
    running_totals: list[int | None] = []  # usage.completion_tokens, where the server repeats it in each chunk
    content = _Content()
    usage: _Usage | None = None
    metrics: _Metrics | None = None
    ended: float | None = None
    is_complete = False
    for received, data in _events(reads):
        if data == b"[DONE]":
            is_complete = True
            break
        try:
            event = msgspec.json.decode(data, type=_Event)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Failure(FailureKind.STREAM_ERROR, f"not a completion chunk ({error}): {data[:100]!r}")
        if event.error is not None:
            return Failure(FailureKind.STREAM_ERROR, error_message(data))
        usage = event.usage or usage
        metrics = event.metrics or metrics
        if not event.choices:
            continue
        ended = received
        content.add(event.choices)
        is_complete = is_complete or content.finish_reason is not None
        if length := sum(choice.text_length() for choice in event.choices):
            lengths.append(length)
            times.append(received)
            running_totals.append(event.usage.completion_tokens if event.usage else None)
    if ended is None or not is_complete:
        return Failure(FailureKind.INCOMPLETE, "the stream ended without a finish reason or [DONE]")
    num_output_tokens = usage.completion_tokens if usage else len(lengths)
    counts = tokens_per_chunk(lengths, running_totals, num_output_tokens)
    return Answer(
        chunks=tuple(Chunk(received, count) for received, count in zip(times, counts, strict=True)),
        ended=ended,
        num_prompt_tokens=usage.prompt_tokens if usage else 0,
        num_output_tokens=num_output_tokens,
        has_usage=usage is not None,
        num_coalesced=len(times) - len(set(times)),
        speculation=metrics.speculation() if metrics else None,
        text="".join(content.texts),
        tool_calls=content.tool_calls(),
        is_refusal=content.is_refusal,
        finish_reason=content.finish_reason,
        num_cached_tokens=usage.cached_tokens() if usage else 0,
        origins=dict(content.origins),
        server_queue=metrics.server_queue() if metrics else None,
    )


def tokens_per_chunk(lengths: Sequence[int], running_totals: Sequence[int | None], num_tokens: int) -> list[int]:
    """How many of an answer's tokens each of its chunks brought.

    A chunk is not a token: speculation brings several in one. Where each chunk carries the running total of
    `usage.completion_tokens`, a chunk brought what the total grew by. Otherwise the final total is shared in proportion
    to the lengths of the texts, but so that each chunk brought one token at least. (Of fewer tokens than chunks, some
    chunks get none.)
    """
    exact = [total for total in running_totals if total is not None]
    if exact and len(exact) == len(lengths) and exact == sorted(exact):
        return [after - before for before, after in pairwise([0, *exact])]
    counts = [1 if num_tokens >= len(lengths) else 0] * len(lengths)
    total_length = sum(lengths)
    # Each further token goes to the chunk that lacks most of its share.
    lacking = [(counts[index] - num_tokens * length / total_length, index) for index, length in enumerate(lengths)]
    heapq.heapify(lacking)
    for _ in range(num_tokens - sum(counts) if lengths else 0):
        surplus, index = lacking[0]
        counts[index] += 1
        heapq.heapreplace(lacking, (surplus + 1, index))
    return counts


def error_message(body: bytes) -> str:
    """The message of an OpenAI error body, or else the body itself, cut to one line."""
    try:
        message = msgspec.json.decode(body, type=_ErrorBody).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = body.decode(errors="replace")
    return " ".join(message.split())[:200]


class _Content:
    """What the deltas of an answer add up to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_refusal = False
        self.finish_reason: str | None = None
        self.origins: Counter[str] = Counter()
        self._calls: dict[int, tuple[list[str], list[str]]] = {}  # names and arguments, by the call's index

    def add(self, choices: "Sequence[_Choice]") -> None:
        for choice in choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
            self.origins.update(choice.token_origins)
            if choice.text:
                self.texts.append(choice.text)
            if choice.delta is not None:
                self.texts.append(choice.delta.content or "")
                self.is_refusal |= bool(choice.delta.refusal)
                for call in choice.delta.tool_calls or ():
                    names, arguments = self._calls.setdefault(call.index, ([], []))
                    names.append((call.function and call.function.name) or "")
                    arguments.append((call.function and call.function.arguments) or "")

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall("".join(names), "".join(arguments)) for names, arguments in self._calls.values())


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    prompt_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None

    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class _SpeculativeDecoding(msgspec.Struct):
    num_draft_tokens: int = 0
    num_accepted_draft_tokens: int = 0
    num_spec_steps: int = 0
    acceptance_histogram: list[int] = []


class _Metrics(msgspec.Struct):
    speculative_decoding: _SpeculativeDecoding | None = None
    queue_time_ms: float | None = None

    def speculation(self) -> Speculation | None:
        told = self.speculative_decoding
        if told is None:
            return None
        histogram = tuple(told.acceptance_histogram)
        return Speculation(told.num_draft_tokens, told.num_accepted_draft_tokens, told.num_spec_steps, histogram)

    def server_queue(self) -> float | None:
        return None if self.queue_time_ms is None else self.queue_time_ms / 1000


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    function: _Function | None = None

    def text_length(self) -> int:
        return len(self.function.name or "") + len(self.function.arguments or "") if self.function else 0


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None

    def text_length(self) -> int:
        # Servers that send both names for reasoning send the same text twice.
        reasoning = self.reasoning or self.reasoning_content
        texts = sum(len(text) for text in (self.content, reasoning, self.refusal) if text)
        return texts + sum(call.text_length() for call in self.tool_calls or ())


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_origins: list[str] = []

    def text_length(self) -> int:
        return len(self.text or "") + (self.delta.text_length() if self.delta else 0)


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    metrics: _Metrics | None = None
    error: object = None


class _Error(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _Error


def _events(reads: Sequence[Read]) -> Iterator[tuple[float, bytes]]:
    """The data of each event with the time of the read that completed it.

    One `data:` line per event, as every OpenAI-compatible server writes; comments and other fields are skipped.
    """
    pending = b""
    for read in reads:
        *lines, pending = (pending + read.data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield read.received, line[5:].strip()
