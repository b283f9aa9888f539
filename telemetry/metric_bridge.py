"""The metrics of `/metrics` once more over OTLP: read from the same registry, so nothing is counted twice."""

import logging
import math
import threading
import time
from importlib import metadata
from itertools import pairwise

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from outrider.telemetry import names

_log = logging.getLogger(__name__)

_UNITS = {"_seconds": "s", "_bytes": "By"}
_DOTTED = ("gen_ai_", "http_", "process_", "outrider_")


class MetricBridge:
    """Sends everything in a registry each `interval` seconds, and once more at the end. Owns its thread."""

    def __init__(
        self, registry: CollectorRegistry, resource: Resource, interval: float, exporter: MetricExporter | None = None
    ) -> None:
        self._registry = registry
        self._resource = resource
        self._interval = interval
        self._exporter = exporter or OTLPMetricExporter()
        self._started_ns = time.time_ns()
        self._stop = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="outrider-metrics", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"MetricBridge(every {self._interval:g} s)"

    def close(self, seconds: float) -> None:
        """Sends what there is; returns after `seconds` at the latest."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._send()
        self._send()

    def _send(self) -> None:
        try:
            data = metrics_data(self._registry, self._resource, self._started_ns, time.time_ns())
            problem = None if self._exporter.export(data) is MetricExportResult.SUCCESS else "it takes no metrics"
        except Exception as error:  # noqa: BLE001, the boundary: whatever an exporter raises costs a report, no more
            problem = f"{error}"
        if problem is not None and not self._warned:
            self._warned = True
            _log.warning("metrics are not sent to the collector: %s (said once)", problem)


def metrics_data(registry: CollectorRegistry, resource: Resource, started_ns: int, now_ns: int) -> MetricsData:
    """Everything in a registry as the SDK's records, cumulative since `started_ns`."""
    found = [_metric(family, started_ns, now_ns) for family in registry.collect()]
    scope = InstrumentationScope(names.SCOPE, metadata.version("outrider"), names.SCHEMA_URL)
    scoped = ScopeMetrics(scope=scope, metrics=[one for one in found if one is not None], schema_url=names.SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scoped], schema_url=names.SCHEMA_URL)])


def otlp_name(name: str) -> tuple[str, str]:
    """OpenTelemetry's name and unit for a family: `gen_ai_server_request_duration_seconds` is written with dots."""
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "1")
    base = name.removesuffix("_seconds").removesuffix("_bytes")
    if base in names.OTLP_METRICS:
        return names.OTLP_METRICS[base], unit
    prefix = next((prefix for prefix in _DOTTED if base.startswith(prefix)), "")
    return f"{prefix.removesuffix('_')}.{base.removeprefix(prefix)}" if prefix else base, unit


def _metric(family: Family, started_ns: int, now_ns: int) -> Metric | None:
    name, unit = otlp_name(family.name)
    if family.type == "histogram":
        points = _histogram_points(family, started_ns, now_ns)
        data: Histogram | Sum | Gauge = Histogram(points, AggregationTemporality.CUMULATIVE)
    else:
        samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        numbers = [_number(sample, started_ns, now_ns) for sample in samples]
        is_counter = family.type == "counter"
        data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_counter) if is_counter else Gauge(numbers)
    return Metric(name, family.documentation, unit, data) if data.data_points else None


def _number(sample: Sample, started_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(
        attributes=_attributes(sample), start_time_unix_nano=started_ns, time_unix_nano=now_ns, value=sample.value
    )


def _histogram_points(family: Family, started_ns: int, now_ns: int) -> list[HistogramDataPoint]:
    """One for each set of labels. Prometheus' buckets each hold those below them, OpenTelemetry's do not."""
    buckets: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append(sample)
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    points = []
    for labels, mine in buckets.items():
        below = [0.0, *(sample.value for sample in mine)]
        counts = [int(after - before) for before, after in pairwise(below)]
        bounds = [float(sample.labels["le"]) for sample in mine]
        points.append(
            HistogramDataPoint(
                attributes=_attributes(mine[0]),
                start_time_unix_nano=started_ns,
                time_unix_nano=now_ns,
                count=int(mine[-1].value),
                sum=sums.get(labels, 0.0),
                bucket_counts=counts,
                explicit_bounds=[bound for bound in bounds if not math.isinf(bound)],
                min=math.nan,
                max=math.nan,
                exemplars=[_exemplar(sample, now_ns) for sample in mine if sample.exemplar is not None],
            )
        )
    return points


def _exemplar(sample: Sample, now_ns: int) -> Exemplar:
    assert sample.exemplar is not None, "only samples with one are asked"
    at = sample.exemplar.timestamp
    return Exemplar(
        filtered_attributes={},
        value=sample.exemplar.value,
        time_unix_nano=now_ns if at is None else int(float(at) * 1e9),
        span_id=0,
        trace_id=int(sample.exemplar.labels["trace_id"], 16),
    )


def _attributes(sample: Sample) -> dict[str, str]:
    """With the conventions' names; an empty label is none."""
    return {names.OTLP_LABELS.get(name, name): value for name, value in sample.labels.items() if value and name != "le"}
