"""Keys, limits, queue and deadlines as clients meet them: the application over HTTP, on a scripted engine."""

import asyncio
from contextlib import asynccontextmanager

import openai
import pytest
from aiohttp.test_utils import TestClient, TestServer

from outrider.demo import target_path
from outrider.engine.protocol import FinishReason, Hello, TokenDelta
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.keys import Key, change_keys, digest
from outrider.gateway.limits import Limits
from outrider.gateway.queue import open_queue
from outrider.gateway.state import Gateway
from outrider.gateway.toml_file import ConfigError
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

SECRET, OTHER_SECRET = "sk-right-right-right", "sk-other-other-other"
PROMPT = [20, 21, 22, 23]


class Engine:
    """Emits token 30 as often as asked; waits for `may_run` before each."""

    hello = Hello("folder", 100, 64, (1,), {}, (), 8, ("off",))
    is_connected = True

    def __init__(self) -> None:
        self.submits = []
        self.may_run = asyncio.Event()
        self.may_run.set()
        self.num_running = 0

    async def generate(self, submit, grammar, on_resume):
        self.submits.append(submit)
        self.num_running += 1
        try:
            for index in range(submit.params.max_tokens):
                await self.may_run.wait()
                is_last = index + 1 == submit.params.max_tokens
                yield TokenDelta(submit.request_id, [30], finish_reason=FinishReason.LENGTH if is_last else None)
        finally:
            self.num_running -= 1

    def abort(self, request_id) -> None: ...


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(str(target_path()))


@pytest.fixture
def open_gateway(tokenizer):
    """A gateway on a free port, for as long as the context lasts."""

    @asynccontextmanager
    async def opened(places: int = 64, **settings):
        config = GatewayConfig(**settings)
        metrics = Metrics(routes=ROUTES)
        engine = Engine()
        queue = open_queue(config, lambda: places, metrics.queue)
        gateway = Gateway(config, "demo", engine, tokenizer, None, Tracing(), metrics, Access(config), queue)
        async with TestClient(TestServer(build_app(gateway), handler_cancellation=True)) as client:
            yield gateway, client

    return opened


@pytest.fixture
def key_file(tmp_path):
    """Writes the keys that it is called with."""

    def write(*keys: Key):
        change_keys(tmp_path / "keys.json", lambda _: list(keys))
        return tmp_path / "keys.json"

    return write


def key(secret: str = SECRET, **settings) -> Key:
    return Key(**({"id": "app", "sha256": digest(secret)} | settings))


async def post(client, secret: str | None = SECRET, headers=None, **fields):
    body = {"model": "demo", "prompt": PROMPT, "max_tokens": 2} | fields
    own = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    response = await client.post("/v1/completions", json=body, headers=own | (headers or {}))
    await response.read()
    return response


async def error_of(response) -> dict:
    return (await response.json())["error"]


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        (None, "Missing API key"),
        ("Bearer", "Missing API key"),
        (f"Basic {SECRET}", "Missing API key"),
        (f"Bearer {OTHER_SECRET}", r"Incorrect API key: sk-ot***er"),
        (f"Bearer {digest(SECRET)}", "Incorrect API key"),
        ("Bearer short", "Incorrect API key: ***"),
        ("Bearer caf\xe9-caf\xe9-caf\xe9-caf\xe9", "Incorrect API key: ***"),
    ],
)
async def test_a_wrong_key_is_a_401_that_shows_none_of_it(open_gateway, key_file, authorization, told) -> None:
    """Whatever is sent, the stored hash included."""
    async with open_gateway(keys=key_file(key())) as (_, client):
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await post(client, None, headers)

        error = await error_of(response)
        assert (401, "invalid_api_key") == (response.status, error["code"])
        assert error["message"].startswith(told)
        assert "Bearer" == response.headers["WWW-Authenticate"]


async def test_revoked_keys_are_refused_and_rotated_ones_overlap(open_gateway, key_file) -> None:
    """A revoked key is told from an unknown one by nobody."""
    rotated = key("sk-new", previous_sha256=digest(SECRET), previous_until=2**40)
    over = key("sk-newer", id="b", previous_sha256=digest("sk-over"), previous_until=1)
    file = key_file(rotated, over, key(OTHER_SECRET, id="c", revoked=True))
    async with open_gateway(keys=file) as (_, client):
        statuses = [(await post(client, one)).status for one in ("sk-new", SECRET, "sk-newer", "sk-over", OTHER_SECRET)]

    assert [200, 200, 200, 401, 401] == statuses


