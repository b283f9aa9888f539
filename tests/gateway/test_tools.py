"""Tools and reasoning over HTTP: the whole gateway, with an engine that says what the test wants it to say."""

import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import openai
import pytest
from aiohttp.test_utils import TestServer

from outrider.demo import target_path
from outrider.engine.answer_text import AnswerText
from outrider.engine.protocol import FinishReason, Hello, TokenDelta
from outrider.engine.tokenizer import Tokenizer
from outrider.gateway.access import Access
from outrider.gateway.app import ROUTES, build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.queue import open_queue
from outrider.gateway.state import Gateway
from outrider.structured.backends import Backends
from outrider.structured.constraint import CompiledGrammar
from outrider.structured.grammar import GrammarLoader
from outrider.structured.vocabulary import tokenizer_info
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.tracing import Tracing

HELLO = Hello(str(target_path()), 8192, 2048, (2,), {}, (), 0, ("off",))
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
UNENFORCED = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
MALFORMED = {"type": "object", "required": 3}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>{"name":"weather","arguments":{"city":"Paris","days":3}}</tool_call>'
OTHER = '<tool_call>{"name":"clock","arguments":{}}</tool_call>'
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


class HereCompiler:
    """Compiles without a process."""

    def __init__(self) -> None:
        self._backends = Backends(tokenizer_info(HELLO.model_path, HELLO.vocab_size, HELLO.eos_token_ids))

    def is_cached(self, constraint) -> bool:
        return False

    async def compile(self, constraint) -> CompiledGrammar:
        compiled = self._backends.compile(constraint.kind, constraint.text)
        parts = (compiled.backend, compiled.data, compiled.reason, compiled.left)
        return CompiledGrammar(constraint.key, *parts, constraint.text)


class SayingEngine:
    """Says `text`, three tokens at a time, and refuses what the request's grammar does not allow."""

    hello = HELLO
    is_connected = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.text = ""
        self.limit: int | None = None  # of the tokens
        self.prompt = ""
        self.grammar: CompiledGrammar | None = None
        self._tokenizer = tokenizer
        self._loader = GrammarLoader(HELLO.model_path, HELLO.vocab_size, HELLO.eos_token_ids)

    async def generate(self, submit, grammar, on_resume) -> AsyncGenerator[TokenDelta]:
        self.prompt, self.grammar = self._tokenizer.decode(submit.prompt_ids), grammar
        ids = self._tokenizer.encode(self.text, add_special_tokens=False)[: self.limit]
        reason = FinishReason.STOP if self.limit is None else FinishReason.LENGTH
        ids += [*HELLO.eos_token_ids] if self.limit is None else []
        if grammar is not None:
            self._loader.load(grammar)
            matcher = self._loader.matcher(grammar.key)
            assert all(map(matcher.accept, ids)), f"the grammar does not allow {self.text!r}"
        for start in range(0, len(ids), 3):
            is_last = start + 3 >= len(ids)
            yield TokenDelta(submit.request_id, ids[start : start + 3], finish_reason=reason if is_last else None)

    def abort(self, request_id) -> None:
        """Nothing runs."""


@pytest.fixture(scope="module")
def parts():
    tokenizer = Tokenizer(HELLO.model_path)
    return SimpleNamespace(tokenizer=tokenizer, compiler=HereCompiler(), engine=SayingEngine(tokenizer))


@pytest.fixture
async def connect(parts):
    """An engine that says a text, and a client of a gateway with some settings before it."""
    opened = []

    async def start(text="", *, limit=None, **settings):
        engine = parts.engine
        engine.text, engine.limit = text, limit
        metrics = Metrics(routes=ROUTES)
        metrics.add_model("m")
        config = GatewayConfig(**settings)
        tracing = Tracing.from_environment(None)
        access, queue = Access(config), open_queue(config, lambda: 8, metrics.queue)
        gateway = Gateway(config, "m", engine, parts.tokenizer, parts.compiler, tracing, metrics, access, queue)
        server = TestServer(build_app(gateway))
        await server.start_server()
        client = openai.AsyncOpenAI(base_url=str(server.make_url("/v1")), api_key="any", max_retries=0)
        opened.append((server, client, tracing, gateway.checker))
        return engine, client.chat.completions

    yield start
    for server, client, tracing, checker in opened:
        await client.close()
        await server.close()
        tracing.close()
        await checker.close()


