"""From records with exact times to figures."""

import math
from dataclasses import replace

import pytest

from outrider.loadtest.health import faults
from outrider.loadtest.measure import Measurement, Summary, acceptance_by_position, merge, summarize, token_gaps
from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Record, Speculation


def answer(*chunks: tuple[float, int], ended: float | None = None, speculation: Speculation | None = None) -> Answer:
    return Answer(
        chunks=tuple(Chunk(received, num_tokens) for received, num_tokens in chunks),
        ended=chunks[-1][0] if ended is None else ended,
        num_prompt_tokens=10,
        num_output_tokens=sum(num_tokens for _, num_tokens in chunks),
        has_usage=True,
        num_coalesced=0,
        speculation=speculation,
    )


def record(outcome: Answer | Failure, due: float = 0.0, sent: float = 0.0, ended: float | None = None) -> Record:
    last = outcome.ended if isinstance(outcome, Answer) else sent
    return Record(due=due, dispatched=due, sent=sent, ended=last if ended is None else ended, outcome=outcome)


def failure(kind: FailureKind = FailureKind.SERVER_ERROR) -> Failure:
    return Failure(kind, "refused")


def summary_of(*records: Record, loop_lags: tuple[float, ...] = (0.0,), duration: float = 10.0) -> Summary:
    measurement = Measurement(records=records, loop_lags=loop_lags, started=0.0, stopped=duration)
    return summarize(measurement, [50, 90])


def test_a_chunks_gap_is_divided_over_its_tokens() -> None:
    """Three tokens after 60 ms are three gaps of 20 ms; those of the first chunk are the TTFT."""
    gaps = token_gaps(answer((1.0, 2), (1.1, 1), (1.16, 3)).chunks)

    assert gaps == pytest.approx([0.1, 0.02, 0.02, 0.02])


def test_the_gap_before_an_empty_chunk_goes_to_the_next() -> None:
    """The gaps still sum to the time from the first token to the last."""
    gaps = token_gaps(answer((1.0, 1), (1.1, 0), (1.3, 1)).chunks)

    assert gaps == pytest.approx([0.3])


def test_latencies_of_a_single_request_are_exact() -> None:
    """Due at 1, sent at 3, tokens at 4, 5 and (two) 7, finished at 8."""
    latencies = summary_of(record(answer((4.0, 1), (5.0, 1), (7.0, 2), ended=8.0), due=1.0, sent=3.0)).latencies

    assert {name: latency.mean for name, latency in latencies.items() if latency.count} == pytest.approx(
        {
            "ttft": 1.0,
            "tpot": 4.0 / 3,
            "itl": 1.0,
            "icl": 1.5,
            "e2el": 5.0,
            "client_queue_time": 2.0,
            "ttft_including_client_queue": 3.0,
            "e2el_including_client_queue": 7.0,
            "schedule_lag": 0.0,
            "client_loop_lag": 0.0,
        }
    )


def test_percentiles_over_requests_are_exact() -> None:
    """A hundred requests of 1 to 100 seconds."""
    records = [record(answer((float(seconds), 1))) for seconds in range(1, 101)]

    assert summary_of(*records).latencies["e2el"].percentiles == pytest.approx({50: 50.5, 90: 90.1, 99: 99.01})


def test_queueing_shows_only_in_the_latencies_from_the_intended_start() -> None:
    """One slot, a request a second that takes two: service is flat while users wait ever longer."""
    records = [record(answer((2.0 * n + 2, 1)), due=float(n), sent=2.0 * n) for n in range(100)]
    latencies = summary_of(*records).latencies

    assert latencies["e2el"].percentiles[99] == pytest.approx(2.0)
    assert latencies["e2el_including_client_queue"].percentiles[50] == pytest.approx(51.5)
    assert latencies["client_queue_time"].median == pytest.approx(49.5)


def test_failures_count_as_infinite_from_the_intended_start_only() -> None:
    """Of ten requests two failed: half the users waited a second, the unlucky tenth for ever."""
    records = [record(answer((1.0, 1)))] * 8 + [record(failure())] * 2
    latencies = summary_of(*records).latencies

    for name in ("ttft_including_client_queue", "e2el_including_client_queue"):
        assert latencies[name].percentiles == {50: 1.0, 90: math.inf, 99: math.inf}
    assert latencies["e2el"].percentiles == {50: 1.0, 90: 1.0, 99: 1.0}


def test_failures_are_counted_by_kind() -> None:
    """A 429 is neither a success nor the server's fault."""
    kinds = [FailureKind.RATE_LIMITED, FailureKind.CONNECTION, FailureKind.RATE_LIMITED]
    summary = summary_of(record(answer((1.0, 1))), *(record(failure(kind)) for kind in kinds))

    assert (1, 3) == (summary.num_completed, summary.num_failed)
    assert {FailureKind.RATE_LIMITED: 2, FailureKind.CONNECTION: 1} == summary.failures


