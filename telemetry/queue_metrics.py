"""Metrics of the queue before the engines, on the registry of all others."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
AHEAD_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class QueueMetrics:
    """What waits, how long, and who was sent away. One writer: the gateway's event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge("outrider_queue_requests", "Requests waiting in the gateway.", registry=registry)
        self._tokens = Gauge(
            "outrider_queue_prompt_tokens", "Prompt tokens of requests waiting in the gateway.", registry=registry
        )
        self._wait = Histogram(
            "outrider_queue_wait_seconds",
            "Time that a request waited in the gateway for its turn.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._ahead = Histogram(
            "outrider_queue_position",
            "Requests before a request when it came to the gateway.",
            buckets=AHEAD_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "outrider_queue_refused_total",
            "Requests that left the gateway's queue without a turn: full, expired or cancelled.",
            ("reason",),
            registry=registry,
        )

    def set_waiting(self, requests: int, prompt_tokens: int) -> None:
        """What waits now."""
        self._waiting.set(requests)
        self._tokens.set(prompt_tokens)

    def observe_turn(self, *, seconds: float, num_ahead: int) -> None:
        """Records a request whose turn has come."""
        self._wait.observe(seconds)
        self._ahead.observe(num_ahead)

    def count_refused(self, reason: str) -> None:
        """Counts a request that had no turn."""
        self._refused.labels(reason).inc()
