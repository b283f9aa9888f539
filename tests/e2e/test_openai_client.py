"""The openai client, unmodified, against the real server."""

import json
import re
import urllib.request
from pathlib import Path

import openai
import pytest
from pydantic import BaseModel

MODEL = "outrider-demo"
REPEAT = "Repeat this text: the red fox saw the red fox, and the red fox saw the blue bird near the red fox."


class Person(BaseModel):
    name: str
    age: int


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_readme_tells_the_truth(server) -> None:
    """Its curl command, taken from its text, gets the answer that it shows."""
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    body = re.search(r"-d '(\{.*?\})'\n", readme, re.DOTALL)[1]
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", body.encode(), headers)
    with urllib.request.urlopen(request) as response:
        content = json.load(response)["choices"][0]["message"]["content"]

    assert {"name": "Ada Lovelace", "age": 36, "city": "London"} == json.loads(content)
    assert json.dumps(content) in readme


def test_chat_answers_in_words(client) -> None:
    """With a usage that adds up."""
    completion = client.chat.completions.create(model=MODEL, messages=ask("What is Outrider?"), max_tokens=60)

    assert completion.choices[0].message.content.isprintable()
    assert " " in completion.choices[0].message.content
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert completion.choices[0].finish_reason in {"stop", "length"}


def test_a_prompt_that_was_there_before_is_cached(client) -> None:
    """Its whole blocks are counted, and with another salt none; the answer stays the same."""
    options = {"model": MODEL, "messages": ask(f"Repeat this text: {REPEAT * 4}"), "max_tokens": 8, "temperature": 0}
    answers = [
        client.chat.completions.create(**options, extra_body={"cache_salt": salt}) for salt in ("one", "one", "two")
    ]
    cached = [answer.usage.prompt_tokens_details.cached_tokens for answer in answers]

    assert cached == [0, (answers[0].usage.prompt_tokens - 1) // 32 * 32, 0]
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_a_stream_is_the_same_answer_in_pieces(client) -> None:
    """Same seed, same text; the usage comes with the last event."""
    options = {"model": MODEL, "messages": ask("What is Outrider?"), "max_tokens": 60, "seed": 3}
    options["extra_body"] = {"speculation": "off"}  # by `auto` the usage counts other drafts each time
    whole = client.chat.completions.create(**options)

    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))

    assert "assistant" == chunks[0].choices[0].delta.role
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text
    assert [whole.usage] == [chunk.usage for chunk in chunks if chunk.usage]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert [whole.choices[0].finish_reason] == reasons


def test_completions_go_on_from_text_and_from_token_ids(client) -> None:
    """Streamed and whole."""
    options = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**options)

    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True))

    assert whole.choices[0].text == streamed
    assert whole.usage.completion_tokens <= 20
    assert client.completions.create(model=MODEL, prompt=[70, 71, 72], max_tokens=3).usage.prompt_tokens == 3


def test_parse_gives_the_pydantic_model(client) -> None:
    """The schema the client sends for `Person` is enforced."""
    completion = client.chat.completions.parse(
        model=MODEL, messages=ask("Extract the person: Ada Lovelace is 36 years old."), response_format=Person
    )

    assert isinstance(completion.choices[0].message.parsed, Person)


def test_a_schema_holds_at_high_temperature(client) -> None:
    """Enforced, not asked for: noise cannot break it."""
    schema = {
        "type": "object",
        "properties": {
            "unit": {"enum": ["celsius", "kelvin"]},
            "values": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["unit", "values"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "reading", "schema": schema, "strict": True}}
    for seed in range(5):
        completion = client.chat.completions.create(
            model=MODEL,
            messages=ask("Anything."),
            response_format=response_format,
            temperature=1.9,
            seed=seed,
            extra_body={"speculation": "ngram"},
        )
        if completion.choices[0].finish_reason == "length":
            continue
        reading = json.loads(completion.choices[0].message.content)

        assert {"unit", "values"} == reading.keys()
        assert reading["unit"] in {"celsius", "kelvin"}
        assert 1 <= len(reading["values"]) <= 3


def test_json_object_gives_an_object(client) -> None:
    """Any object, whatever the prompt says."""
    completion = client.chat.completions.create(
        model=MODEL,
        messages=ask("Tell me a story."),
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )

    if completion.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_speculation_is_chosen_and_reported_per_request(client) -> None:
    """On a text that repeats itself drafts are accepted, and the answer is the plain one."""
    options = {"model": MODEL, "messages": ask(REPEAT), "temperature": 0, "max_tokens": 80}
    plain = client.chat.completions.create(**options, extra_body={"speculation": "off", "return_metrics": True})
    fast = client.chat.completions.create(**options, extra_body={"speculation": "ngram", "return_metrics": True})

    assert plain.choices[0].message.content == fast.choices[0].message.content
    assert "speculative_decoding" not in plain.metrics
    figures = fast.metrics["speculative_decoding"]
    assert figures["num_accepted_draft_tokens"] > 0
    assert figures["methods"]["ngram"]["num_draft_tokens"] == figures["num_draft_tokens"]
    assert figures["num_accepted_draft_tokens"] == fast.usage.completion_tokens_details.accepted_prediction_tokens
    assert fast.metrics["num_steps"] < plain.metrics["num_steps"]


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_what_a_schema_forces_is_drafted(client, temperature) -> None:
    """Its keys come in fewer steps, alone and in one tree with other methods; the answer is the plain one."""
    schema = {
        "type": "object",
        "properties": {"first_name": {"type": "string", "maxLength": 20}, "is_customer": {"type": "boolean"}},
        "required": ["first_name", "is_customer"],
        "additionalProperties": False,
    }
    options = {
        "model": MODEL,
        "messages": ask("Extract the person: Ada Lovelace is 36 years old."),
        "temperature": temperature,
        "seed": 7,
        "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": schema, "strict": True}},
    }
    plain = client.chat.completions.create(**options, extra_body={"speculation": "off", "return_metrics": True})
    for methods in (["grammar"], ["grammar", "ngram", "suffix"]):
        body = {"speculation": {"methods": methods}, "return_metrics": True}
        drafted = client.chat.completions.create(**options, extra_body=body)

        assert plain.choices[0].message.content == drafted.choices[0].message.content
        assert drafted.metrics["speculative_decoding"]["methods"]["grammar"]["num_accepted_draft_tokens"] > 3
        assert drafted.metrics["num_steps"] < plain.metrics["num_steps"]


