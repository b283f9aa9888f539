"""Starting, stopping, and what an operator can get wrong. No process outlives the server."""

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import openai
import pytest
from command import invoke
from server import COMMAND, Server

from outrider.gateway.keys import Key, change_keys, digest, new_secret


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"processes {alive} outlive the server"
        threading.Event().wait(0.02)


def run(*arguments: str) -> tuple[int, str]:
    """Runs a command that should end by itself; status and standard error."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_no_process_outlives_the_server(number) -> None:
    """Whatever signal ends it."""
    server = Server("--no-speculation")
    children = server.children()
    assert len(children) >= 2  # the engine and the compile worker

    status, output = server.stop(number)

    wait_until_gone(children)
    if number != signal.SIGKILL:
        assert (0, True) == (status, "Peak memory" in output)


def test_running_requests_finish_before_the_server_stops() -> None:
    """A stream that has begun ends properly after SIGTERM."""
    server = Server()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        events = client.completions.create(
            model="outrider-demo", prompt="Once", max_tokens=300, stream=True, extra_body={"ignore_eos": True}
        )
        first = next(events)
        server.process.send_signal(signal.SIGTERM)
        rest = list(events)

    assert first.choices[0].finish_reason is None
    assert "length" == rest[-1].choices[0].finish_reason
    assert 0 == server.wait()[0]


def test_a_port_in_use_is_one_line() -> None:
    """Known before the model is loaded."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, error = invoke("serve", "--port", port)

    assert 1 == status
    assert [
        f"outrider: cannot listen on 127.0.0.1:{port}: the port is in use, choose another with --port"
    ] == error.splitlines()


def test_a_missing_checkpoint_is_one_line(tmp_path) -> None:
    """It names the folder."""
    status, error = run("serve", str(tmp_path / "nowhere"), "--port", "0")

    assert 1 == status
    assert 1 == len(error.splitlines())
    assert "nowhere" in error


def test_a_corrupt_checkpoint_is_one_line(tmp_path) -> None:
    """No traceback, and nothing left running."""
    (tmp_path / "config.json").write_text("{")
    status, _, error = invoke("engine", tmp_path, "--listen", f"unix:{tmp_path}/engine.sock")

    assert (1, 1) == (status, len(error.splitlines()))
    assert "config.json" in error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["engine", "--kv-memory", "lots"], "--kv-memory lots"),
        (["engine", "--dtype", "float8"], "float8"),
        (["engine", "--kv-dtype", "int4"], "int4"),
        (["engine", "--kv-memory", "1k"], "--kv-memory"),
        (["engine", "--max-model-len", "1000000"], "--max-model-len"),
        (["serve", "--requests-per-minute", "0"], "requests_per_minute"),
        (["serve", "--host", "a..b"], "a..b"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, named, tmp_path) -> None:
    """It names the option."""
    where = ["--listen", f"unix:{tmp_path}/engine.sock"] if arguments[0] == "engine" else ["--port", "0"]
    status, _, error = invoke(*arguments, *where)

    lines = [line for line in error.splitlines() if " INFO " not in line]
    assert (1, 1) == (status, len(lines)), error
    assert named in lines[0]


def test_a_key_is_asked_for_and_the_limit_holds(tmp_path) -> None:
    """401 without the key; 429 with a Retry-After beyond the limit."""
    server = Server("--api-key", "sk-right", "--requests-per-minute", "2")
    body = {"model": "outrider-demo", "prompt": "a", "max_tokens": 1}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.completions.create(**body)
        assert "invalid_api_key" == refused.value.code
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-right", max_retries=0) as client:
        client.completions.create(**body)
        client.completions.create(**body)
        with pytest.raises(openai.RateLimitError) as limited:
            client.completions.create(**body)
    with urllib.request.urlopen(f"{server.url}/health") as health:
        assert 200 == health.status
    server.stop()

    headers = limited.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 30
    assert ("2", "0") == (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"])
    assert "Please try again in" in limited.value.message


def test_keys_and_limits_are_read_again_on_sighup(tmp_path) -> None:
    """The streams that run go on; a revoked key is refused from then on, and a new limit holds."""
    config = tmp_path / "gateway.toml"
    config.write_text(f'keys = "{tmp_path}/keys.json"\n[global_limits]\nrequests_per_minute = 1000\n')
    secrets = {name: new_secret() for name in ("first", "second")}
    keys = [Key(id=name, sha256=digest(secret)) for name, secret in secrets.items()]
    change_keys(tmp_path / "keys.json", lambda _: keys)
    server = Server("--config", str(config))
    first, second = (openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) for key in secrets.values())
    body = {"model": "outrider-demo", "prompt": "a"}
    with first, second:
        stream = first.completions.create(**body, max_tokens=300, stream=True, extra_body={"ignore_eos": True})
        begun = next(iter(stream))
        change_keys(tmp_path / "keys.json", lambda _: keys[1:])
        config.write_text(config.read_text().replace("1000", "2"))
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while not is_refused(first, body):
            assert time.monotonic() < deadline, "SIGHUP changed nothing"
        ended = [chunk.choices[0].finish_reason for chunk in stream]
        headers = second.completions.with_raw_response.create(**body, max_tokens=1).headers
    status, _ = server.stop()

    assert begun.choices[0].finish_reason is None
    assert "length" == ended[-1]
    assert "2" == headers["x-ratelimit-limit-requests"]
    assert 0 == status


def is_refused(client, body) -> bool:
    try:
        client.completions.create(**body, max_tokens=1)
    except openai.AuthenticationError:
        return True
    return False


def test_the_halves_run_apart(tmp_path) -> None:
    """`outrider engine` and `outrider gateway`, joined by a Unix socket."""
    path = f"unix:{tmp_path}/engine.sock"
    engine = subprocess.Popen([*COMMAND, "engine", "--listen", path], stderr=subprocess.PIPE, text=True)
    assert engine.stderr is not None
    for line in engine.stderr:
        if "the KV cache holds" in line:
            break
    gateway = subprocess.Popen(
        [*COMMAND, "gateway", "--engine", path, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert gateway.stdout is not None
    url = next(line for line in gateway.stdout if "at http" in line).split(" at ")[1].strip()
    with urllib.request.urlopen(f"{url}/models") as response:
        models = json.load(response)
    for process in (gateway, engine):
        process.terminate()
        process.communicate(timeout=30)

    assert 1 == len(models["data"])
    assert (0, 0) == (gateway.returncode, engine.returncode)
