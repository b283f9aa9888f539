"""The form that a request asks its answer to have: one constraint out of OpenAI's and vLLM's fields."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from outrider.gateway.errors import invalid
from outrider.gateway.requests import GenerationRequest, ResponseFormat, StructuredOutputs
from outrider.structured.constraint import Constraint, Kind, Whitespace

_KINDS: dict[str, Kind] = {"json": "json_schema"}  # where vLLM's name is another one
_JSON = ("json_schema", "json_object")
_REFUSED = {
    "disable_additional_properties": "write `additionalProperties: false` in the schema",
    "whitespace_pattern": "use the request's `whitespace`: `compact` or `free`",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A constraint and the field that asked for it."""

    constraint: Constraint
    field: str
    name: str | None = None  # of the schema
    is_strict: bool = False  # what the grammar cannot keep is refused, not checked afterwards


def form_of(request: GenerationRequest) -> Form | None:
    """What the answer must look like; None when the request does not say.

    Raises:
        ApiError: 400, several forms, none where one is needed, or one that is incomplete.
    """
    given = request.response_format is not None and request.response_format.type != "text"
    outputs = request.structured_outputs
    if given and outputs is not None:
        raise invalid("`response_format` and `structured_outputs` are both given: leave one out", "structured_outputs")
    form = None
    if request.response_format is not None and given:
        form = _openai_form(request.response_format)
    elif outputs is not None:
        form = _vllm_form(outputs)
    compact = None if outputs is None else outputs.disable_any_whitespace
    if request.whitespace is not None and compact is not None and compact != (request.whitespace == "compact"):
        field = "structured_outputs.disable_any_whitespace"
        raise invalid(f"`whitespace` and `{field}` contradict each other: leave one out", "whitespace")
    whitespace: Whitespace = request.whitespace or ("free" if compact is False else "compact")
    if form is None or form.constraint.kind not in _JSON:
        if request.whitespace is not None:
            raise invalid("`whitespace` is only for JSON: ask for a `json_schema` or remove it", "whitespace")
        return form
    return replace(form, constraint=Constraint(form.constraint.kind, form.constraint.value, whitespace))


def _openai_form(wanted: ResponseFormat) -> Form:
    field = "response_format"
    if wanted.type == "json_object":
        return Form(Constraint("json_object"), field)
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise invalid("`response_format.json_schema` is missing", "response_format.json_schema")
        named = wanted.json_schema
        return Form(Constraint("json_schema", named.schema), field, named.name, bool(named.strict))
    parts = {"format": wanted.format, "structures": wanted.structures, "triggers": wanted.triggers}
    return Form(Constraint("structural_tag", {name: part for name, part in parts.items() if part is not None}), field)


def _vllm_form(outputs: StructuredOutputs) -> Form:
    for name, reason in _REFUSED.items():
        if getattr(outputs, name):
            field = f"structured_outputs.{name}"
            raise invalid(f"`{field}` is not supported: {reason}", field, "unsupported_parameter")
    names = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
    given = [name for name in names if getattr(outputs, name) not in (None, False) or getattr(outputs, name) == {}]
    if not given and outputs.json is False:
        given = ["json"]  # the schema that allows nothing
    if len(given) != 1:
        found = "none is given" if not given else f"`{'` and `'.join(given)}` are given"
        raise invalid(f"`structured_outputs` has exactly one of {', '.join(names)}: {found}", "structured_outputs")
    name, field = given[0], f"structured_outputs.{given[0]}"
    value = getattr(outputs, name)
    if name in ("json", "structural_tag") and isinstance(value, str):
        value = _decoded(value, field)
    return Form(Constraint(_KINDS.get(name, name), None if name == "json_object" else value), field)  # type: ignore[arg-type]


def _decoded(text: str, field: str) -> Any:
    """A schema or a tag that came as JSON text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(f"`{field}` is not valid JSON: {error}", field) from error
