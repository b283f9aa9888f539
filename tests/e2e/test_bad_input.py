"""Everything a client can get wrong: OpenAI's error shape, the right status, the field's name, and the server lives."""

import json
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

CHAT = {"model": "outrider-demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def call(server, path: str, body: object = None, method: str = "POST") -> tuple[int, dict]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(server.url + path, raw, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def schema_format(schema: object) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.fixture(autouse=True)
def the_server_goes_on(server):
    """After each mistake a good request is answered."""
    yield
    assert 200 == call(server, "/v1/chat/completions", CHAT)[0]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        (b"{not json", 400, None),
        ({"temprature": 0.5}, 400, "temprature"),
        ({"max_tokens": "ten"}, 400, "max_tokens"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400, "messages"),
        ({"max_tokens": 100_000}, 400, "max_tokens"),
        ({"model": "nobody"}, 404, "model"),
        ({"response_format": schema_format({"type": "objekt"})}, 400, "response_format"),
        ({"response_format": schema_format({"$ref": "https://example.com/a"})}, 400, "response_format"),
        ({"max_validation_retries": -1}, 400, "max_validation_retries"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema"),
        ({"speculation": "telepathy"}, 400, "speculation"),
        ({"speculation": "ngram,suffix"}, 400, "speculation"),
        ({"speculation": {"methods": ["auto", "ngram"]}}, 400, "speculation"),
        ({"speculation": {"methods": ["off", "ngram"]}}, 400, "speculation"),
        ({"speculation": {"methods": ["prediction"]}}, 400, "speculation"),
        ({"speculation": {"methods": ["ngram"], "min_probability": 2}}, 400, "speculation.min_probability"),
        ({"speculation": {"methods": ["ngram"], "tree": 1}}, 400, "speculation.tree"),
        ({"return_token_origins": "yes"}, 400, "return_token_origins"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"stop_token_ids": [10**9]}, 400, "stop_token_ids"),
        ({"min_tokens": 9}, 400, "min_tokens"),
    ],
)
def test_a_wrong_chat_request_names_its_field(server, change, status, param) -> None:
    """`message`, `type`, `param` and `code`, as OpenAI's clients read them."""
    got, answer = call(server, "/v1/chat/completions", change if isinstance(change, bytes) else {**CHAT, **change})

    assert (status, param) == (got, answer["error"]["param"])
    assert {"message", "type", "param", "code"} == answer["error"].keys()
    assert answer["error"]["code"] is None or isinstance(answer["error"]["code"], str)


def test_a_keyword_that_is_not_enforced_is_refused_by_name(server) -> None:
    """Where `strict` asks for a guarantee; never ignored."""
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {}, "uniqueItems": True}}}
    strict = schema_format(schema)
    strict["json_schema"]["strict"] = True
    _, answer = call(server, "/v1/chat/completions", {**CHAT, "response_format": strict})

    assert "uniqueItems" in answer["error"]["message"]


def test_an_error_comes_with_its_own_status_also_on_streams(server) -> None:
    """Never a 200 that turns out to be an error at once."""
    status, answer = call(server, "/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 100_000})

    assert (400, "context_length_exceeded") == (status, answer["error"]["code"])


def test_a_body_over_the_limit_is_refused(server) -> None:
    """413, not a broken connection."""
    status, answer = call(server, "/v1/chat/completions", b" " * (5 * 2**20))

    assert (413, "request_too_large") == (status, answer["error"]["code"])


@pytest.mark.parametrize(("path", "method", "status"), [("/v2/nothing", "GET", 404), ("/v1/completions", "GET", 405)])
def test_unknown_paths_and_methods_are_json_too(server, path, method, status) -> None:
    """The message names both."""
    got, answer = call(server, path, method=method)

    assert (status, "unknown_url") == (got, answer["error"]["code"])
    assert f"{method} {path}" in answer["error"]["message"]


@pytest.mark.parametrize("prompt", [[], [[1], [2]], [10**9], ["a", "b"], [True]])
def test_a_prompt_that_cannot_be_served_is_refused(server, prompt) -> None:
    """Empty, several, or not of this vocabulary."""
    status, answer = call(server, "/v1/completions", {"model": "outrider-demo", "prompt": prompt, "max_tokens": 4})

    assert (400, "prompt") == (status, answer["error"]["param"])


def test_a_body_that_is_not_what_its_encoding_says_is_refused(server) -> None:
    """400, in the usual shape."""
    headers = {"Content-Encoding": "gzip"}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", b"no gzip", headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value as error:
        assert (400, "invalid_request_error") == (error.code, json.loads(error.read())["error"]["type"])


def test_a_host_header_of_nonsense_harms_nobody(server) -> None:
    """The trace lacks an address; the answer is as ever."""
    request = urllib.request.Request(f"{server.url}/v1/models", headers={"Host": "x:99999999"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert 200 == response.status


@pytest.mark.parametrize(
    "hostile",
    [
        {"top_p": 1e-320, "temperature": 2},
        {"temperature": 1e-320},
        {"repetition_penalty": 100, "frequency_penalty": 2},
        {"logit_bias": dict.fromkeys(map(str, range(1000)), -100)},
        {"stop_token_ids": list(range(1000)), "min_tokens": 3},
        {"chat_template_kwargs": {"chat_template": "{% for i in range(10**9) %}{% endfor %}"}},
        {"chat_template_kwargs": {"tokenize": True}},
    ],
)
def test_an_odd_request_is_answered_and_leaves_its_neighbours_alone(server, hostile) -> None:
    """A stream that runs beside it ends as it would have."""
    stream = {"model": "outrider-demo", "prompt": "Once", "max_tokens": 120, "seed": 1, "ignore_eos": True}
    _, expected = call(server, "/v1/completions", stream)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(call, server, "/v1/completions", stream)
        status, _ = call(server, "/v1/chat/completions", {**CHAT, **hostile})

    assert status in {200, 400}
    assert expected["choices"] == running.result()[1]["choices"]


def test_two_requests_with_one_request_id_get_their_own_answers(server) -> None:
    """The id is the client's, and clients repeat themselves."""

    def ask(prompt: str) -> str:
        body = json.dumps({"model": "outrider-demo", "prompt": prompt, "max_tokens": 60, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json", "X-Request-Id": "same"}
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/completions", body, headers)) as response:
            assert "same" == response.headers["x-request-id"]
            return json.load(response)["choices"][0]["text"]

    prompts = ["Once upon a time", "The train"]
    alone = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor() as pool:
        together = list(pool.map(ask, prompts))

    assert alone == together


def test_a_torn_request_harms_nobody(server) -> None:
    """A client that leaves in the middle of its own body."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
