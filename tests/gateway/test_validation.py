"""Answers that are checked when they are whole: over HTTP, with an engine that says what the test wants."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from outrider.engine.protocol import FinishReason, Hello, RequestFigures, Submit, TokenDelta
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.queue import open_queue
from outrider.gateway.state import Gateway
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.structured.finding import Finding
from outrider.structured.plain import left_over
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

TARGET = Path(__file__).parents[2] / "demo" / "target"
STOP = 2
SCHEMA = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
LEFT = Finding("#", "uniqueItems", "validated", "is not enforced by the grammar: remove it")
GOOD, BAD = "[1,2]", "[1,1]"


class SayingEngine:
    """Answers each request with the next of its texts, whole or cut for its length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.hello = Hello(str(TARGET), 8192, 1000, (STOP,), {}, (), 8, ("off",))
        self.is_connected = True
        self.texts: list[str] = []
        self.submits: list[Submit] = []
        self.finish = FinishReason.STOP
        self._tokenizer = tokenizer

    async def generate(self, submit: Submit, grammar: CompiledGrammar | None, on_resume) -> AsyncIterator[TokenDelta]:
        self.submits.append(submit)
        text = self.texts[min(len(self.submits), len(self.texts)) - 1]
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        yield TokenDelta(submit.request_id, ids)
        figures = RequestFigures(0.0, 0.0, 0.0, 1, 0)
        last = [STOP] if self.finish is FinishReason.STOP else []
        yield TokenDelta(submit.request_id, last, finish_reason=self.finish, figures=figures)

    def abort(self, request_id: str) -> None:
        raise AssertionError("nothing is left early here")


class LeavingCompiler:
    """Compiles nothing, and says that uniqueItems is left to the validator."""

    def is_cached(self, constraint: Constraint) -> bool:
        return True

    async def compile(self, constraint: Constraint) -> CompiledGrammar:
        left = (LEFT,) if "uniqueItems" in str(constraint.value) else ()
        return CompiledGrammar(constraint.key, "none", b"", left=left, schema=constraint.text)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    tokenizer = Tokenizer(str(TARGET))
    tracing = Tracing.from_environment(None)
    engine: Any = SayingEngine(tokenizer)
    compiler: Any = LeavingCompiler()
    config, metrics = GatewayConfig(), Metrics(routes=ROUTES, models=["m"])
    queue = open_queue(config, lambda: 8, metrics.queue)
    made = Gateway(config, "m", engine, tokenizer, compiler, tracing, metrics, Access(config), queue)
    yield made
    await made.checker.close()
    tracing.close()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(build_app(gateway))) as opened:
        yield opened


def body(*, strict: bool = False, schema: Any = SCHEMA, **options: Any) -> dict[str, Any]:
    named = {"name": "x", "schema": schema, "strict": strict}
    return {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": named},
        "temperature": 1,
        "seed": 5,
        "return_metrics": True,
        **options,
    }


async def ask(client: TestClient, gateway: Gateway, texts: list[str], **options: Any) -> tuple[int, dict[str, Any]]:
    gateway.engine.texts = texts
    response = await client.post("/v1/chat/completions", json=body(**options))
    return response.status, await response.json()


def counted(gateway: Gateway) -> dict[str, str]:
    lines = gateway.metrics.render("")[0].decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("outrider_validation"))


