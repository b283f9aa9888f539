"""The result file: `vllm bench serve`'s keys and file name, plus our own keys beside them."""

import math
from datetime import datetime
from pathlib import Path

import msgspec

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.distribution import Distribution
from outrider.loadtest.findings import Findings
from outrider.loadtest.measure import Summary, acceptance_by_position
from outrider.loadtest.record import FailureKind


def result_fields(config: LoadtestConfig, findings: Findings) -> dict[str, object]:
    """Latencies in milliseconds. Infinity is "inf", as in vLLM's request_rate; what was not observed is null."""
    summary = findings.summary
    duration = summary.duration
    tokens = summary.num_input_tokens + summary.num_output_tokens
    fields: dict[str, object] = {
        "date": findings.date,
        "endpoint_type": backend(config),
        "backend": backend(config),
        "label": config.label,
        "model_id": findings.model,
        "tokenizer_id": None,
        "num_prompts": findings.num_requests,
        "request_rate": config.request_rate,
        "burstiness": config.burstiness,
        "max_concurrency": config.max_concurrency,
        "duration": duration,
        "completed": summary.num_completed,
        "failed": summary.num_failed,
        "total_input_tokens": summary.num_input_tokens,
        "total_output_tokens": summary.num_output_tokens,
        "request_throughput": per_second(summary.num_completed, duration),
        "request_goodput": None if findings.num_good is None else per_second(findings.num_good, duration),
        "output_throughput": per_second(summary.num_output_tokens, duration),
        "total_token_throughput": per_second(tokens, duration),
        "max_output_tokens_per_s": summary.max_output_tokens_per_s,
        "max_concurrent_requests": summary.max_concurrent_requests,
        "rtfx": 0.0,
    }
    for name, latency in summary.latencies.items():
        fields |= _latency_fields(name, latency)
    fields |= speculation_fields(summary)
    fields |= {
        "partial": findings.is_partial,
        "valid": not findings.faults,
        "faults": findings.faults,
        "unfinished": summary.num_unfinished,
        "failures": {kind.value: summary.failures.get(kind, 0) for kind in FailureKind},
        "attainment": findings.attainment,
        "goodput": {name: limit * 1000 for name, limit in config.goodput.items()},
        "validity": findings.validity,
        "token_origins": summary.origins,
        "cached_tokens": summary.num_cached_tokens,
        "client_processor_load": summary.highest_processor_load,
        "server_metrics": findings.server,
        "coalesced_chunks": summary.num_coalesced,
        "responses_without_usage": summary.num_without_usage,
        "base_url": config.base_url,
        "endpoint": config.endpoint,
        "dataset_name": config.dataset_name,
        "seed": config.seed,
        "num_warmups": config.num_warmups,
        "temperature": config.temperature,
        "speculation": findings.variant,
        "extra_body": config.extra_body,
        "notes": findings.notes,
    }
    fields |= config.metadata
    return {name: "inf" if value == math.inf else value for name, value in fields.items()}


def speculation_fields(summary: Summary) -> dict[str, object]:
    """The spec_decode_* keys of vLLM; empty where the server reports no speculation."""
    counts = summary.speculation
    if counts is None:
        return {}
    drafts, drafted, accepted = counts.num_spec_steps, counts.num_draft_tokens, counts.num_accepted_draft_tokens
    fields: dict[str, object] = {
        "spec_decode_acceptance_rate": 100 * accepted / drafted if drafted else 0.0,
        "spec_decode_acceptance_length": 1 + accepted / drafts if drafts else 0.0,
        "spec_decode_num_drafts": drafts,
        "spec_decode_draft_tokens": drafted,
        "spec_decode_accepted_tokens": accepted,
    }
    if counts.histogram:
        fields["spec_decode_per_position_acceptance_rates"] = acceptance_by_position(counts)
    return fields


def result_path(config: LoadtestConfig, model: str, date: str) -> Path:
    """By default in the current folder, named by vLLM's pattern."""
    concurrency = "" if config.max_concurrency is None else f"-concurrency{config.max_concurrency}"
    base_model = model.rsplit("/", maxsplit=1)[-1]
    name = config.label or backend(config)
    pattern = f"{name}-{config.request_rate}qps{concurrency}-{base_model}-{date}.json"
    return (config.result_dir or Path()) / (config.result_filename or pattern)


def save_result(path: Path, fields: dict[str, object], *, is_appended: bool) -> None:
    """Replaces the file, or appends a line to it, as vLLM's --append-result does; its folder must exist."""
    data = msgspec.json.encode(fields)
    if is_appended:
        with path.open("ab") as file:
            file.write(data + b"\n")
    else:
        path.write_bytes(msgspec.json.format(data) + b"\n")


def current_date() -> str:
    """Local time, in the form of vLLM's `date` key."""
    return datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")


def backend(config: LoadtestConfig) -> str:
    """The name that vLLM has for the kind of endpoint."""
    return "openai-chat" if config.is_chat else "openai"


def per_second(count: int, duration: float) -> float:
    """0 for a run that was interrupted as it began."""
    return count / duration if duration else 0.0


def _latency_fields(name: str, latency: Distribution) -> dict[str, float]:
    seconds = {"mean": latency.mean, "median": latency.median, "std": latency.std}
    seconds |= {f"p{percent:g}": value for percent, value in latency.percentiles.items()}
    return {f"{statistic}_{name}_ms": value * 1000 for statistic, value in seconds.items()}
