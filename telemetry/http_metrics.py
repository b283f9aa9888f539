"""The conventions' metrics of an HTTP server."""

from prometheus_client import CollectorRegistry, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class HttpMetrics:
    """What every route has in common."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._active = Gauge("http_server_active_requests", "HTTP requests under way.", registry=registry)
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "From a request's arrival to the end of its answer; probes and scrapes left out.",
            ("http_route", "http_response_status_code"),
            buckets=BUCKETS,
            registry=registry,
        )

    def begin(self) -> None:
        """Counts a request in."""
        self._active.inc()

    def end(self) -> None:
        """Counts it out."""
        self._active.dec()

    def observe(self, route: str, status: str, seconds: float) -> None:
        """Records an answer; both labels are of the few that are known."""
        self._duration.labels(route, status).observe(seconds)