async def test_a_key_says_which_models_how_much_context_and_which_priority(open_gateway, key_file) -> None:
    """Its tenant salts the prefix cache, whatever the client writes."""
    file = key_file(
        key(tenant="acme", priority=2, max_context=10),
        key(OTHER_SECRET, id="elsewhere", models=("gpt",)),
    )
    async with open_gateway(keys=file) as (gateway, client):
        await post(client, cache_salt="x/y", priority=-5, max_tokens=None)
        long, refused = await post(client, max_tokens=7), await post(client, OTHER_SECRET)
        listed = [
            (await (await client.get("/v1/models", headers={"Authorization": f"Bearer {one}"})).json())["data"]
            for one in (SECRET, OTHER_SECRET)
        ]

        (submit,) = gateway.engine.submits
        assert ("acme/x/y", 2, 6) == (submit.cache_salt, submit.priority, submit.params.max_tokens)
        assert "this key allows 6 more" in (await error_of(long))["message"]
        assert (403, "model_not_allowed") == (refused.status, (await error_of(refused))["code"])
        assert [1, 0] == [len(models) for models in listed]


async def test_limits_hold_per_key_and_are_settled_by_what_was_used(open_gateway, key_file) -> None:
    """The estimate is given back, and headers are on answers of every kind."""
    limits = Limits(requests_per_minute=3, output_tokens_per_minute=8)
    async with open_gateway(keys=key_file(key(limits=limits), key(OTHER_SECRET, id="b"))) as (_, client):
        answers = [await post(client, stream=True), await post(client), await post(client, "sk-wrong-wrong-wrong")]
        answers += [await post(client), await post(client), await post(client, OTHER_SECRET)]

    assert [200, 200, 401, 200, 429, 200] == [answer.status for answer in answers]
    remaining = [answer.headers.get("x-ratelimit-remaining-requests") for answer in answers]
    assert ["2", "1", None, "0", "0", None] == remaining
    assert 19 <= int(answers[4].headers["Retry-After"]) <= 20


