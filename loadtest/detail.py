"""One entry for each request: vLLM's arrays for --save-detailed, and the rows of --csv. Pure, but for writing."""

import csv
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from outrider.loadtest.findings import Findings
from outrider.loadtest.measure import token_gaps
from outrider.loadtest.record import Answer, Failure, Record
from outrider.loadtest.validity import judge

COLUMNS = (
    *("index", "turn", "kind", "speculation", "intended_s", "sent_s", "ended_s", "queue_ms", "ttft_ms", "tpot_ms"),
    *("e2el_ms", "e2el_including_client_queue_ms", "input_tokens", "output_tokens", "chunks", "cached_tokens"),
    *("drafted_tokens", "accepted_tokens", "validity", "failure", "message"),
)


def detailed_fields(findings: Findings) -> dict[str, object]:
    """The arrays of vLLM, in seconds, in the order of intended starts; `due_times` and `finish_times` are ours.

    Failures have zeros and no gaps, as in vLLM, and their message in `errors`. `itls` are gaps between chunks, as in
    vLLM, `token_gaps` are per token.
    """
    records = findings.measurement.measured
    start = findings.measurement.measured_from
    answers = [record.outcome if isinstance(record.outcome, Answer) else None for record in records]
    return {
        "input_lens": [answer.num_prompt_tokens if answer else 0 for answer in answers],
        "output_lens": [answer.num_output_tokens if answer else 0 for answer in answers],
        "ttfts": [
            answer.chunks[0].received - record.sent if answer and answer.chunks else 0.0
            for record, answer in zip(records, answers, strict=True)
        ],
        "itls": [_chunk_gaps(answer) if answer else [] for answer in answers],
        "token_gaps": [token_gaps(answer.chunks) if answer else [] for answer in answers],
        "latencies": [
            answer.ended - record.sent if answer else 0.0 for record, answer in zip(records, answers, strict=True)
        ],
        "queue_times": [record.sent - record.due for record in records],
        "due_times": [record.due - start for record in records],
        "start_times": [record.sent - start for record in records],
        "finish_times": [record.ended - start for record in records],
        "generated_texts": [answer.text if answer else "" for answer in answers],
        "errors": [record.outcome.message if isinstance(record.outcome, Failure) else "" for record in records],
    }


def save_csv(path: Path, findings: Findings) -> None:
    """A row for each measured request; times in seconds from the start of the run. Raises OSError."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_rows(findings))


def _rows(findings: Findings) -> Iterator[dict[str, object]]:
    start = findings.measurement.measured_from
    for record in findings.measurement.measured:
        sample = findings.samples[record.index]
        row: dict[str, object] = {
            "index": record.index,
            "turn": record.turn,
            "kind": sample.kind,
            "speculation": sample.variant,
            "intended_s": round(record.due - start, 6),
            "sent_s": round(record.sent - start, 6),
            "ended_s": round(record.ended - start, 6),
            "queue_ms": _milliseconds(record.sent - record.due),
        }
        if isinstance(record.outcome, Failure):
            yield row | {"failure": record.outcome.kind.value, "message": record.outcome.message}
        else:
            verdict = judge(sample, record.outcome) if record.turn == 0 else None
            yield row | _answer_fields(record, record.outcome) | {"validity": verdict}


def _answer_fields(record: Record, answer: Answer) -> dict[str, object]:
    first = answer.chunks[0].received if answer.chunks else None
    more = answer.num_output_tokens - 1
    return {
        "ttft_ms": None if first is None else _milliseconds(first - record.sent),
        "tpot_ms": _milliseconds((answer.ended - first) / more) if first is not None and more > 0 else None,
        "e2el_ms": _milliseconds(answer.ended - record.sent),
        "e2el_including_client_queue_ms": _milliseconds(answer.ended - record.due),
        "input_tokens": answer.num_prompt_tokens,
        "output_tokens": answer.num_output_tokens,
        "chunks": len(answer.chunks),
        "cached_tokens": answer.num_cached_tokens,
        "drafted_tokens": answer.speculation.num_draft_tokens if answer.speculation else None,
        "accepted_tokens": answer.speculation.num_accepted_draft_tokens if answer.speculation else None,
    }


def _chunk_gaps(answer: Answer) -> list[float]:
    return [after.received - before.received for before, after in pairwise(answer.chunks)]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
