"""Tools and schemas on the embedded model, through the clients that people have."""

import enum
import importlib.util
import json
from typing import Annotated, Literal

import openai
import pytest
from pydantic import BaseModel, Field

MODEL = "outrider-demo"
WISH = [{"role": "user", "content": "What is the weather in Paris?"}]


class Unit(enum.Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Weather(BaseModel):
    """Get the weather of a city"""

    city: str
    unit: Unit | None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str | None


class Owner(BaseModel):
    name: str
    pets: Annotated[list[Cat | Dog], Field(max_length=2)]
    unit: Unit | None
    favourite: Cat | None


@pytest.mark.parametrize("seed", range(3))
def test_parse_gives_nested_models_enums_optionals_and_unions(client, seed) -> None:
    """Whatever the model thinks of the question."""
    completion = client.chat.completions.parse(
        model=MODEL, messages=WISH, response_format=Owner, seed=seed, max_tokens=800, temperature=0.7
    )

    assert isinstance(completion.choices[0].message.parsed, Owner)


@pytest.mark.parametrize("speculation", ["off", "auto", {"methods": ["grammar", "ngram"]}])
def test_a_call_is_made_and_parsed(client, speculation) -> None:
    """Strictly, by the client's own way to declare models as tools; speculation changes no character."""
    options = {"model": MODEL, "messages": WISH, "tools": [openai.pydantic_function_tool(Weather, name="get_weather")]}
    options |= {"tool_choice": "required", "parallel_tool_calls": False, "seed": 1, "max_tokens": 200}
    plain = client.chat.completions.parse(**options, extra_body={"speculation": "off"}).choices[0]
    choice = client.chat.completions.parse(**options, extra_body={"speculation": speculation}).choices[0]
    (call,) = choice.message.tool_calls

    assert "tool_calls" == choice.finish_reason
    assert isinstance(call.function.parsed_arguments, Weather)
    assert plain.message.tool_calls[0].function.arguments == call.function.arguments


def test_the_model_chooses_to_call_and_answers_from_the_reply(client) -> None:
    """It was trained to; with `auto` its own text decides."""
    tools = [openai.pydantic_function_tool(Weather, name="get_weather")]
    options = {"model": MODEL, "tools": tools, "temperature": 0, "max_tokens": 100}
    with client.chat.completions.stream(messages=WISH, **options) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    reply = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"temperature": 21})}
    answer = client.chat.completions.create(messages=[*WISH, message, reply], **options).choices[0]

    assert "Paris" == call.function.parsed_arguments.city
    assert "21" in answer.message.content
    assert "stop" == answer.finish_reason


@pytest.fixture
def langchain(server):
    if importlib.util.find_spec("langchain_openai") is None:
        pytest.skip("langchain-openai is not installed")
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=MODEL, base_url=f"{server.url}/v1", api_key="any", temperature=0, max_retries=0, max_tokens=300
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gives_structured_output(langchain, method) -> None:
    """By a schema and by a call."""
    answer = langchain.with_structured_output(Weather, method=method).invoke("What is the weather in Paris?")

    assert isinstance(answer, Weather)


@pytest.mark.filterwarnings("ignore")
def test_langchain_binds_tools(langchain) -> None:
    """Whole and streamed: the pieces add up to the same call."""
    bound = langchain.bind_tools([Weather], tool_choice="any")
    whole = bound.invoke("What is the weather in Paris?")
    streamed = None
    for piece in bound.stream("What is the weather in Paris?"):
        streamed = piece if streamed is None else streamed + piece

    assert ["Weather"] == [call["name"] for call in whole.tool_calls]
    assert whole.tool_calls[0]["args"] == streamed.tool_calls[0]["args"]
