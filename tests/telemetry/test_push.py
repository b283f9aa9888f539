"""The same metrics over OTLP, against a collector on a loopback socket."""

import time

import pytest

from outrider.telemetry.metrics import Metrics
from outrider.telemetry.push import CLOSE_SECONDS, MetricPush

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def observed() -> Metrics:
    metrics = Metrics(routes=["/r"], models=["tiny"])
    for seconds in (0.015, 0.5):
        metrics.observe_inference(operation="chat", model="tiny", duration_seconds=seconds, trace_id=TRACE_ID)
    metrics.observe_request(route="/r", status=200, seconds=0.5)
    return metrics


def test_the_collector_gets_what_prometheus_gets(collector) -> None:
    """Under the conventions' names, with their attributes, each bucket for itself, and exemplars that name a trace."""
    MetricPush(observed().registry).close()

    (request,) = collector.metrics
    metrics = {one.name: one for one in request.resource_metrics[0].scope_metrics[0].metrics}
    duration = metrics["gen_ai.server.request.duration"]
    (point,) = duration.histogram.data_points
    assert ("s", 2, 0.515) == (duration.unit, point.count, pytest.approx(point.sum))
    assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"} == {
        a.key for a in point.attributes
    }
    assert [(0.02, 1), (0.64, 1)] == [
        (bound, count) for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False) if count
    ]
    assert [TRACE_ID] * 2 == [exemplar.trace_id.hex() for exemplar in point.exemplars]
    assert metrics["outrider.requests"].sum.is_monotonic
    assert 1.0 == metrics["outrider.requests"].sum.data_points[0].as_double
    (http,) = metrics["http.server.request.duration"].histogram.data_points
    assert {"http.route", "http.response.status_code"} == {attribute.key for attribute in http.attributes}


@pytest.mark.parametrize("value", [("OTEL_METRICS_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")])
def test_the_standard_switches_turn_it_off(collector, monkeypatch, value: tuple[str, str]) -> None:
    """As with traces."""
    monkeypatch.setenv(*value)
    push = MetricPush(observed().registry)
    push.close()

    assert ("MetricPush(off)", []) == (repr(push), collector.metrics)


def test_a_refusing_collector_is_worth_one_warning(collector, monkeypatch, caplog) -> None:
    """Phoenix takes traces alone."""
    collector.status = 405
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    push = MetricPush(observed().registry)
    while len(collector.headers) < 3:
        time.sleep(0.01)
    push.close()

    assert ["metrics are not sent to the collector: it takes no metrics (said once)"] == caplog.messages


def test_a_silent_collector_does_not_hold_up_the_end(silent_port, monkeypatch) -> None:
    """Two seconds at most."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setattr("outrider.telemetry.push.CLOSE_SECONDS", 0.2)
    push = MetricPush(observed().registry)
    started = time.monotonic()
    push.close()

    assert time.monotonic() - started < CLOSE_SECONDS


def test_an_interval_that_is_none_is_named(collector, monkeypatch, caplog) -> None:
    """And the default is taken."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "often")
    MetricPush(observed().registry).close()

    assert [
        "OTEL_METRIC_EXPORT_INTERVAL is no number of milliseconds: metrics are sent every minute"
    ] == caplog.messages