def called(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


async def test_calls_are_told_whole(connect) -> None:
    """Content, calls with ids of their own, and the reason to end."""
    engine, chat = await connect(f"Let me look.\n{CALL}\n{OTHER}")
    completion = await chat.create(model="m", messages=ASK, tools=[WEATHER, CLOCK])

    choice = completion.choices[0]
    assert ("Let me look.", "tool_calls") == (choice.message.content, choice.finish_reason)
    assert [("weather", {"city": "Paris", "days": 3}), ("clock", {})] == called(choice.message)
    assert 2 == len({call.id for call in choice.message.tool_calls})
    assert '{"name":"weather","description":"Of a city","parameters":{' in engine.prompt


async def test_streamed_calls_are_told_once_and_in_pieces(connect) -> None:
    """Id, type and name stand in the first delta of a call alone, and indices have no gaps."""
    _, chat = await connect(f"{CALL}\n{OTHER}")
    stream = await chat.create(model="m", messages=ASK, tools=[WEATHER, CLOCK], tool_choice="required", stream=True)
    chunks = [chunk async for chunk in stream]
    deltas = [
        call.model_dump(exclude_unset=True) for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()
    ]

    by_index = {index: [one for one in deltas if one["index"] == index] for index in (0, 1)}
    assert len(deltas) == sum(map(len, by_index.values())) > 4
    for own in by_index.values():
        assert {"index", "id", "type", "function"} == own[0].keys()
        assert all({"index", "function"} == one.keys() for one in own[1:])
        assert ["name" in one["function"] for one in own] == [True] + [False] * (len(own) - 1)
    arguments = ["".join(one["function"].get("arguments", "") for one in own) for own in by_index.values()]
    assert ['{"city":"Paris","days":3}', "{}"] == arguments
    assert ["tool_calls"] == [one.choices[0].finish_reason for one in chunks if one.choices[0].finish_reason]
    assert "" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_the_clients_own_helper_gathers_a_stream(connect) -> None:
    """Of several answers at once."""
    _, chat = await connect(f"So: {CALL}\n{OTHER}")
    async with chat.stream(model="m", messages=ASK, tools=[WEATHER, CLOCK], n=2) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
        completion = await stream.get_final_completion()

    expected = [("weather", {"city": "Paris", "days": 3}), ("clock", {})]
    assert [expected] * 2 == [called(choice.message) for choice in completion.choices]
    assert ["So:"] * 2 == [choice.message.content for choice in completion.choices]
    assert 4 == len(done)


async def test_a_call_cut_short_ends_by_length(connect) -> None:
    """Its arguments so far are told."""
    _, chat = await connect(CALL, limit=12)
    choice = (await chat.create(model="m", messages=ASK, tools=[WEATHER])).choices[0]

    assert "length" == choice.finish_reason
    assert '{"city":"Paris","days":3}'.startswith(choice.message.tool_calls[0].function.arguments)


async def test_a_named_function_ends_with_stop(connect) -> None:
    """As OpenAI has it: the model did not choose to call. No other function may be called."""
    engine, chat = await connect(CALL)
    named = {"type": "function", "function": {"name": "weather"}}
    choice = (await chat.create(model="m", messages=ASK, tools=[CLOCK, WEATHER], tool_choice=named)).choices[0]

    assert ("stop", None) == (choice.finish_reason, choice.message.content)
    assert ["weather"] == [name for name, _ in called(choice.message)]
    engine.text = OTHER
    with pytest.raises(openai.InternalServerError):
        await chat.create(model="m", messages=ASK, tools=[CLOCK, WEATHER], tool_choice=named)


async def test_none_leaves_the_text_alone(connect) -> None:
    """The tools are declared to the model, which may not call them."""
    engine, chat = await connect("It rains.")
    message = (await chat.create(model="m", messages=ASK, tools=[WEATHER], tool_choice="none")).choices[0].message

    assert ("It rains.", None) == (message.content, message.tool_calls)
    assert "weather" in engine.prompt
    engine.text = CALL
    with pytest.raises(openai.InternalServerError):
        await chat.create(model="m", messages=ASK, tools=[WEATHER], tool_choice="none")


async def test_a_schema_for_the_answer_stands_beside_tools(connect) -> None:
    """The answer is a call, or what the schema says."""
    engine, chat = await connect('{"city":"Rome","days":1}')
    response_format = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}
    options = {"model": "m", "messages": ASK, "tools": [WEATHER], "response_format": response_format}
    answer = (await chat.create(**options)).choices[0]
    engine.text = CALL
    call = (await chat.create(**options)).choices[0]

    assert ('{"city":"Rome","days":1}', "stop") == (answer.message.content, answer.finish_reason)
    assert "tool_calls" == call.finish_reason


