"""From the records of a run to its figures. Pure: no clock, no sockets, no text. Warm-ups are left out.

TTFT and end-to-end latency exist twice. From `sent` (`ttft`, `e2el`, as in vLLM) they tell how the server treats a
request, over the requests that succeeded. From `due` (`..._including_client_queue`) they tell what a user would have
waited, and a failed request counts as infinite there: leaving it out would make a server that drops its slowest
requests look fast.

  ttft               sent to the first chunk that carries content, reasoning or a tool call
  tpot               (e2el - ttft) / (output tokens - 1), for answers of at least two tokens
  itl                per token: see `token_gaps`
  icl                gap between two chunks
  e2el               sent to the last chunk that has choices
  client_queue_time  due to sent: the wait for a slot, and what the client itself lost
  server_queue       the wait in the server's own queue, where it tells
  schedule_lag       due to dispatched: what the client itself lost
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from outrider.loadtest.distribution import Distribution, distribution
from outrider.loadtest.metric import METRICS
from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Record, Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything a run, or one process's share of it, has observed; the raw material of a Summary.

    `num_unfinished` requests were cut short by an interrupt: neither answered nor failed. `processor_loads` has for
    each process the part of one core that it used.
    """

    records: tuple[Record, ...]
    loop_lags: tuple[float, ...]
    started: float
    stopped: float
    num_unfinished: int = 0
    processor_loads: tuple[float, ...] = ()
    has_lost_server: bool = False

    @property
    def measured(self) -> tuple[Record, ...]:
        """Without warm-ups."""
        return tuple(record for record in self.records if not record.is_warmup)

    @property
    def measured_from(self) -> float:
        """The start of the run; with warm-ups, the moment when the first measured request was due."""
        if all(not record.is_warmup for record in self.records):
            return self.started
        return min((record.due for record in self.measured), default=self.stopped)


