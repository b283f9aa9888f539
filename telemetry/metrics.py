"""The server's Prometheus metrics: their names, their buckets and their rendering.

Owns its registry; the library's global one stays unused. Callers hand in plain values and know nothing of Prometheus.
A label takes no value that a client chose: what is not known in advance is "other".
"""

import os
import platform
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from outrider.telemetry import names
from outrider.telemetry.engine_totals import EngineBook, EngineLevels, EngineTotals
from outrider.telemetry.figures import InferenceResult, Operation
from outrider.telemetry.http_metrics import HttpMetrics
from outrider.telemetry.phase_metrics import PhaseMetrics
from outrider.telemetry.queue_metrics import QueueMetrics
from outrider.telemetry.vllm_names import VllmNames

OTHER = "other"

# The conventions' bounds; below 10 ms per token they have none, which a small model needs.
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
FINE_TOKEN_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008)
TOKEN_BUCKETS = (*FINE_TOKEN_BUCKETS, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
COMPILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_STATM = Path("/proc/self/statm")


class Metrics:
    """Everything that `/metrics` shows. One writer: the gateway's event loop."""

    def __init__(
        self,
        *,
        routes: Collection[str],
        models: Collection[str] = (),
        profile: names.Profile = "v1.41",
        vllm_names: bool = False,
    ) -> None:
        self._routes = frozenset(routes)
        self._models = set(models)
        self._engines = EngineBook()
        self._shown: set[tuple[Counter, str]] = set()  # counters by method or origin
        self._registry = CollectorRegistry()
        self.http = HttpMetrics(self._registry)
        self._phases = PhaseMetrics(self._registry, _GEN_AI_LABELS, profile)
        ProcessCollector(registry=self._registry)

        self.queue = QueueMetrics(self._registry)
        self._requests = self._counter("outrider_requests_total", "HTTP requests answered.", "route", "status")
        self._rate_limited = self._counter("outrider_rate_limited_total", "Requests refused for a rate limit.")
        self._disconnects = self._counter("outrider_client_disconnects_total", "Clients that left before the end.")
        self._resumed = self._counter(
            "outrider_resumed_requests_total", "Times that a request went on with another engine.", "reason"
        )
        self._prompt_tokens = self._counter("outrider_prompt_tokens_total", "Prompt tokens taken in.")
        self._generated_tokens = self._counter("outrider_generated_tokens_total", "Tokens emitted.")
        self._compile = self._histogram(
            "outrider_grammar_compile_seconds", "Time to compile one grammar.", COMPILE_BUCKETS, "backend"
        )
        self._validations = self._counter(
            "outrider_validations_total", "Finished answers checked against their schema.", "outcome"
        )
        self._validation_retries = self._counter(
            "outrider_validation_retries_total", "Answers drawn again because their check failed."
        )
        self._duration = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to its last token; error_type is empty on success.",
            DURATION_BUCKETS,
            *_GEN_AI_LABELS,
            "error_type",
        )
        self._first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to its first token, queue and prefill included; successful requests.",
            FIRST_TOKEN_BUCKETS,
            *_GEN_AI_LABELS,
        )
        self._per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first; successful requests.",
            TOKEN_BUCKETS,
            *_GEN_AI_LABELS,
        )

        self._running = self._gauge("outrider_requests_running", "Requests in the engines' batches.")
        self._waiting = self._gauge("outrider_requests_waiting", "Requests waiting in the engines.")
        self._draining = self._gauge("outrider_draining", "1 while the server lets requests end and takes no new ones.")
        self._blocks = self._gauge("outrider_kv_blocks", "KV blocks that the engines have.")
        self._blocks_used = self._gauge("outrider_kv_blocks_used", "KV blocks that requests hold.")
        self._engine_memory = self._gauge("outrider_engine_resident_memory_bytes", "Resident memory of the engines.")
        self._steps = self._counter("outrider_engine_steps_total", "Steps of the engines.")
        self._step_seconds = self._counter("outrider_engine_step_seconds_total", "Time spent inside steps.")
        self._mask_seconds = self._counter(
            "outrider_grammar_mask_seconds_total", "Time of steps that grammar masks took."
        )
        self._cached_tokens = self._counter(
            "outrider_cached_prompt_tokens_total", "Prompt tokens whose KV was found in the prefix cache."
        )
        self._preemptions = self._counter("outrider_preemptions_total", "Requests that gave up their KV blocks.")
        self._drafted = self._counter("outrider_draft_tokens_total", "Draft tokens verified.", "method")
        self._accepted = self._counter("outrider_accepted_draft_tokens_total", "Draft tokens accepted.", "method")
        self._draft_steps = self._counter("outrider_draft_steps_total", "Steps that verified a draft.", "method")
        self._accepted_at = self._counter(
            "outrider_accepted_draft_tokens_per_position_total",
            "Draft tokens accepted, by their place in the draft.",
            *("method", "position"),
        )
        self._dropped = self._counter(
            "outrider_dropped_drafts_total", "Drafts that were not used because their proposer failed.", "method"
        )
        self._origins = self._counter(
            "outrider_tokens_by_origin_total",
            "Tokens that the engines emitted: by the method that drafted them, by the model itself behind a draft "
            "(bonus) or without one (target).",
            "origin",
        )

        if _STATM.exists():
            memory = self._gauge("outrider_gateway_resident_memory_bytes", "Resident memory of this process.")
            memory.set_function(_resident_bytes)
        if vllm_names:
            VllmNames(self._registry)
        build = Info("outrider_build", "What runs here.", registry=self._registry)
        build.info({"version": metadata.version("outrider"), "python": platform.python_version()})

    def __repr__(self) -> str:
        return f"Metrics({len(self._routes)} routes, {len(self._models)} models, {self._engines})"

    def add_model(self, model: str) -> None:
        """Gives a model or adapter that the operator loaded its own label value."""
        self._models.add(model)

    @property
    def registry(self) -> CollectorRegistry:
        """For who reads all of it."""
        return self._registry

    def observe_request(self, *, route: str | None, status: int, seconds: float | None = None) -> None:
        """Counts one answered HTTP request.

        Args:
            route: The pattern, None when nothing matched.
            status: Of the answer.
            seconds: From its arrival; None for probes and scrapes.
        """
        known = route if route is not None and route in self._routes else OTHER
        code = str(status) if 100 <= status < 600 else OTHER
        self._requests.labels(known, code).inc()
        if seconds is not None:
            self.http.observe(known, code, seconds)

    def set_draining(self) -> None:
        """Says that no new requests are taken from now on."""
        self._draining.set(1)

    def observe_inference(
        self,
        *,
        operation: Operation,
        model: str,
        duration_seconds: float,
        time_to_first_token_seconds: float | None = None,
        output_tokens: int = 0,
        error_type: str | None = None,
        trace_id: str | None = None,
        result: InferenceResult | None = None,
    ) -> None:
        """Records one inference that ended.

        Args:
            operation: As on its span.
            model: As the client named it; one that is not known is "other".
            duration_seconds: From the request's arrival.
            time_to_first_token_seconds: From the request's arrival; None when there was no token.
            output_tokens: Of the whole request.
            error_type: One of `names.ERROR_TYPES`, None on success.
            trace_id: Becomes an exemplar: only of a trace that is kept.
            result: What came of it, for the phases, the usage and the finish reasons.
        """
        labels = (operation, names.PROVIDER, model if model in self._models else OTHER)
        exemplar = {"trace_id": trace_id} if trace_id is not None else None
        error = "" if error_type is None else error_type if error_type in names.ERROR_TYPES else names.OTHER
        self._duration.labels(*labels, error).observe(duration_seconds, exemplar)
        if result is not None:
            self._phases.observe_phases(result.queue_seconds, result.prefill_seconds, result.decode_seconds)
            self._phases.observe_usage(labels, result.input_tokens or 0, result.output_tokens or 0)
            for reason in (names.FINISHED_BY_ERROR,) if error_type is not None else result.finish_reasons:
                self._phases.count_answer(reason)
        if error_type is not None or time_to_first_token_seconds is None:
            return
        self._first_token.labels(*labels).observe(time_to_first_token_seconds, exemplar)
        if output_tokens > 1:
            decode_seconds = duration_seconds - time_to_first_token_seconds
            self._per_token.labels(*labels).observe(decode_seconds / (output_tokens - 1), exemplar)

    def count_tokens(self, *, prompt: int = 0, generated: int = 0) -> None:
        """Counts tokens when they pass, best once per engine frame: a rate over request ends would be a saw."""
        self._prompt_tokens.inc(prompt)
        self._generated_tokens.inc(generated)

    def count_rate_limited(self) -> None:
        """Counts a request that a rate limit refused."""
        self._rate_limited.inc()

    def count_client_disconnect(self) -> None:
        """Counts a client that left before its answer was complete."""
        self._disconnects.inc()

    def count_resumed(self, reason: str) -> None:
        """Counts a request that went on with another engine; the reason is one of few."""
        self._resumed.labels(reason).inc()

    def observe_grammar_compile(self, seconds: float, backend: str) -> None:
        """Records a compilation that took place, by the library that did it; a cache hit is none."""
        self._compile.labels(backend).observe(seconds)

    def count_validation(self, *, is_valid: bool) -> None:
        """Counts a finished answer that was checked against its schema."""
        self._validations.labels("valid" if is_valid else "invalid").inc()

    def count_validation_retry(self) -> None:
        """Counts an answer that is drawn again because its check failed."""
        self._validation_retries.inc()

    def set_engine_stats(self, engine: str, levels: EngineLevels, totals: EngineTotals) -> None:
        """Takes in what an engine reports of itself, totals as counted since that engine's start.

        Gauges show the sum over the engines. An engine that restarted counts from zero and loses nothing here.
        """
        added = self._engines.enter(engine, levels, totals)
        self._steps.inc(added.steps)
        if added.steps:
            self._phases.observe_steps(added.steps, added.step_seconds, levels.running)
        self._mask_seconds.inc(added.mask_seconds)
        self._step_seconds.inc(added.step_seconds)
        self._preemptions.inc(added.preemptions)
        self._cached_tokens.inc(added.cached_tokens)
        for counter, counts in (
            (self._drafted, added.draft_tokens),
            (self._accepted, added.accepted_draft_tokens),
            (self._dropped, added.dropped_drafts),
            (self._origins, added.tokens_by_origin),
        ):
            for name, count in counts.items():
                if count or (counter, name) not in self._shown:  # a count of zero is shown once and costs nothing then
                    self._shown.add((counter, name))
                    counter.labels(name).inc(count)
        for (method, accepted), steps in added.draft_steps.items():
            if steps:
                self._draft_steps.labels(method).inc(steps)
                for position in range(accepted):
                    self._accepted_at.labels(method, str(position)).inc(steps)
        self._show_levels()

    def remove_engine(self, engine: str) -> None:
        """Takes an engine that is gone out of the gauges; its counts stay."""
        self._engines.leave(engine)
        self._show_levels()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its Content-Type: OpenMetrics, which has the exemplars, where the Accept header names it."""
        if "application/openmetrics-text" in accept:
            # Else it would write the colons of vLLM's names as underscores, which its text format does not.
            body: bytes = openmetrics.generate_latest(self._registry, escaping=openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _show_levels(self) -> None:
        levels = self._engines.levels()
        self._running.set(levels.running)
        self._waiting.set(levels.waiting)
        self._blocks.set(levels.kv_blocks_total)
        self._blocks_used.set(levels.kv_blocks_used)
        self._engine_memory.set(levels.resident_memory_bytes)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)


def _resident_bytes() -> float:
    return float(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
