"""One server for all tests that only talk to it: the demo model in float32, traced to a file."""

import openai
import pytest
from server import Server


@pytest.fixture(scope="session")
def trace_file(tmp_path_factory):
    return tmp_path_factory.mktemp("traces") / "traces.jsonl"


@pytest.fixture(scope="session")
def server(trace_file):
    running = Server("--dtype", "float32", "--trace-file", str(trace_file), "--threads", "1")
    yield running
    status, output = running.stop()
    assert status == 0, output


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client