def test_an_empty_answer_has_no_first_token() -> None:
    """It completes, and leaves TTFT and TPOT alone."""
    empty = Answer(
        chunks=(),
        ended=1.0,
        num_prompt_tokens=1,
        num_output_tokens=1,
        has_usage=True,
        num_coalesced=0,
        speculation=None,
    )
    summary = summary_of(record(empty))

    assert (1, 0, 0, 1) == (
        summary.num_completed,
        *(summary.latencies[name].count for name in ("ttft", "tpot", "e2el")),
    )


def test_peaks_count_tokens_and_overlap() -> None:
    """Tokens by the second since the first request, not chunks; requests that touch do not overlap."""
    first = record(answer((0.1, 5), (0.9, 5), (1.5, 3)), sent=0.0)
    second = record(answer((1.6, 1), (2.5, 4)), sent=1.5)
    third = record(answer((2.6, 1)), sent=2.5)
    summary = summary_of(first, second, third)

    assert (10.0, 1) == (summary.max_output_tokens_per_s, summary.max_concurrent_requests)


def test_speculation_is_summed_over_requests() -> None:
    """Requests without speculation do not count."""
    counts = [Speculation(8, 6, 2, (1, 1)), Speculation(8, 6, 2, (0, 1, 1)), Speculation(8, 6, 2)]
    with_speculation = [record(answer((1.0, 1), speculation=each)) for each in counts]
    summary = summary_of(*with_speculation, record(answer((1.0, 1))))

    assert summary.speculation == Speculation(24, 18, 6, (1, 2, 1))
    assert summary_of(record(answer((1.0, 1)))).speculation is None


@pytest.mark.parametrize(("lag", "num_faults"), [(0.009, 0), (0.011, 1)])
def test_a_lagging_client_marks_its_run(lag: float, num_faults: int) -> None:
    """Beyond 10 ms the client measures itself."""
    assert num_faults == len(faults(summary_of(record(answer((1.0, 1))), loop_lags=(lag,) * 100), has_schedule=True))


def test_a_client_that_sends_late_or_has_no_core_left_marks_its_run() -> None:
    """Each reason is told by itself."""
    late = replace(record(answer((1.0, 1))), dispatched=0.02)
    measurement = Measurement(records=(late,), loop_lags=(0.0,), started=0.0, stopped=1.0, processor_loads=(0.2, 0.95))
    told = faults(summarize(measurement, []), has_schedule=True)

    assert ["20.0 ms (p99) after they were due", "95% of a core"] == [
        fault.split("; ")[0].split("it sent requests ")[-1].split("it used ")[-1] for fault in told
    ]
    assert len(faults(summarize(measurement, []), has_schedule=False)) == 1


def test_warm_ups_are_in_no_figure() -> None:
    """The duration begins when the first measured request is due."""
    warmup = replace(record(answer((5.0, 9))), is_warmup=True)
    summary = summary_of(warmup, record(answer((4.0, 1)), due=3.0, sent=3.0), duration=13.0)

    assert (1, 1, 10.0) == (summary.num_completed, summary.num_output_tokens, summary.duration)


def test_shares_of_processes_become_one_run() -> None:
    """It begins with the first and ends with the last; what was seen is in the order of intended starts."""
    first, second = record(answer((1.0, 1)), due=0.5), record(answer((2.0, 1)), due=0.2)
    parts = [
        Measurement(records=(first,), loop_lags=(0.1,), started=0.0, stopped=3.0, num_unfinished=1),
        Measurement(records=(second,), loop_lags=(0.2,), started=0.1, stopped=2.0, has_lost_server=True),
    ]
    whole = merge(parts)

    assert (whole.records, whole.loop_lags, whole.started, whole.stopped) == ((second, first), (0.1, 0.2), 0.0, 3.0)
    assert (1, True) == (whole.num_unfinished, whole.has_lost_server)


def test_acceptance_by_position_is_of_the_steps_that_came_so_far() -> None:
    """Of ten steps five accepted nothing, three one token and two two."""
    assert [0.5, 0.2] == acceptance_by_position(Speculation(20, 7, 10, (5, 3, 2)))


def test_a_run_without_records_has_a_summary() -> None:
    """An interrupt may come before the first answer."""
    summary = summary_of(duration=0.0, loop_lags=())

    assert (0, 0, 0.0, ()) == (
        summary.num_completed,
        summary.max_concurrent_requests,
        summary.max_output_tokens_per_s,
        faults(summary, has_schedule=True),
    )
