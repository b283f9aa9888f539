"""Where the time of requests and of engine steps goes, and how many tokens requests have, as distributions."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from outrider.telemetry import names

PHASE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STEP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
USAGE_BUCKETS = tuple(4**power for power in range(14))  # the conventions'


class PhaseMetrics:
    """Owns the histograms that requests and steps fill as they end."""

    def __init__(self, registry: CollectorRegistry, labels: tuple[str, ...], profile: names.Profile) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._queue = histogram(
            "outrider_queue_seconds", "From arrival at the engine to the first step.", PHASE_BUCKETS
        )
        self._prefill = histogram("outrider_prefill_seconds", "From the first step to the first token.", PHASE_BUCKETS)
        self._decode = histogram("outrider_decode_seconds", "From a request's first token to its last.", PHASE_BUCKETS)
        self._steps = histogram("outrider_engine_step_duration_seconds", "Duration of a step.", STEP_BUCKETS)
        self._batch = histogram("outrider_batch_size", "Requests running in a step of an engine.", BATCH_BUCKETS)
        self._answers = Counter(
            "outrider_answers_total", "Answers, by their end.", ["finish_reason"], registry=registry
        )
        self._usage = self._input = self._output = None
        if profile != "latest":
            self._usage = histogram(
                "gen_ai_client_token_usage", "Tokens of a request.", USAGE_BUCKETS, (*labels, "gen_ai_token_type")
            )
        if profile != "v1.41":
            self._input = histogram(
                "gen_ai_client_inference_operation_input_tokens", "Prompt tokens of a request.", USAGE_BUCKETS, labels
            )
            self._output = histogram(
                "gen_ai_client_inference_operation_output_tokens", "Tokens of its answers.", USAGE_BUCKETS, labels
            )

    def observe_phases(self, queue: float | None, prefill: float | None, decode: float | None) -> None:
        """Seconds; None for a phase that was not reached, or not told of."""
        for histogram, seconds in ((self._queue, queue), (self._prefill, prefill), (self._decode, decode)):
            if seconds is not None:
                histogram.observe(seconds)

    def observe_usage(self, labels: tuple[str, ...], input_tokens: int, output_tokens: int) -> None:
        """Of a whole request."""
        if self._usage is not None:
            self._usage.labels(*labels, "input").observe(input_tokens)
            self._usage.labels(*labels, "output").observe(output_tokens)
        if self._input is not None and self._output is not None:
            self._input.labels(*labels).observe(input_tokens)
            self._output.labels(*labels).observe(output_tokens)

    def count_answer(self, finish_reason: str) -> None:
        """Counts an answer that ended by "stop", "length" or "error"."""
        self._answers.labels(finish_reason).inc()

    def observe_steps(self, count: int, seconds: float, running: int) -> None:
        """Steps since the last report, together; there is a report for each, so that one mean stands for few."""
        for _ in range(min(count, 64)):
            self._steps.observe(seconds / count)
            self._batch.observe(running)
