"""What every handler of the gateway shares, made once at start and taken down in reverse."""

import asyncio
import time
from dataclasses import dataclass, field

from aiohttp import web

from outrider.engine.protocol import EngineStats
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.config import GatewayConfig
from outrider.gateway.deadline import Deadline
from outrider.gateway.keys import ANONYMOUS, Key
from outrider.gateway.queue import Queue
from outrider.gateway.replicas import Replicas
from outrider.structured.checker import Checker
from outrider.structured.compiler import Compiler
from outrider.telemetry.engine_totals import EngineLevels, EngineTotals
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.request_trace import RequestTrace
from outrider.telemetry.tracing import Tracing


@dataclass(slots=True)
class Gateway:
    """The parts of a running gateway, which are never replaced.

    Attributes:
        is_draining: Written by the process that stops it.
        num_requests: Under way.
        idle: Set while none is.
    """

    config: GatewayConfig
    model_name: str
    engine: Replicas  # all of them, as one
    tokenizer: Tokenizer
    compiler: Compiler
    tracing: Tracing
    metrics: Metrics
    access: Access
    queue: Queue
    checker: Checker = field(default_factory=Checker)
    started: int = field(default_factory=lambda: int(time.time()))
    is_draining: bool = False
    num_requests: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def begin_request(self) -> None:
        """A request came in."""
        self.num_requests += 1
        self.idle.clear()

    def end_request(self) -> None:
        """A request has its answer, or its client is gone."""
        self.num_requests -= 1
        if not self.num_requests:
            self.idle.set()

    def record_engines(self) -> None:
        """Hands the engines' figures to the metrics; not with every frame of theirs, which costs less than this."""
        for engine, stats in self.engine.stats.items():
            record_engine_stats(self.metrics, stats, engine)


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


def record_engine_end(metrics: Metrics, engine: str, stats: EngineStats | None) -> None:
    """Hands the last figures of an engine that is lost to the metrics: its counts stay, its levels go."""
    if stats is not None:
        record_engine_stats(metrics, stats, engine)
    metrics.remove_engine(engine)


def record_engine_stats(metrics: Metrics, stats: EngineStats, engine: str = "engine-0") -> None:
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
    metrics.set_engine_stats(engine, levels, totals)
