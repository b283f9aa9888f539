"""GET /traces: what a page draws, and who may see it."""

import aiohttp
import pytest
from scripted_gateway import scripted_gateway

from outrider.gateway.config import GatewayConfig
from outrider.telemetry.options import TraceOptions
from outrider.telemetry.tracing import Tracing

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def served(tmp_path):
    """Its address, and a session; three requests have been answered, of which two are kept."""
    config, tracing = GatewayConfig(api_key="k"), Tracing(TraceOptions(recent=2))
    async with scripted_gateway(tmp_path, tracing, config=config) as (url, _), aiohttp.ClientSession() as session:
        key = {"Authorization": "Bearer k"}
        for _ in range(3):
            async with session.post(f"{url}/v1/chat/completions", json=ASKED, headers=key) as response:
                await response.read()
        async with session.get(f"{url}/v1/models", headers=key) as models:
            await models.read()
        yield url, session, response.headers["traceresponse"].split("-")[1]


async def test_the_newest_requests_come_first(served) -> None:
    """Only those that asked the model; each names its trace, and its spans lie within its time."""
    url, session, newest = served
    async with session.get(f"{url}/traces") as response:
        told = await response.json()

    assert (2, 2) == (told["capacity"], len(told["traces"]))
    trace = told["traces"][0]
    assert (newest, "UNSET", "POST /v1/chat/completions") == (trace["trace_id"], trace["status"], trace["name"])
    assert {"trace_id", "start", "duration_ms", "name", "status", "spans"} == trace.keys()
    server = trace["spans"][0]
    assert {
        *("span_id", "parent_id", "name", "kind", "start", "start_ms", "duration_ms", "status", "attributes", "events")
    } == server.keys()
    assert (0.0, None, trace["duration_ms"]) == (server["start_ms"], server["parent_id"], server["duration_ms"])
    assert {"name", "at_ms", "attributes"} == trace["spans"][1]["events"][0].keys()


async def test_one_trace_and_a_few(served) -> None:
    """The same spans each time."""
    url, session, newest = served
    async with session.get(f"{url}/traces?trace_id={newest}") as response:
        one = await response.json()
    async with session.get(f"{url}/traces?limit=1") as response:
        few = await response.json()

    assert one == few


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=99999999999", "trace_id=7"])
async def test_a_wrong_parameter_is_named(served, query: str) -> None:
    """With what it may be."""
    url, session, _ = served
    async with session.get(f"{url}/traces?{query}") as response:
        error = (await response.json())["error"]

    assert (400, query.split("=", maxsplit=1)[0]) == (response.status, error["param"])


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "192.0.2.1"}, {"Host": "evil.test"}])
async def test_others_need_the_key(served, headers: dict[str, str]) -> None:
    """Who comes through a proxy of this machine, or as a web page that gave itself this machine's address."""
    url, session, _ = served
    statuses = []
    for key in ("k", "wrong"):
        async with session.get(f"{url}/traces", headers={**headers, "Authorization": f"Bearer {key}"}) as response:
            statuses.append(response.status)

    assert [200, 403] == statuses