async def test_an_invalid_answer_is_drawn_again(client, gateway) -> None:
    """With a seed derived from its own; only the answer that passes is returned, and all tokens are counted."""
    _, once = await ask(client, gateway, [GOOD])
    gateway.engine.submits.clear()
    status, answer = await ask(client, gateway, [BAD, BAD, GOOD])
    seeds = [submit.params.seed for submit in gateway.engine.submits]
    structured = answer["metrics"]["structured_output"]

    assert (200, GOOD) == (status, answer["choices"][0]["message"]["content"])
    assert 3 * once["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert 5 == seeds[0]
    assert 3 == len(set(seeds))
    assert ("validated", 2, "uniqueItems") == (
        structured["route"],
        structured["retries"],
        structured["left"][0]["keyword"],
    )
    assert "validation_errors" not in answer["choices"][0]
    assert "2.0" == counted(gateway)["outrider_validation_retries_total"]
    assert "2.0" == counted(gateway)['outrider_validations_total{outcome="invalid"}']


async def test_an_answer_that_stays_invalid_is_returned_with_its_errors(client, gateway) -> None:
    """After as many retries as the request allows; the client sees what is wrong, and where."""
    status, answer = await ask(client, gateway, [BAD], max_validation_retries=1)
    (error,) = answer["choices"][0]["validation_errors"]

    assert (200, BAD, 2) == (status, answer["choices"][0]["message"]["content"], len(gateway.engine.submits))
    assert ("", "uniqueItems") == (error["path"], error["keyword"])


async def test_what_cannot_come_out_differently_is_not_drawn_again(client, gateway) -> None:
    """At temperature 0 every attempt is the same."""
    await ask(client, gateway, [BAD, GOOD], temperature=0)

    assert 1 == len(gateway.engine.submits)


async def test_a_retry_is_a_request_to_the_rate_limit(client, gateway) -> None:
    """When it has none left, the answer is returned as it is."""
    gateway.access = Access(GatewayConfig(requests_per_minute=2))
    _, answer = await ask(client, gateway, [BAD], max_validation_retries=9)

    assert 2 == len(gateway.engine.submits)
    assert answer["choices"][0]["validation_errors"]


async def test_an_answer_cut_for_its_length_says_only_that(client, gateway) -> None:
    """It is not whole, and neither checked nor drawn again."""
    gateway.engine.finish = FinishReason.LENGTH
    _, answer = await ask(client, gateway, ["[1,"])

    assert ("length", 1) == (answer["choices"][0]["finish_reason"], len(gateway.engine.submits))
    assert "validation_errors" not in answer["choices"][0]


async def test_each_answer_of_several_is_checked(client, gateway) -> None:
    """Those that fail are drawn again alone."""
    _, answer = await ask(client, gateway, [GOOD, BAD, GOOD], n=2)

    assert [GOOD, GOOD] == [choice["message"]["content"] for choice in answer["choices"]]
    assert 3 == len(gateway.engine.submits)


@pytest.mark.parametrize(("text", "ends_well"), [(GOOD, True), (BAD, False)])
async def test_a_stream_ends_with_an_error_when_the_check_fails(client, gateway, text, ends_well) -> None:
    """What was sent cannot be recalled, so the stream has no finish reason but says what is wrong."""
    gateway.engine.texts = [text]
    response = await client.post("/v1/chat/completions", json=body(stream=True, return_metrics=False))
    events = [json.loads(line[6:]) for line in (await response.text()).split("\n\n") if line[6:7] == "{"]
    sent = "".join(event["choices"][0]["delta"].get("content", "") for event in events if "choices" in event)

    assert (200, text) == (response.status, sent)
    if ends_well:
        assert "stop" == events[-1]["choices"][0]["finish_reason"]
    else:
        assert "validation_failed" == events[-1]["error"]["code"]
        assert "non-unique" in events[-1]["error"]["message"]
        assert 1 == len(gateway.engine.submits)


async def test_strict_is_exact_or_a_400(client, gateway) -> None:
    """Every keyword that would be left to the validator is named, in OpenAI's error object."""
    status, answer = await ask(client, gateway, [GOOD], strict=True)
    error = answer["error"]

    assert (400, "response_format", "invalid_json_schema", "invalid_request_error") == (
        status,
        error["param"],
        error["code"],
        error["type"],
    )
    assert error["message"].startswith("Invalid schema for response_format 'x': `uniqueItems` at `#`")
    assert 200 == (await ask(client, gateway, ["[]"], strict=True, schema={"type": "array"}))[0]


async def test_the_exact_route_is_told_and_not_checked(client, gateway) -> None:
    """The grammar is trusted."""
    _, answer = await ask(client, gateway, ["7"], schema={"type": "integer"})

    assert {"route": "exact", "left": [], "retries": 0} == answer["metrics"]["structured_output"]
    assert "Checker(process None)" == repr(gateway.checker)


@pytest.mark.parametrize(
    ("schema", "status", "route"),
    [
        ({"type": "integer"}, 200, "exact"),
        (SCHEMA, 200, "validated"),
        ({"$ref": "https://example.com/a"}, 200, "refused"),
        ({"type": "objekt"}, 400, None),
        ([], 400, None),
    ],
)
async def test_schemas_are_audited_over_http(client, schema, status, route) -> None:
    """With a finding for each keyword; what is no schema is a 400 that names the field."""
    response = await client.post("/v1/schemas/audit", json={"schema": schema})
    answer = await response.json()

    assert (status, route) == (response.status, answer.get("route"))
    if route is None:
        assert "schema" == answer["error"]["param"]
    else:
        assert schema.keys() == {finding["keyword"] for finding in answer["findings"]}
        assert {"exact": "none", "validated": "none", "refused": ""}[route] == answer["backend"]


async def test_the_audit_tells_what_has_no_grammar_for_its_cost(client, gateway) -> None:
    """As a request would find out: the schema is validated, or with `strict` refused."""
    slow = {"type": "integer", "description": "slow"}
    compile_one = gateway.compiler.compile

    async def compile_slowly(constraint: Constraint) -> CompiledGrammar:
        return msgspec.structs.replace(await compile_one(constraint), left=(left_over("it is slow: simplify it"),))

    gateway.compiler.compile = compile_slowly
    answer = await (await client.post("/v1/schemas/audit", json={"schema": slow})).json()
    status, refused = await ask(client, gateway, ["1"], strict=True, schema=slow)

    assert ("validated", "it is slow: simplify it") == (answer["route"], answer["findings"][-1]["reason"][-23:])
    assert (400, "invalid_json_schema") == (status, refused["error"]["code"])
    assert "is slow: simplify it" in refused["error"]["message"]
    gateway.engine.submits.clear()
    _, answer = await ask(client, gateway, ['"x"', "7"], schema=slow)
    assert ("7", "validated") == (
        answer["choices"][0]["message"]["content"],
        answer["metrics"]["structured_output"]["route"],
    )
