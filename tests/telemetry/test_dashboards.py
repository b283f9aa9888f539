"""The dashboard and the alert rules ask only for what is exported."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from outrider.telemetry.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "telemetry" / "dashboards"
ALERTS = FOLDER / "alerts.yml"
_NAME = re.compile(r"\b(?:outrider|gen_ai|http|process)_[a-z0-9_]+")
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
_LABELS = {
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    *("http_route", "http_response_status_code"),
}


def exported() -> set[str]:
    """Every sample's name, of metrics that have not been used yet as well."""
    body, _ = Metrics(routes=[]).render("application/openmetrics-text")
    families = text_string_to_metric_families(body.decode())
    return {family.name + ending for family in families for ending in _ENDINGS.get(family.type, ())}


def asked(text: str) -> set[str]:
    return set(_NAME.findall(text)) - _LABELS


def test_the_dashboard_asks_for_what_is_exported() -> None:
    """A panel that asks for a name that is gone stays empty without a word."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    assert len(expressions) > 20
    assert set() == asked("\n".join(expressions)) - exported()


def test_the_alerts_ask_for_what_is_exported() -> None:
    """An alert on a name that is gone never comes."""
    text = ALERTS.read_text()

    assert text.count("- alert:") == 7
    assert set() == asked(text) - exported()


def test_prometheus_takes_the_alerts() -> None:
    """By its own check."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    done = subprocess.run([promtool, "check", "rules", str(ALERTS)], check=False, capture_output=True, text=True)

    assert (0, True) == (done.returncode, "7 rules found" in done.stdout), done.stdout + done.stderr
