"""Parsing bodies: each mistake is a 400 that names the field."""

import msgspec
import pytest

from outrider.gateway.errors import ApiError
from outrider.gateway.requests import ChatRequest, CompletionRequest, Message, parse_request, refuse_unsupported

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def error_of(body: object, request_type=ChatRequest) -> ApiError:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(ApiError) as caught:
        refuse_unsupported(parse_request(raw, request_type))
    return caught.value


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"stream_options": {"usage": True}}, "stream_options.usage", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": "hi", "x": 1}]}, "messages[0].x", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_value"),
        ({"max_tokens": "many"}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"stop": ["a", ""]}, "stop[1]", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"logit_bias": {"5": 200}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "invalid_value"),
        ({"top_k": 2**70}, "top_k", "invalid_value"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"logprobs": 3}, "logprobs", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "code", "function": {"name": "f"}}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name", "unknown_parameter"),
        ({"thinking_token_budget": -1}, "thinking_token_budget", "invalid_value"),
        ({"return_token_origins": 1}, "return_token_origins", "invalid_value"),
        ({"speculation": 3}, "speculation", "invalid_value"),
        ({"speculation": {}}, "speculation.methods", "missing_required_parameter"),
        ({"speculation": {"methods": "ngram"}}, "speculation.methods", "invalid_value"),
        ({"speculation": {"methods": ["ngram", 1]}}, "speculation.methods[1]", "invalid_value"),
        ({"speculation": {"methods": ["ngram"], "max_tokens": 0}}, "speculation.max_tokens", "invalid_value"),
        ({"speculation": {"methods": ["ngram"], "tree": "no"}}, "speculation.tree", "invalid_value"),
        (
            {"speculation": {"methods": ["ngram"], "min_probability": 1.1}},
            "speculation.min_probability",
            "invalid_value",
        ),
        (
            {"speculation": {"methods": ["ngram"], "min_probability": -0.1}},
            "speculation.min_probability",
            "invalid_value",
        ),
        ({"speculation": {"methods": ["ngram"], "depth": 3}}, "speculation.depth", "unknown_parameter"),
        ({"prediction": {"type": "content"}}, "prediction.content", "missing_required_parameter"),
        ({"prediction": {"type": "text", "content": "x"}}, "prediction.type", "invalid_value"),
    ],
)
def test_each_wrong_field_is_named(change, param, code) -> None:
    """`param` is the path, and the message holds it too."""
    error = error_of({**CHAT, **change})

    assert (400, param, code) == (error.status, error.body.param, error.body.code)
    assert param.split("[")[0] in error.body.message


def test_a_missing_model_is_named() -> None:
    """Required fields are not guessed."""
    error = error_of({"messages": CHAT["messages"]})

    assert ("model", "missing_required_parameter") == (error.body.param, error.body.code)


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"model": "\xff"}', b"[1, 2", b"[" * 100_000])
def test_what_is_not_json_is_said_to_be_so(body) -> None:
    """Broken text, broken UTF-8, and nesting without end."""
    error = error_of(body)

    assert 400 == error.status


@pytest.mark.parametrize("body", [b"[]", b"7", b"null"])
def test_a_body_that_is_no_object_is_refused(body) -> None:
    """There is no field to name."""
    error = error_of(body)

    assert (400, None) == (error.status, error.body.param)


def test_a_boolean_is_no_number_of_logprobs() -> None:
    """A completion's `logprobs` is a number, a chat's a boolean."""
    error = error_of({"model": "m", "prompt": "x", "logprobs": False}, CompletionRequest)

    assert "logprobs" == error.body.param


@pytest.mark.parametrize("asks_for_nothing", [{"n": 1}, {"tools": []}, {"store": False}, {"logprobs": None}])
def test_fields_that_ask_for_nothing_pass(asks_for_nothing) -> None:
    """Clients send their defaults."""
    refuse_unsupported(parse_request(msgspec.json.encode({**CHAT, **asks_for_nothing}), ChatRequest))


def test_names_reach_the_chat_template() -> None:
    """What a message says of itself is for the template to use, and is not dropped on the way."""
    body = {"role": "tool", "content": "3", "name": "add", "tool_call_id": "c1"}

    assert body == msgspec.convert(body, Message).for_template()


def test_content_parts_are_joined_and_developer_is_system() -> None:
    """Chat templates know neither."""
    body = {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]}
    message = msgspec.convert(body, Message)

    assert {"role": "system", "content": "be brief"} == message.for_template()
