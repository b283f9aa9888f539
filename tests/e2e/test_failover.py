"""SIGKILL of an engine under 32 streams: each answer is, token for token, that of an engine that lives."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from server import Server
from tiny_target import counting_text, write_target

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}


def requests() -> list[dict]:
    """Greedy and sampled, with a grammar and without, with speculation and without."""
    found = []
    for index in range(32):
        request = {
            "messages": [{"role": "user", "content": counting_text(index, 12)}],
            "seed": index,
            "temperature": 0.0 if index % 2 else 1.0,
            "max_tokens": 80,
            "extra_body": {"speculation": ["ngram", "suffix"] if index // 2 % 2 else "off"},
        }
        if index // 4 % 2:
            request["response_format"] = FORMAT
        else:
            request["extra_body"]["ignore_eos"] = True
            request["frequency_penalty"] = 0.2
        found.append(request)
    return found


def engines(server: Server) -> list[int]:
    return [pid for pid in server.children() if b"engine" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]


def answers(server: Server, kill: bool) -> list[tuple[str, str | None]]:
    """Texts and reasons to end; an engine is killed once every stream runs, if any is."""
    num_begun = threading.Semaphore(0)

    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=120) as client:

        def answer(request: dict) -> tuple[str, str | None]:
            events = client.chat.completions.create(model="tiny", stream=True, **request)
            text, reason = "", None
            for event in events:
                if not text and event.choices[0].delta.content:
                    num_begun.release()
                text += event.choices[0].delta.content or ""
                reason = event.choices[0].finish_reason
            return text, reason

        with ThreadPoolExecutor(32) as pool:
            futures = [pool.submit(answer, request) for request in requests()]
            for _ in futures:
                num_begun.acquire(timeout=60)
            if kill:
                os.kill(engines(server)[0], signal.SIGKILL)
            return [future.result() for future in futures]


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_streams_survive_the_end_of_their_engine(tmp_path, num_replicas) -> None:
    """On the other engine, or on the same once it is started again."""
    folder = write_target(tmp_path / "tiny")
    server = Server(str(folder), "--served-model-name", "tiny", "--replicas", str(num_replicas), "--threads", "1")
    try:
        undisturbed = answers(server, kill=False)
        assert num_replicas == len(engines(server))
        disturbed = answers(server, kill=True)
    finally:
        status, output = server.stop()

    assert undisturbed == disturbed
    assert "is lost: it is started again" in output
    assert 0 == status
