"""Reads a streamed answer after it has ended: server-sent events to an Answer. Pure; knows nothing of sockets.

Reads are stamped as they come and parsed here afterwards, so that no chunk waits for another to be parsed.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Speculation


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
    usage: _Usage | None = None
    speculation: Speculation | None = None
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
        if event.metrics is not None and event.metrics.speculative_decoding is not None:
            speculation = event.metrics.speculative_decoding.counts()
        if not event.choices:
            continue
        ended = received
        is_complete = is_complete or any(choice.finish_reason is not None for choice in event.choices)
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
        speculation=speculation,
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


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    prompt_tokens: int = 0


class _SpeculativeDecoding(msgspec.Struct):
    num_draft_tokens: int = 0
    num_accepted_draft_tokens: int = 0
    num_spec_steps: int = 0

    def counts(self) -> Speculation:
        return Speculation(self.num_draft_tokens, self.num_accepted_draft_tokens, self.num_spec_steps)


class _Metrics(msgspec.Struct):
    speculative_decoding: _SpeculativeDecoding | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
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
