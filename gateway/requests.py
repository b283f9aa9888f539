"""The request bodies of the API, by OpenAI's names and, for what OpenAI lacks, vLLM's. Parsing is strict.

An unknown field or a wrong type is refused with the path of the field. Knows nothing of what can be honoured.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from outrider.gateway.errors import ApiError, invalid
from outrider.gateway.tool_fields import CallOfMessage, Tool, ToolChoice

T = TypeVar("T")

MAX_INT = 2**31 - 1

Count = Annotated[int, Meta(ge=1, le=MAX_INT)]
Natural = Annotated[int, Meta(ge=0, le=MAX_INT)]
TopCount = Annotated[int, Meta(ge=0, le=20)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
StopString = Annotated[str, Meta(min_length=1)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream carries besides text."""

    include_usage: bool = False


class SpeculationOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The long form of `speculation`."""

    methods: list[str]
    max_tokens: Count | None = None
    tree: bool | None = None
    min_probability: Probability | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The schema of a `response_format`."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    format: dict[str, Any] | None = None  # of a structural tag, or its older form:
    structures: list[Any] | None = None
    triggers: list[Any] | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """vLLM's constraints: one form, and how JSON is laid out."""

    json: dict[str, Any] | str | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None
    disable_any_whitespace: bool | None = None
    # Known fields that are refused: see `forms.py`.
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat completions and completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    min_tokens: Natural | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MAX_INT)] | None = None
    min_p: Probability | None = None
    typical_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    logit_bias: Annotated[dict[int, Bias], Meta(max_length=1024)] | None = None
    seed: int | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=16)] | None = None
    stop_token_ids: Annotated[list[Natural], Meta(max_length=1024)] | None = None
    allowed_token_ids: Annotated[list[Natural], Meta(min_length=1, max_length=65536)] | None = None
    bad_words: Annotated[list[StopString], Meta(max_length=256)] | None = None
    ignore_eos: bool | None = None
    max_time: Annotated[float, Meta(gt=0, le=86400)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=86400)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    whitespace: Literal["compact", "free"] | None = None
    max_validation_retries: Annotated[int, Meta(ge=0, le=16)] | None = None
    speculation: str | SpeculationOptions | None = None
    return_metrics: bool | None = None
    return_token_origins: bool | None = None
    priority: Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)] | None = None
    cache_salt: Annotated[str, Meta(max_length=256)] | None = None
    user: str | None = None  # OpenAI's label of the end user; nothing depends on it
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] | None = None


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    # Clients send an answer back as they got it, with what it did not have.
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    parsed: Any = None  # what the client has made of the content
    tool_call_id: str | None = None
    tool_calls: list[CallOfMessage] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same by vLLM's newer name

    def for_template(self, place: int = 0) -> dict[str, object]:
        """As chat templates expect it: the text in one piece, and `system` for OpenAI's newer `developer`.

        Raises:
            ApiError: 400, a call's arguments are no JSON; `place` is the message's own in the request.
        """
        content = self.content
        text = "".join(part.text for part in content) if isinstance(content, list) else content or ""
        message: dict[str, object] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        message |= {} if self.name is None else {"name": self.name}
        message |= {} if self.tool_call_id is None else {"tool_call_id": self.tool_call_id}
        reasoning = self.reasoning_content or self.reasoning
        message |= {"reasoning_content": reasoning} if reasoning else {}
        if self.tool_calls:
            path = f"messages[{place}].tool_calls"
            message["tool_calls"] = [
                call.for_template(f"{path}[{index}]") for index, call in enumerate(self.tool_calls)
            ]
        return message


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the client expects the answer to be, OpenAI's Predicted Outputs."""

    type: Literal["content"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """In one piece."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None  # the client's own labels; nothing depends on them
    store: bool | None = None
    logprobs: bool | None = None
    top_logprobs: TopCount | None = None
    prediction: Prediction | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_token_budget: Natural | None = None
    # A known field that this server refuses unless it asks for nothing: see `refuse_unsupported`.
    modalities: list[str] | None = None


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions."""

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: TopCount | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    suffix: str | None = None  # refused, as above


def parse_request(body: bytes, request_type: type[T]) -> T:
    """Decodes a body.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        return msgspec.json.decode(body, type=request_type)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise invalid("The body is nested too deeply") from error


def refuse_unsupported(request: ChatRequest | CompletionRequest) -> None:
    """Refuses each known field that asks for something this server does not do.

    Raises:
        ApiError: 400, naming the field and what to do instead.
    """
    for field, (nothing, reason) in _UNSUPPORTED.items():
        value = getattr(request, field, None)
        if value is not None and not any(type(value) is type(empty) and value == empty for empty in nothing):
            raise invalid(f"`{field}` is not supported: {reason}", field, "unsupported_parameter")


# field -> (the values that ask for nothing, why others are refused and the way out)
_UNSUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "modalities": ((["text"],), "the model reads and writes text only"),
    "store": ((False,), "nothing is stored here; leave the field out"),
    "suffix": (("",), "the model does not fill in the middle; leave the field out"),
}

_PATH = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?P<problem>unknown field|missing required field) `(?P<name>[^`]*)`")


def _explain(problem: str) -> ApiError:
    """Turns msgspec's message into OpenAI's error, with the field's path."""
    path = ""
    found = _PATH.search(problem)
    if found:
        path, problem = found["path"].replace("[...]", ""), problem[: found.start()]
    field = _FIELD.search(problem)
    if field is None:
        return invalid(f"Invalid value for `{path or 'body'}`: {problem}", path or None, "invalid_value")
    param = f"{path}.{field['name']}" if path else field["name"]
    if field["problem"] == "unknown field" and param.startswith("guided_"):
        return invalid(f"Unknown field `{param}`: use `structured_outputs`", param, "unknown_parameter")
    if field["problem"] == "unknown field":
        return invalid(f"Unknown field `{param}`: remove it or check its spelling", param, "unknown_parameter")
    return invalid(f"Missing required field `{param}`", param, "missing_required_parameter")