def test_a_prediction_is_drafted_from(client) -> None:
    """OpenAI's field, alone and with n-grams in one tree; the answer is the plain one."""
    options = {"model": MODEL, "messages": ask(REPEAT), "temperature": 0, "max_tokens": 80}
    plain = client.chat.completions.create(**options)
    prediction = {"type": "content", "content": plain.choices[0].message.content}
    with_it = client.chat.completions.create(**options, prediction=prediction)
    tree = {"speculation": {"methods": ["ngram"], "max_tokens": 8}, "return_metrics": True}
    merged = client.chat.completions.create(**options, prediction=prediction, extra_body=tree)
    without = client.chat.completions.create(**options, prediction=prediction, extra_body={"speculation": "off"})

    assert len({one.choices[0].message.content for one in (plain, with_it, merged, without)}) == 1
    accepted = with_it.usage.completion_tokens_details.accepted_prediction_tokens
    assert accepted > plain.usage.completion_tokens / 2
    assert without.usage.completion_tokens_details.accepted_prediction_tokens == 0
    figures = merged.metrics["speculative_decoding"]
    assert set(figures["methods"]) == {"prediction", "ngram"}
    # A token that both offered counts once in all.
    assert figures["num_draft_tokens"] <= sum(one["num_draft_tokens"] for one in figures["methods"].values())
    assert accepted <= figures["num_accepted_draft_tokens"] < merged.usage.completion_tokens
    with pytest.raises(openai.BadRequestError, match="needs the field `prediction`"):
        client.chat.completions.create(**options, extra_body={"speculation": "prediction"})


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_speculation_changes_no_token(client, temperature) -> None:
    """Fifty prompts, same seed: the same text and the same number of tokens, off and with n-grams."""
    accepted = 0
    for seed in range(50):
        text = f"Repeat this text: item {seed} costs {seed * 7} euros, item {seed + 1} costs {seed * 7} euros."
        options = {"model": MODEL, "messages": ask(text), "temperature": temperature, "seed": seed, "max_tokens": 48}
        plain = client.chat.completions.create(**options, extra_body={"speculation": "off"})
        fast = client.chat.completions.create(**options, extra_body={"speculation": {"methods": ["ngram"]}})

        assert plain.choices[0].message.content == fast.choices[0].message.content
        assert plain.usage.completion_tokens == fast.usage.completion_tokens
        accepted += fast.usage.completion_tokens_details.accepted_prediction_tokens
    assert accepted > 0


def test_stop_strings_are_cut_exactly(client) -> None:
    """Streamed text never shows a part of one, and the usage ends where the text does."""
    options = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 40, "temperature": 0}
    text = client.completions.create(**options).choices[0].text
    stop = text[len(text) // 2 : len(text) // 2 + 3]

    whole = client.completions.create(**options, stop=stop)
    streamed = "".join(c.choices[0].text for c in client.completions.create(**options, stop=[stop], stream=True))

    assert text[: text.index(stop)] == whole.choices[0].text == streamed
    assert "stop" == whole.choices[0].finish_reason
    assert whole.usage.completion_tokens < 40


def test_models_are_listed(client) -> None:
    """One model, also by its name."""
    assert [MODEL] == [model.id for model in client.models.list()]
    assert MODEL == client.models.retrieve(MODEL).id


def test_the_clients_exceptions_fit(client) -> None:
    """Status and code are what the client's classes expect."""
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="nobody", messages=ask("hi"))
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=ask("hi"), extra_body={"speculation": "lookahead"})

    assert "model_not_found" == not_found.value.code
    assert "`off`, `auto`, `grammar`, `prediction`, `ngram`, `suffix`" in bad.value.message
