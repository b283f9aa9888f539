"""The response bodies of the API, as OpenAI's clients read them. Fields that are None are left out."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from outrider.structured.finding import Finding, Violation

FinishReason = Literal["stop", "length", "tool_calls"]


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct, frozen=True):
    """Of the generated tokens. Accepted drafts are part of the output, rejected ones are not."""

    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()


class SpeculativeDecoding(msgspec.Struct, frozen=True, kw_only=True):
    """What speculation did, in vLLM's shape so that its tools read it, and by method."""

    mean_acceptance_length: float  # tokens emitted per verified step
    draft_acceptance_rate: float
    acceptance_histogram: list[int]  # index j: verified steps that accepted j drafted tokens
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int
    num_spec_tokens: int  # as `max_tokens`, by vLLM's name
    max_tokens: int  # the most that were allowed per step
    requested_max_tokens: int | UnsetType = UNSET  # where the request asked for more than the server allows
    methods: dict[str, dict[str, int]]


class StructuredOutput(msgspec.Struct, frozen=True):
    """How an answer was held to its schema."""

    route: Literal["exact", "validated"]
    left: list[Finding]  # keywords that the grammar leaves to the validator
    retries: int


class RequestMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a request's time went, in milliseconds; sent when `return_metrics` asks for it."""

    time_to_first_token_ms: float  # from arrival at the gateway
    generation_time_ms: float  # from the first token to the last
    queue_time_ms: float
    prefill_time_ms: float
    mean_itl_ms: float | None = None  # mean time between tokens; none for a single token
    tokens_per_second: float | None = None
    num_steps: int
    num_preemptions: int = 0
    speculative_decoding: SpeculativeDecoding | None = None
    structured_output: StructuredOutput | None = None


class TopLogprob(msgspec.Struct, frozen=True):
    """One of the likeliest tokens at a place; `bytes` may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token of an answer, natural log-probabilities; the first token of a prompt has none."""

    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Of a chat answer, or of a chunk of it."""

    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(msgspec.Struct, frozen=True):
    """Of a completion, or of a piece of it; offsets are characters of the whole text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class FunctionDelta(msgspec.Struct, frozen=True):
    """The function of a call, whole or as it grows; `arguments` is JSON text."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class CallDelta(msgspec.Struct, frozen=True):
    """A call of a function, whole or as it grows: only the first piece of a streamed one says what is called."""

    index: int | UnsetType  # not in a whole answer
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class AssistantMessage(msgspec.Struct, frozen=True):
    """The answer of a chat completion; the content is null where there are calls and nothing else."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET  # the same by vLLM's newer name
    tool_calls: list[CallDelta] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    """One answer."""

    message: AssistantMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: ChatLogprobs | None = None
    token_origins: list[str] | UnsetType = UNSET
    validation_errors: list[Violation] | UnsetType = UNSET


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a chat completion."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    metrics: RequestMetrics | UnsetType = UNSET


class Delta(msgspec.Struct, frozen=True):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    """One answer's share of a chunk."""

    delta: Delta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: ChatLogprobs | None = None
    token_origins: list[str] | UnsetType = UNSET


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a streamed chat completion; the one that carries the usage has no choices."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    metrics: RequestMetrics | UnsetType = UNSET


class TextChoice(msgspec.Struct, frozen=True):
    """One continuation, or a piece of it."""

    text: str
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: TextLogprobs | None = None
    token_origins: list[str] | UnsetType = UNSET
    validation_errors: list[Violation] | UnsetType = UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a completion, and each event of a streamed one."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"
    metrics: RequestMetrics | UnsetType = UNSET


class Model(msgspec.Struct, frozen=True):
    """A model that is served."""

    id: str
    created: int
    max_model_len: int
    object: Literal["model"] = "model"
    owned_by: str = "outrider"
    root: str | None = None
    parent: str | None = None


class Version(msgspec.Struct, frozen=True):
    """The server's own version."""

    version: str


class ModelList(msgspec.Struct, frozen=True):
    """All models that are served."""

    data: list[Model]
    object: Literal["list"] = "list"
