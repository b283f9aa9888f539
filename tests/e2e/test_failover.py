"""SIGKILL of an engine under 32 streams: each answer is, token for token, that of an engine that lives."""

import os
import re
import signal
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
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
            "messages": [{"role": "user", "content": counting_text(index, 9)}],
            "seed": index,
            "temperature": 0.0 if index % 2 else 1.0,
            "max_tokens": 100,
            "extra_body": {"speculation": {"methods": ["ngram", "suffix"]} if index // 2 % 2 else "off"},
        }
        if index // 4 % 2:
            request["response_format"] = FORMAT
        else:
            request["extra_body"]["ignore_eos"] = True
            request["frequency_penalty"] = 0.2
        found.append(request)
    return found


def eldest_engine(server: Server) -> int:
    """The one that has been there longest: others may still be loading."""
    return min(pid for pid in server.children() if b"engine" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


def answers(server: Server, kill: bool) -> list[tuple[str, str | None]]:
    """Texts and reasons to end; an engine is killed once every stream runs, if any is."""
    num_begun = threading.Semaphore(0)

    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=120) as client:

        def answer(request: dict) -> tuple[str, str | None]:
            text, reason = "", None
            try:
                for event in client.chat.completions.create(model="tiny", stream=True, **request):
                    if not text and event.choices[0].delta.content:
                        num_begun.release()
                    text += event.choices[0].delta.content or ""
                    reason = event.choices[0].finish_reason
            finally:
                if not text:
                    num_begun.release()
            return text, reason

        with ThreadPoolExecutor(32) as pool:
            futures = [pool.submit(answer, request) for request in requests()]
            for _ in futures:
                num_begun.acquire(timeout=60)
            if kill:
                os.kill(eldest_engine(server), signal.SIGKILL)
            return [future.result() for future in futures]


def num_resumed(server: Server) -> int:
    """How many requests were moved so far."""
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        found = re.findall(rb'outrider_resumed_requests_total{reason="lost"} (\d+)', response.read())
    return sum(int(count) for count in found)


def test_streams_survive_the_end_of_their_engine(tmp_path) -> None:
    """On the other engine; and when that ends too, on the first that is started again."""
    folder = write_target(tmp_path / "tiny")
    server = Server(str(folder), "--served-model-name", "tiny", "--replicas", "2", "--threads", "1")
    try:
        undisturbed = answers(server, kill=False)
        on_the_other = answers(server, kill=True)
        moved = num_resumed(server)
        after_a_restart = answers(server, kill=True)
        moved_again = num_resumed(server) - moved
    finally:
        status, output = server.stop()

    assert undisturbed == on_the_other
    assert undisturbed == after_a_restart
    assert (0, True, True) == (status, moved >= 8, moved_again >= 16), (moved, moved_again, output)
