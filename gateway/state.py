"""What every handler of the gateway shares, made once at start and taken down in reverse."""

import time
from dataclasses import dataclass, field

from aiohttp import web

from outrider.engine.protocol import EngineStats
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.config import GatewayConfig
from outrider.gateway.deadline import Deadline
from outrider.gateway.engine_link import EngineLink
from outrider.gateway.keys import ANONYMOUS, Key
from outrider.gateway.queue import Queue
from outrider.structured.checker import Checker
from outrider.structured.compiler import Compiler
from outrider.telemetry.engine_totals import EngineLevels, EngineTotals
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.request_trace import RequestTrace
from outrider.telemetry.tracing import Tracing


@dataclass(slots=True)
class Gateway:
    """The parts of a running gateway. `is_draining` is written by the process that stops it, the rest never."""

    config: GatewayConfig
    model_name: str
    engine: EngineLink
    tokenizer: Tokenizer
    compiler: Compiler
    tracing: Tracing
    metrics: Metrics
    access: Access
    queue: Queue
    checker: Checker = field(default_factory=Checker)
    started: int = field(default_factory=lambda: int(time.time()))
    is_draining: bool = False


@dataclass(slots=True)
class RequestState:
    """What the middlewares and the handler of one request tell each other."""

    request_id: str
    arrived: float  # monotonic seconds
    trace: RequestTrace = field(default_factory=RequestTrace)
    inference: InferenceTrace = field(default_factory=InferenceTrace)
    key: Key = ANONYMOUS
    deadline: Deadline | None = None
    has_begun: bool = False  # whether a stream's status is out
    error_type: str | None = None  # why the request failed, for trace and metrics
    headers: dict[str, str] = field(default_factory=dict)  # for the response, whatever it will be


GATEWAY = web.AppKey("gateway", Gateway)
REQUEST_STATE = web.RequestKey("request_state", RequestState)


def record_engine_stats(metrics: Metrics, stats: EngineStats) -> None:
    """Hands an engine's own figures to the metrics."""
    levels = EngineLevels(
        running=stats.num_running,
        waiting=stats.num_waiting,
        kv_blocks_total=stats.num_blocks,
        kv_blocks_used=stats.num_blocks_used,
        resident_memory_bytes=stats.resident_bytes,
    )
    totals = EngineTotals(
        steps=stats.total_steps,
        step_seconds=stats.total_step_seconds,
        mask_seconds=stats.total_mask_seconds,
        preemptions=stats.total_preemptions,
        cached_tokens=stats.total_cached_tokens,
        draft_tokens=stats.draft_tokens,
        accepted_draft_tokens=stats.accepted_draft_tokens,
        draft_steps={
            (method, accepted): steps
            for method, histogram in stats.acceptance_histograms.items()
            for accepted, steps in enumerate(histogram)
        },
        dropped_drafts=stats.dropped_drafts,
        tokens_by_origin=stats.token_origins,
    )
    metrics.set_engine_stats("engine-0", levels, totals)
