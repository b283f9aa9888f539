"""Whether answers are what their schema asks, told by `jsonschema`: a judge that no server's grammar has written."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import jsonschema

from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.record import Answer, Record, ToolCall
from outrider.loadtest.sample import Sample

Schema = dict[str, Any] | bool


class Validity(StrEnum):
    """Of one answer. Those cut at their length limit are apart: no grammar could have completed them."""

    VALID = "valid"
    INVALID = "invalid"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    NO_CALL = "no_tool_call"


def check_schema(schema: Schema, place: str) -> None:
    """Raises InvalidOptionError, which names the place, for what is no JSON schema."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidOptionError(f"{place}: the schema is none: {error.message}") from error


def judge(sample: Sample, answer: Answer) -> Validity | None:
    """None where there is nothing to follow: neither a schema nor tools."""
    if sample.schema is None and not sample.tools:
        return None
    if answer.is_refusal:
        return Validity.REFUSED
    if answer.finish_reason == "length":
        return Validity.TRUNCATED
    if sample.tools:
        if not answer.tool_calls:
            return Validity.NO_CALL
        is_valid = all(_is_valid_call(call, sample.tools) for call in answer.tool_calls)
    else:
        assert sample.schema is not None
        is_valid = follows(answer.text, sample.schema)
    return Validity.VALID if is_valid else Validity.INVALID


def judge_all(samples: Mapping[int, Sample], records: Iterable[Record]) -> Counter[Validity]:
    """How many first answers are what; later turns of a conversation are not held to the schema."""
    verdicts = (
        judge(samples[record.index], record.outcome)
        for record in records
        if isinstance(record.outcome, Answer) and record.turn == 0
    )
    return Counter(verdict for verdict in verdicts if verdict is not None)


def follows(text: str, schema: Schema) -> bool:
    """Whether the text is JSON, without NaN and infinity, that the schema accepts."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def _is_valid_call(call: ToolCall, tools: list[dict[str, Any]]) -> bool:
    parameters = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    return call.name in parameters and follows(call.arguments or "{}", parameters[call.name])


def _refuse(constant: str) -> None:
    raise ValueError(constant)
