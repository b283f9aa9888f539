"""Prometheus itself scrapes `/metrics` and answers what the dashboard and the alerts ask, where it is installed."""

import asyncio
import json
import shutil
import socket
from pathlib import Path

import aiohttp
import pytest
from scripted_gateway import scripted_gateway

from outrider.telemetry.options import TraceOptions
from outrider.telemetry.tracing import Tracing

DASHBOARDS = Path(__file__).parents[2] / "telemetry" / "dashboards"
CHAT = "/v1/chat/completions"
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs: [{{job_name: outrider, static_configs: [{{targets: ["{target}"]}}]}}]
"""

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


async def get(session: aiohttp.ClientSession, url: str, **parameters: str):
    async with session.get(url, params=parameters) as response:
        return (await response.json())["data"]


async def test_prometheus_reads_everything_and_the_exemplars_find_their_traces(tmp_path) -> None:
    """No warning in its log, no expression that it does not take, and no exemplar without a trace."""
    file = tmp_path / "traces.jsonl"
    tracing = Tracing.from_environment(TraceOptions(trace_file=file, share=0.5))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}/api/v1"
    async with scripted_gateway(tmp_path, tracing) as (url, _), aiohttp.ClientSession() as session:
        settings = CONFIG.format(rules=DASHBOARDS / "alerts.yml", target=url.removeprefix("http://"))
        (tmp_path / "prometheus.yml").write_text(settings)
        process = await asyncio.create_subprocess_exec(
            *("prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn"),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                found: list = []
                while len(found) < 2:  # scrapes with requests before them, for rates
                    for _ in range(5):
                        async with session.post(url + CHAT, json=ASKED) as response:
                            await response.read()
                    await asyncio.sleep(0.5)
                    try:
                        query = "gen_ai_server_request_duration_seconds_count[1m]"
                        data = await get(session, f"{base}/query", query=query)
                    except aiohttp.ClientError:
                        continue  # it is not listening yet
                    found = [value for series in data["result"] for value in series["values"]]
            (target,) = (await get(session, f"{base}/targets"))["activeTargets"]
            query = "gen_ai_server_request_duration_seconds_bucket"
            window = {"start": "0", "end": "4102444800"}
            exemplars = await get(session, f"{base}/query_exemplars", query=query, **window)
            (rules,) = (await get(session, f"{base}/rules"))["groups"]
            dashboard = json.loads((DASHBOARDS / "grafana.json").read_text())
            answers = {}
            for panel in dashboard["panels"]:
                for item in panel["targets"]:
                    expression = item["expr"].replace("$__rate_interval", "1m")
                    async with session.get(f"{base}/query", params={"query": expression}) as response:
                        answers[expression] = (await response.json())["status"]
        finally:
            process.terminate()
            _, log = await process.communicate()
    kept = {json.loads(line)["trace_id"] for line in file.read_text().splitlines()}
    named = {one["labels"]["trace_id"] for series in exemplars for one in series["exemplars"]}

    assert ("up", "") == (target["health"], target["lastError"])
    assert [] == [line for line in log.splitlines() if b"level=" in line and b"SIGTERM" not in line]
    assert {"success"} == set(answers.values())
    assert {"ok"} == {rule["health"] for rule in rules["rules"]} - {"unknown"}
    assert named
    assert named <= kept