def merge(parts: Sequence[Measurement]) -> Measurement:
    """The shares of several processes as one, in the order in which requests were due."""
    records = [record for part in parts for record in part.records]
    return Measurement(
        records=tuple(sorted(records, key=lambda record: record.due)),
        loop_lags=tuple(lag for part in parts for lag in part.loop_lags),
        started=min(part.started for part in parts),
        stopped=max(part.stopped for part in parts),
        num_unfinished=sum(part.num_unfinished for part in parts),
        processor_loads=tuple(load for part in parts for load in part.processor_loads),
        has_lost_server=any(part.has_lost_server for part in parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a run; `latencies` holds seconds, by metric name. `failures` has the failed by kind."""

    duration: float
    num_completed: int
    num_failed: int
    num_unfinished: int
    failures: dict[FailureKind, int]
    first_failure: str | None
    num_input_tokens: int
    num_output_tokens: int
    num_without_usage: int
    num_coalesced: int
    max_output_tokens_per_s: float
    max_concurrent_requests: int
    latencies: dict[str, Distribution]
    speculation: Speculation | None
    num_cached_tokens: int
    origins: dict[str, int]
    highest_processor_load: float


def summarize(measurement: Measurement, percentiles: Sequence[float]) -> Summary:
    """p99 is always among the percentiles, whatever was asked for."""
    percentiles = sorted({*percentiles, 99.0})
    records = measurement.measured
    failures = [record.outcome for record in records if isinstance(record.outcome, Failure)]
    answers = [record.outcome for record in records if isinstance(record.outcome, Answer)]
    values = {**_latencies(records), "client_loop_lag": list(measurement.loop_lags)}
    latencies = {name: distribution(each, percentiles) for name, each in values.items()}
    return Summary(
        duration=measurement.stopped - measurement.measured_from,
        num_completed=len(answers),
        num_failed=len(failures),
        num_unfinished=measurement.num_unfinished,
        failures=dict(Counter(failure.kind for failure in failures)),
        first_failure=failures[0].message if failures else None,
        num_input_tokens=sum(answer.num_prompt_tokens for answer in answers),
        num_output_tokens=sum(answer.num_output_tokens for answer in answers),
        num_without_usage=sum(not answer.has_usage for answer in answers),
        num_coalesced=sum(answer.num_coalesced for answer in answers),
        max_output_tokens_per_s=_peak_token_rate(records),
        max_concurrent_requests=_peak_concurrency(records),
        latencies=latencies,
        speculation=_total_speculation(answers),
        num_cached_tokens=sum(answer.num_cached_tokens for answer in answers),
        origins=dict(sum((Counter(answer.origins) for answer in answers), Counter())),
        highest_processor_load=max(measurement.processor_loads, default=0.0),
    )


def token_gaps(chunks: Sequence[Chunk]) -> list[float]:
    """Inter-token latencies: the gap before a chunk, divided over the tokens that the chunk brought.

    So a chunk of three tokens after 60 ms is three gaps of 20 ms. The tokens of the first chunk have no gap: they are
    the TTFT. The gap before a chunk of no tokens is added to the next one's.
    """
    gaps: list[float] = []
    previous = chunks[0].received if chunks else 0.0
    for chunk in chunks[1:]:
        if chunk.num_tokens:
            gaps += [(chunk.received - previous) / chunk.num_tokens] * chunk.num_tokens
            previous = chunk.received
    return gaps


def largest_gap(chunks: Sequence[Chunk]) -> float:
    """The longest that one token took after the first; 0 for an answer of a single token."""
    return max(token_gaps(chunks), default=0.0)


def _latencies(records: Iterable[Record]) -> dict[str, list[float]]:
    """Values by metric name, in seconds."""
    values: dict[str, list[float]] = {name: [] for name in (*METRICS, "schedule_lag")}
    for record in records:
        values["schedule_lag"].append(record.dispatched - record.due)
        queued = record.sent - record.due
        answer = record.outcome
        if isinstance(answer, Failure):
            values["ttft_including_client_queue"].append(math.inf)
            values["e2el_including_client_queue"].append(math.inf)
            continue
        e2el = answer.ended - record.sent
        if answer.server_queue is not None:
            values["server_queue"].append(answer.server_queue)
        values["client_queue_time"].append(queued)
        values["e2el"].append(e2el)
        values["e2el_including_client_queue"].append(queued + e2el)
        if not answer.chunks:
            continue  # complete, but empty: there is no first token to time
        ttft = answer.chunks[0].received - record.sent
        values["ttft"].append(ttft)
        values["ttft_including_client_queue"].append(queued + ttft)
        if answer.num_output_tokens > 1:
            values["tpot"].append((e2el - ttft) / (answer.num_output_tokens - 1))
        values["itl"] += token_gaps(answer.chunks)
        times = [chunk.received for chunk in answer.chunks]
        values["icl"] += [after - before for before, after in pairwise(times)]
    return values


def _peak_token_rate(records: Sequence[Record]) -> float:
    """The most tokens received in any whole second, counted from the first request."""
    start = min((record.sent for record in records), default=0.0)
    tokens: Counter[int] = Counter()
    for record in records:
        if isinstance(record.outcome, Answer):
            for chunk in record.outcome.chunks:
                tokens[math.floor(chunk.received - start)] += chunk.num_tokens
    return float(max(tokens.values(), default=0))


def _peak_concurrency(records: Iterable[Record]) -> int:
    # At equal times an end (-1) sorts before a start (+1).
    changes = sorted(change for record in records for change in ((record.sent, 1), (record.ended, -1)))
    current = peak = 0
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return peak


def _total_speculation(answers: Iterable[Answer]) -> Speculation | None:
    reported = [answer.speculation for answer in answers if answer.speculation is not None]
    if not reported:
        return None
    counts = zip_longest(*(each.histogram for each in reported), fillvalue=0)
    return Speculation(
        num_draft_tokens=sum(each.num_draft_tokens for each in reported),
        num_accepted_draft_tokens=sum(each.num_accepted_draft_tokens for each in reported),
        num_spec_steps=sum(each.num_spec_steps for each in reported),
        histogram=tuple(sum(steps) for steps in counts),
    )


def acceptance_by_position(speculation: Speculation) -> list[float]:
    """For each place in a draft the part of the steps that accepted the token there, from the first place on."""
    steps = sum(speculation.histogram)
    return (
        [sum(speculation.histogram[place:]) / steps for place in range(1, len(speculation.histogram))] if steps else []
    )