async def test_an_answer_with_calls_goes_back_into_the_prompt(connect) -> None:
    """As the client holds it, with the tool's reply; arguments are written as the template writes them."""
    engine, chat = await connect(CALL)
    async with chat.stream(model="m", messages=ASK, tools=[WEATHER]) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    reply = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"degrees": 20}'}
    engine.text = "It is 20 degrees."
    answer = await chat.create(model="m", messages=[*ASK, message, reply], tools=[WEATHER])

    assert ("It is 20 degrees.", "stop") == (answer.choices[0].message.content, answer.choices[0].finish_reason)
    assert CALL + '{"degrees": 20}' in engine.prompt


async def test_reasoning_is_told_apart(connect) -> None:
    """Under both names, streamed and whole, and the answer behind it is constrained."""
    text = '<think>\nParis, "three".\n</think>\n\n{"city":"Paris","days":3}'
    _, chat = await connect(text, reasoning=True)
    response_format = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}
    options = {"model": "m", "messages": ASK, "response_format": response_format}
    whole = (await chat.create(**options)).choices[0].message
    streamed = [chunk.choices[0].delta async for chunk in await chat.create(**options, stream=True)]

    for name in ("reasoning", "reasoning_content"):
        assert 'Paris, "three".' == getattr(whole, name)
        assert 'Paris, "three".' == "".join(getattr(delta, name, "") for delta in streamed)
    assert '{"city":"Paris","days":3}' == whole.content == "".join(delta.content or "" for delta in streamed)


async def test_a_thinking_budget_is_a_grammar(connect) -> None:
    """One token more than allowed cannot be said; without a budget a free answer has no grammar."""
    text = "<think>one two three</think>Yes."
    engine, chat = await connect(text, reasoning=True)
    num_thought = len(Tokenizer(HELLO.model_path).encode("one two three", add_special_tokens=False))
    for field in ({}, {"thinking_token_budget": num_thought}):
        message = (await chat.create(model="m", messages=ASK, extra_body=field)).choices[0].message
        assert ("Yes.", "one two three") == (message.content, message.reasoning)
    await chat.create(model="m", messages=ASK)

    assert engine.grammar is None


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name", "as in tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
         "tools[0].function.parameters", '"type": "object"'),
        ({"tools": [CLOCK, {"type": "function", "function": {"name": "f", "parameters": MALFORMED}}]},
         "tools[1].function.parameters", "not a valid JSON Schema"),
        ({"tools": [CLOCK, {"type": "function", "function": {"name": "f", "strict": True, "parameters": UNENFORCED}}]},
         "tools[1].function.parameters", "`not` at `#/properties/a`"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nobody"}}},
         "tool_choice.function.name", "`nobody`"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.function", "function"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "clock"}}]}}},
         "tool_choice.allowed_tools.tools[0].function.name", "`clock`"),
        ({"tool_choice": "required"}, "tool_choice", "needs `tools`"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", "needs `tools`"),
        ({"thinking_token_budget": 3}, "thinking_token_budget", "does not reason"),
        ({"messages": [*ASK, {"role": "assistant", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]}]},
         "messages[1].tool_calls[0].function.arguments", "JSON object"),
    ],
)  # fmt: skip
async def test_bad_tools_are_refused_by_name(connect, change, param, message) -> None:
    """Each with the place of the mistake."""
    _, chat = await connect("")
    change = dict(change)
    extra = {key: change.pop(key) for key in [*change] if key == "thinking_token_budget"}
    with pytest.raises(openai.BadRequestError) as caught:
        await chat.create(**{"model": "m", "messages": ASK, **change}, extra_body=extra)

    assert param == caught.value.param
    assert message in caught.value.message


