"""The form of an answer out of OpenAI's and vLLM's fields: exactly one, or a 400 that names the field."""

from typing import Any

import msgspec
import pytest

from outrider.gateway.errors import ApiError
from outrider.gateway.forms import form_of
from outrider.gateway.requests import ChatRequest, CompletionRequest, parse_request
from outrider.structured.constraint import Constraint

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
TAG = {"type": "any_text"}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}


def request_of(fields: dict[str, Any], *, is_chat: bool = True) -> ChatRequest | CompletionRequest:
    body = {"model": "m", **fields}
    if is_chat:
        return parse_request(msgspec.json.encode(body | {"messages": [{"role": "user", "content": ""}]}), ChatRequest)
    return parse_request(msgspec.json.encode(body | {"prompt": "a"}), CompletionRequest)


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "text"}, "structured_outputs": {"regex": "a"}}, Constraint("regex", "a")),
        ({"response_format": {"type": "json_object"}}, Constraint("json_object")),
        ({"response_format": JSON_SCHEMA}, Constraint("json_schema", SCHEMA)),
        ({"response_format": JSON_SCHEMA, "whitespace": "free"}, Constraint("json_schema", SCHEMA, "free")),
        ({"response_format": {"type": "structural_tag", "format": TAG}}, Constraint("structural_tag", {"format": TAG})),
        ({"structured_outputs": {"json": SCHEMA}}, Constraint("json_schema", SCHEMA)),
        ({"structured_outputs": {"json": '{"type":"null"}'}}, Constraint("json_schema", {"type": "null"})),
        ({"structured_outputs": {"json": {}}}, Constraint("json_schema", {})),
        (
            {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": False}},
            Constraint("json_schema", SCHEMA, "free"),
        ),
        ({"structured_outputs": {"json_object": True}}, Constraint("json_object")),
        ({"structured_outputs": {"regex": "a+", "json_object": False}}, Constraint("regex", "a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Constraint("choice", ["a", "b"])),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Constraint("grammar", 'root ::= "a"')),
        ({"structured_outputs": {"structural_tag": {"format": TAG}}}, Constraint("structural_tag", {"format": TAG})),
    ],
)
def test_each_form_becomes_its_constraint(fields: dict[str, Any], constraint: Constraint | None, is_chat: bool) -> None:
    """OpenAI's and vLLM's fields mean the same on chat completions and completions."""
    form = form_of(request_of(fields, is_chat=is_chat))

    assert constraint == (form and form.constraint)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (
            {"response_format": JSON_SCHEMA, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
            "`response_format` and `structured_outputs` are both given",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "none is given"),
        (
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            "structured_outputs",
            "`regex` and `choice` are given",
        ),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "not valid JSON"),
        (
            {"structured_outputs": {"json": {}, "whitespace_pattern": " "}},
            "structured_outputs.whitespace_pattern",
            "use the request's `whitespace`",
        ),
        (
            {"structured_outputs": {"json": {}, "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
            "additionalProperties: false",
        ),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", "Unknown field"),
        ({"guided_json": SCHEMA}, "guided_json", "use `structured_outputs`"),
        ({"whitespace": "free"}, "whitespace", "only for JSON"),
        ({"whitespace": "free", "structured_outputs": {"regex": "a"}}, "whitespace", "only for JSON"),
        (
            {"whitespace": "free", "structured_outputs": {"json": {}, "disable_any_whitespace": True}},
            "whitespace",
            "contradict",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
    ],
)
def test_a_mistake_names_its_field(fields: dict[str, Any], param: str, words: str) -> None:
    """Two forms, no form and fields that are not honoured are refused, never ignored."""
    with pytest.raises(ApiError) as caught:
        form_of(request_of(fields))

    assert (400, param) == (caught.value.status, caught.value.body.param)
    assert words in str(caught.value)
