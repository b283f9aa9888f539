"""The console block, in the words of `vllm bench serve`, and what a reader should know before trusting it."""

import math
from collections.abc import Iterator

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.measure import CLIENT_LIMITED_ABOVE, Summary
from outrider.loadtest.metric import METRICS
from outrider.loadtest.result import per_second, speculation_fields

WIDTH = 50


def render_report(config: LoadtestConfig, summary: Summary, notes: tuple[str, ...]) -> str:
    """The block that a run prints; the median stands for P50."""
    lines = [
        f"{' Serving Benchmark Result ':=^{WIDTH}}",
        *_totals(config, summary),
        *_latencies(config, summary),
        *_speculation(summary),
        *_health(summary),
        "=" * WIDTH,
        *(f"Note: {note}" for note in notes),
    ]
    return "\n".join(lines)


def take_notes(config: LoadtestConfig, summary: Summary, *, num_repeated: int, is_partial: bool) -> tuple[str, ...]:
    """One sentence for each reason to read the figures with care."""
    num_ended = summary.num_completed + summary.num_failed
    highest = max(config.metric_percentiles, default=0)
    notes: list[str] = []
    if is_partial:
        notes.append(
            f"interrupted when {num_ended} of {config.num_prompts} requests had ended: the slowest may be missing"
        )
    if summary.is_client_limited:
        limit = f"{CLIENT_LIMITED_ABOVE * 1000:g} ms"
        notes.append(f"client-limited: the load generator's own event loop lagged by more than {limit} (p99)")
    if summary.num_failed:
        notes.append(
            f"failed requests count as infinite in queue-inclusive latencies; the first: {summary.first_failure}"
        )
    if summary.num_without_usage:
        notes.append(
            f"{summary.num_without_usage} responses carried no usage: each of their chunks counts as one token"
        )
    if num_repeated:
        notes.append(f"{num_repeated} prompts repeat earlier ones, which a prefix cache answers faster")
    if highest < 100 and num_ended * (100 - highest) < 100:
        notes.append(f"P{highest:g} of {num_ended} requests is little more than the slowest")
    return tuple(notes)


def _totals(config: LoadtestConfig, summary: Summary) -> Iterator[str]:
    duration = summary.duration
    yield _line("Successful requests:", summary.num_completed)
    yield _line("Failed requests:", summary.num_failed)
    for kind, count in summary.failures.items():
        yield _line(f"  {kind.value}:", count)
    if summary.num_unfinished:
        yield _line("Unfinished requests:", summary.num_unfinished)
    if config.max_concurrency is not None:
        yield _line("Maximum request concurrency:", config.max_concurrency)
    if not math.isinf(config.request_rate):
        yield _line("Request rate configured (RPS):", config.request_rate)
    yield _line("Benchmark duration (s):", duration)
    yield _line("Total input tokens:", summary.num_input_tokens)
    yield _line("Total generated tokens:", summary.num_output_tokens)
    yield _line("Request throughput (req/s):", per_second(summary.num_completed, duration))
    yield _line("Output token throughput (tok/s):", per_second(summary.num_output_tokens, duration))
    yield _line("Peak output token throughput (tok/s):", summary.max_output_tokens_per_s)
    yield _line("Peak concurrent requests:", summary.max_concurrent_requests)
    all_tokens = summary.num_input_tokens + summary.num_output_tokens
    yield _line("Total token throughput (tok/s):", per_second(all_tokens, duration))


def _latencies(config: LoadtestConfig, summary: Summary) -> Iterator[str]:
    for name in _chosen_metrics(config, summary):
        label, title = METRICS[name]
        latency = summary.latencies[name]
        yield _title(title)
        yield _line(f"Mean {label} (ms):", latency.mean * 1000)
        yield _line(f"Median {label} (ms):", latency.median * 1000)
        for percent in config.metric_percentiles:
            if percent != 50:
                yield _line(f"P{percent:g} {label} (ms):", latency.percentiles[percent] * 1000)


def _chosen_metrics(config: LoadtestConfig, summary: Summary) -> tuple[str, ...]:
    """By default queue-inclusive latencies only where they differ: in a closed loop without failures they do not."""
    if config.percentile_metrics is not None:
        return tuple(name for name in METRICS if name in config.percentile_metrics)
    chosen = ("ttft", "tpot", "itl", "e2el")
    if config.is_closed_loop and not summary.num_failed:
        return chosen
    return (*chosen, "client_queue_time", "ttft_including_client_queue", "e2el_including_client_queue")


def _speculation(summary: Summary) -> Iterator[str]:
    fields = speculation_fields(summary)
    if fields:
        yield _title("Speculative Decoding")
        yield _line("Acceptance rate (%):", fields["spec_decode_acceptance_rate"])
        yield _line("Acceptance length:", fields["spec_decode_acceptance_length"])
        yield _line("Drafts:", fields["spec_decode_num_drafts"])
        yield _line("Draft tokens:", fields["spec_decode_draft_tokens"])
        yield _line("Accepted tokens:", fields["spec_decode_accepted_tokens"])


def _health(summary: Summary) -> Iterator[str]:
    yield _title("Load Generator")
    yield _line("P99 schedule lag (ms):", summary.latencies["schedule_lag"].percentiles[99.0] * 1000)
    yield _line("P99 event loop lag (ms):", summary.latencies["client_loop_lag"].percentiles[99.0] * 1000)
    yield _line("Coalesced chunks:", summary.num_coalesced)


def _title(text: str) -> str:
    return f"{text:-^{WIDTH}}"


def _line(label: str, value: float) -> str:
    text = "n/a" if math.isnan(value) else f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{label:<40} {text:<10}".rstrip()