async def test_a_daily_budget_ends_with_insufficient_quota(open_gateway, key_file) -> None:
    """Which clients do not retry."""
    file = key_file(key(limits=Limits(tokens_per_day=13)))
    async with open_gateway(keys=file) as (_, client):
        answers = [await post(client) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert "false" == answers[2].headers["x-should-retry"]
    assert "insufficient_quota" == (await error_of(answers[2]))["code"]


async def test_the_openai_client_waits_as_it_is_told(open_gateway) -> None:
    """And is let in then."""
    async with (
        open_gateway(requests_per_minute=120) as (gateway, client),
        openai.AsyncOpenAI(base_url=str(client.make_url("/v1")), api_key="any", max_retries=3) as one,
    ):
        for _ in range(122):
            await one.completions.create(model="demo", prompt=PROMPT, max_tokens=1)

    assert 122 == len(gateway.engine.submits)


async def test_a_client_that_leaves_is_charged_what_was_made_and_frees_its_lease(open_gateway, key_file) -> None:
    """Prompt and tokens so far, and not the estimate."""
    file = key_file(key(limits=Limits(concurrency=1, tokens_per_day=1000)))
    async with open_gateway(keys=file) as (gateway, client):
        gateway.engine.may_run.clear()
        sending = asyncio.create_task(post(client, stream=True, max_tokens=40))
        while not gateway.engine.num_running:
            await asyncio.sleep(0.001)
        assert 429 == (await post(client)).status
        sending.cancel()
        while gateway.engine.num_running:
            await asyncio.sleep(0.001)
        gateway.engine.may_run.set()
        assert 200 == (await post(client)).status

        local = gateway.access.limiter.local
        assert {"key:app:daily-tokens": 4 + 4 + 2} == {
            meter.rpartition(":")[0]: count for meter, count in local._counts.items()
        }


@pytest.mark.parametrize("where", ["field", "header"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_late_is_a_504_and_aborted(open_gateway, where, stream) -> None:
    """By the field or the header; nothing is left running."""
    async with open_gateway() as (gateway, client):
        gateway.engine.may_run.clear()
        given = {"timeout": 0.05} if where == "field" else {"headers": {"x-request-timeout": "0.05"}}
        response = await post(client, stream=stream, **given)

        assert (504, "deadline_exceeded") == (response.status, (await error_of(response))["code"])
        assert 0 == gateway.engine.num_running


async def test_a_deadline_in_the_middle_of_a_stream_is_its_last_event(open_gateway) -> None:
    """As an error that the OpenAI client raises."""
    async with open_gateway() as (gateway, client):
        body = {"model": "demo", "prompt": PROMPT, "max_tokens": 60, "stream": True, "timeout": 0.2}
        response = await client.post("/v1/completions", json=body)
        await response.content.readuntil(b"\n\n")
        gateway.engine.may_run.clear()
        rest = await response.read()

    assert b"deadline_exceeded" in rest or rest.count(b"data:") > 30


@pytest.mark.parametrize("header", ["soon", "0", "nan", "1e9"])
async def test_a_header_that_is_no_time_is_a_400(open_gateway, header) -> None:
    """Which names it."""
    async with open_gateway() as (_, client):
        response = await post(client, headers={"x-request-timeout": header})

        assert (400, "x-request-timeout") == (response.status, (await error_of(response))["param"])


async def test_requests_wait_in_the_gateway_and_not_in_the_engine(open_gateway, key_file) -> None:
    """One tenant's crowd lets another's request through first, and answers all."""
    file = key_file(key(), key(OTHER_SECRET, id="b"))
    async with open_gateway(places=1, keys=file) as (gateway, client):
        gateway.engine.may_run.clear()
        crowd = [asyncio.create_task(post(client)) for _ in range(20)]
        while gateway.queue._queue.num_waiting < 19:
            await asyncio.sleep(0.001)
        single = asyncio.create_task(post(client, OTHER_SECRET))
        while gateway.queue._queue.num_waiting < 20:
            await asyncio.sleep(0.001)
        assert 1 == gateway.engine.num_running
        gateway.engine.may_run.set()
        answers = await asyncio.gather(*crowd, single)

        assert {200} == {answer.status for answer in answers}
        assert "b/" in [submit.cache_salt for submit in gateway.engine.submits[1:3]]


async def test_keys_and_limits_are_read_anew_without_a_request_lost(open_gateway, key_file, tmp_path, caplog) -> None:
    """A mistake leaves what held, and says where it is."""
    toml = tmp_path / "gateway.toml"
    toml.write_text("[global_limits]\nrequests_per_minute = 1\n")
    async with open_gateway(keys=key_file(key()), config=toml) as (gateway, client):
        gateway.engine.may_run.clear()
        running = asyncio.create_task(post(client))
        while not gateway.engine.num_running:
            await asyncio.sleep(0.001)
        key_file(key(OTHER_SECRET))
        toml.write_text("[global_limits]\nrequests_per_minute = 100\n")
        gateway.access.reload()
        gateway.engine.may_run.set()
        statuses = [(await running).status, (await post(client)).status, (await post(client, OTHER_SECRET)).status]
        toml.write_text("[global_limits]\n\nrequests_per_minut = 100\n")
        gateway.access.reload()
        statuses.append((await post(client, OTHER_SECRET)).status)

    assert [200, 401, 200, 200] == statuses
    assert f"{toml}:3: global_limits.requests_per_minut: there is no such limit" in caplog.text


def test_nobody_from_elsewhere_comes_in_while_there_is_no_key(key_file) -> None:
    """Unless that is said in so many words."""
    with pytest.raises(ConfigError, match="--allow-anonymous"):
        Access(GatewayConfig(host="0.0.0.0"))

    assert not Access(GatewayConfig(host="0.0.0.0", allow_anonymous=True)).needs_key
    assert Access(GatewayConfig(host="0.0.0.0", keys=key_file(key(revoked=True)))).needs_key
    assert not Access(GatewayConfig(host="::1")).needs_key
