"""Whether the metrics are sent to a collector, too, by the standard variables."""

import logging
import math
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from outrider.telemetry.options import variable
from outrider.telemetry.tracing import quieten

if TYPE_CHECKING:
    from outrider.telemetry.metric_bridge import MetricBridge

CLOSE_SECONDS = 2.0
DEFAULT_INTERVAL = 60.0  # seconds

_log = logging.getLogger(__name__)


class MetricPush:
    """Sends a registry to the collector that OTEL_EXPORTER_OTLP_(METRICS_)ENDPOINT names, or does nothing.

    OTEL_SDK_DISABLED=true and OTEL_METRICS_EXPORTER=none win; OTEL_METRIC_EXPORT_INTERVAL is in milliseconds.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bridge: MetricBridge | None = None
        endpoint = variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") or variable("OTEL_EXPORTER_OTLP_ENDPOINT")
        if not endpoint or variable("OTEL_METRICS_EXPORTER") == "none" or variable("OTEL_SDK_DISABLED") == "true":
            return

        from outrider.telemetry import metric_bridge  # noqa: PLC0415, the SDK costs when it is unused
        from outrider.telemetry.span_pipeline import resource  # noqa: PLC0415, as above

        quieten("opentelemetry.exporter", logging.CRITICAL)  # the bridge says once what is wrong
        self._bridge = metric_bridge.MetricBridge(registry, resource(), _interval())

    def __repr__(self) -> str:
        return f"MetricPush({self._bridge or 'off'})"

    def close(self) -> None:
        """Sends what there is; blocks for up to two seconds, so call it in a thread."""
        if self._bridge is not None:
            self._bridge.close(CLOSE_SECONDS)


def _interval() -> float:
    asked = variable("OTEL_METRIC_EXPORT_INTERVAL")
    try:
        seconds = float(asked) / 1000 if asked else DEFAULT_INTERVAL
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        _log.warning("OTEL_METRIC_EXPORT_INTERVAL is no number of milliseconds: metrics are sent every minute")
        return DEFAULT_INTERVAL
    return seconds