async def test_a_schema_that_is_not_strict_may_be_let_go(connect) -> None:
    """What cannot be enforced of it is left out, and the other functions keep theirs."""
    loose = {"type": "function", "function": {"name": "loose", "parameters": UNENFORCED}}
    engine, chat = await connect('<tool_call>{"name":"loose","arguments":{"a":[1]}}</tool_call>')
    choice = (await chat.create(model="m", messages=ASK, tools=[WEATHER, loose])).choices[0]

    assert [("loose", {"a": [1]})] == called(choice.message)
    engine.text = CALL.replace("3", '"three"')
    with pytest.raises(openai.InternalServerError):
        await chat.create(model="m", messages=ASK, tools=[WEATHER, loose])


async def test_the_format_is_the_templates_or_the_operators(connect) -> None:
    """With `none`, tools are refused with the way out; with another name, that family's way is read."""
    _, chat = await connect("", tool_format="none")
    with pytest.raises(openai.BadRequestError, match="--tool-format") as caught:
        await chat.create(model="m", messages=ASK, tools=[WEATHER])
    _, chat = await connect('{"name": "weather", "parameters": {"city":"Paris","days":3}}', tool_format="llama3")
    message = (await chat.create(model="m", messages=ASK, tools=[WEATHER], tool_choice="required")).choices[0].message

    assert "tools" == caught.value.param
    assert [("weather", {"city": "Paris", "days": 3})] == called(message)


async def test_only_the_content_is_checked(connect) -> None:
    """Of an answer whose schema is left to the validator in part, neither the reasoning nor a call is."""
    schema = {**CITY, "not": {"properties": {"days": {"const": 4}}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    options = {"model": "m", "messages": ASK, "response_format": response_format, "tools": [WEATHER]}
    engine, chat = await connect('<think>Hm.</think>{"city":"Rome","days":4}', reasoning=True)
    wrong = (await chat.create(**options)).choices[0]
    engine.text = '<think>Hm.</think>{"city":"Rome","days":5}'
    right = (await chat.create(**options)).choices[0]
    engine.text = CALL
    call = (await chat.create(**options)).choices[0]

    assert [True, False, False] == [hasattr(one, "validation_errors") for one in (wrong, right, call)]
    assert ["Hm.", "Hm."] == [one.message.reasoning for one in (wrong, right)]


@pytest.mark.parametrize("size", [1, 3])
def test_marks_that_are_special_tokens_are_seen(parts, size) -> None:
    """Other special tokens stay hidden, and nothing else of the text changes."""
    ids = parts.tokenizer.encode("a b<|tool|>c<|user|> d", add_special_tokens=False)
    text = AnswerText(parts.tokenizer.decoder(["<|tool|>", "<tool_call>"]), (), frozenset())
    pieces = [text.add(TokenDelta("r", ids[start : start + size]))[0] for start in range(0, len(ids), size)]

    assert "a b<|tool|>c d" == "".join(pieces)
