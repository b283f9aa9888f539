"""The console block, in the words of `vllm bench serve`, and what a reader should know before trusting it."""

import math
from collections.abc import Iterator

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.findings import Findings
from outrider.loadtest.measure import Summary, acceptance_by_position
from outrider.loadtest.metric import METRICS
from outrider.loadtest.result import per_second, speculation_fields

WIDTH = 50

SPECULATION_LINES = (
    ("Acceptance rate (%)", "acceptance_rate"),
    ("Acceptance length", "acceptance_length"),
    ("Drafts", "num_drafts"),
    ("Draft tokens", "draft_tokens"),
    ("Accepted tokens", "accepted_tokens"),
)

SERVER_LINES = {"running": "requests running", "waiting": "requests waiting", "kv_usage": "KV cache used (%)"}


def render_report(config: LoadtestConfig, findings: Findings) -> str:
    """The block that a run prints; the median stands for P50."""
    summary = findings.summary
    lines = [
        f"{' Serving Benchmark Result ':=^{WIDTH}}",
        *(f"INVALID: {fault}" for fault in findings.faults),
        *_totals(config, summary),
        *_goodput(config, findings),
        *_latencies(config, summary),
        *_speculation(summary),
        *_validity(findings),
        *_variants(findings),
        *_server(findings),
        *_health(summary),
        "=" * WIDTH,
        *(f"Note: {note}" for note in findings.notes),
    ]
    return "\n".join(lines)


def take_notes(config: LoadtestConfig, findings: Findings, *, num_repeated: int) -> tuple[str, ...]:
    """One sentence for each reason to read the figures with care."""
    summary = findings.summary
    num_ended = summary.num_completed + summary.num_failed
    highest = max(config.metric_percentiles, default=0)
    notes: list[str] = []
    if findings.is_partial:
        why = findings.lost_server or "interrupted"
        notes.append(
            f"{why}: {num_ended} of {findings.num_requests} requests had ended, and the slowest may be missing"
        )
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
    if summary.num_cached_tokens:
        share = summary.num_cached_tokens / max(summary.num_input_tokens, 1)
        notes.append(f"{share:.0%} of the input tokens came from the server's prefix cache")
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


def _goodput(config: LoadtestConfig, findings: Findings) -> Iterator[str]:
    if findings.num_good is not None:
        limits = ", ".join(f"{name} <= {limit * 1000:g} ms" for name, limit in config.goodput.items())
        yield _line("Request goodput (req/s):", per_second(findings.num_good, findings.summary.duration))
        yield _line("Goodput attainment (%):", 100 * (findings.attainment or 0.0))
        yield f"  good: {limits}, from the intended start"


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
    chosen: tuple[str, ...] = ("ttft", "tpot", "itl", "e2el")
    if summary.latencies["server_queue"].count:
        chosen += ("server_queue",)
    if config.is_closed_loop and not summary.num_failed:
        return chosen
    return (*chosen, "client_queue_time", "ttft_including_client_queue", "e2el_including_client_queue")


def _speculation(summary: Summary) -> Iterator[str]:
    fields = speculation_fields(summary)
    if fields:
        yield _title("Speculative Decoding")
        for label, name in SPECULATION_LINES:
            value = fields[f"spec_decode_{name}"]
            assert isinstance(value, int | float)
            yield _line(f"{label}:", value)
    for place, rate in enumerate(acceptance_by_position(summary.speculation) if summary.speculation else ()):
        yield _line(f"  accepted at position {place} (%):", 100 * rate)
    total = sum(summary.origins.values())
    for origin, count in sorted(summary.origins.items(), key=lambda pair: -pair[1]):
        yield _line(f"  tokens from {origin} (%):", 100 * count / total)


def _validity(findings: Findings) -> Iterator[str]:
    if findings.validity:
        yield _title("Answers by their Schema")
        for verdict, count in findings.validity.items():
            yield _line(f"{verdict}:", count)


def _variants(findings: Findings) -> Iterator[str]:
    if findings.variants:
        yield _title("By Speculation")
        yield f"{'':<16}{'requests':>9}{'TTFT ms':>9}{'TPOT ms':>8}{'accepted':>8}"
    for name, summary in findings.variants.items():
        counts = summary.speculation
        drafted = counts.num_draft_tokens if counts else 0
        accepted = f"{counts.num_accepted_draft_tokens / drafted:.0%}" if counts and drafted else "-"
        medians = (summary.latencies[each].median * 1000 for each in ("ttft", "tpot"))
        ttft, tpot = ("n/a" if math.isnan(median) else f"{median:.1f}" for median in medians)
        yield f"{name:<16}{summary.num_completed:>9}{ttft:>9}{tpot:>8}{accepted:>8}"


def _server(findings: Findings) -> Iterator[str]:
    if findings.server:
        yield _title("The Server's own Figures")
    for name, label in SERVER_LINES.items():
        values = [sample[name] for sample in findings.server if name in sample]
        if values:
            scale = 100 if name == "kv_usage" else 1
            yield _line(f"Mean {label}:", scale * sum(values) / len(values))
            yield _line(f"Most {label}:", scale * max(values))


def _health(summary: Summary) -> Iterator[str]:
    yield _title("Load Generator")
    yield _line("P99 schedule lag (ms):", summary.latencies["schedule_lag"].percentiles[99.0] * 1000)
    yield _line("P99 event loop lag (ms):", summary.latencies["client_loop_lag"].percentiles[99.0] * 1000)
    yield _line("Most of a core used (%):", summary.highest_processor_load * 100)
    yield _line("Coalesced chunks:", summary.num_coalesced)


def _title(text: str) -> str:
    return f"{text:-^{WIDTH}}"


def _line(label: str, value: float) -> str:
    text = "n/a" if math.isnan(value) else f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{label:<40} {text:<10}".rstrip()
