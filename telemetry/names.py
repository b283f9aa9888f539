"""Every span, attribute and event name that leaves this process, and the values that are compared with.

The names are those of the OpenTelemetry semantic conventions, written out: the Python package of the conventions marks
every `gen_ai.*` constant as moved, so an upgrade could rename them in silence. What has no convention is `outrider.*`;
nothing is invented below `gen_ai.*`. Knows nothing of OpenTelemetry itself.

The GenAI conventions have moved on since 1.41.1, which is what backends read. A profile says whose names are sent where
they differ: "v1.41", "latest", or "both".
"""

from typing import Literal, TypeAlias

Profile: TypeAlias = Literal["v1.41", "latest", "both"]
PROFILES: tuple[Profile, ...] = ("v1.41", "latest", "both")

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"
LATEST_SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
SCOPE = "outrider"
PROVIDER = "outrider"

# Resource
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"

# The HTTP server span
CLIENT_ADDRESS = "client.address"
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
HTTP_ROUTE = "http.route"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
USER_AGENT = "user_agent.original"

# The inference span: the request
GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id"
GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_OUTPUT_TYPE = "gen_ai.output.type"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_SEED = "gen_ai.request.seed"
GEN_AI_REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
GEN_AI_REQUEST_STREAM = "gen_ai.request.stream"
GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k"
GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p"

# The inference span: the answer
GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_ID = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS = "gen_ai.usage.cache_creation.input_tokens"  # v1.41
GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens"  # latest

# The inference span and the event of its details: what was said, where it may be told
GEN_AI_INPUT_MESSAGES = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES = "gen_ai.output.messages"
GEN_AI_SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
DETAILS_EVENT = "gen_ai.client.inference.operation.details"

# The phases of an inference, each a span below it
ADMISSION_SPAN = "outrider.admission"
GRAMMAR_SPAN = "outrider.grammar.compile"
QUEUE_SPAN = "outrider.queue"
PREFILL_SPAN = "outrider.prefill"
DECODE_SPAN = "outrider.decode"
ADMISSION_DECISION = "outrider.admission.decision"
ADMISSION_RETRY_AFTER_MS = "outrider.admission.retry_after_ms"
CHOICE_INDEX = "outrider.choice.index"
QUEUE_REASON = "outrider.queue.reason"
QUEUE_DEPTH = "outrider.queue.depth_at_enqueue"
GATEWAY_QUEUE_SECONDS = "outrider.gateway_queue.seconds"
GATEWAY_QUEUE_POSITION = "outrider.gateway_queue.position"
QUEUE_SECONDS = "outrider.queue.seconds"
PREFILL_SECONDS = "outrider.prefill.seconds"
PREFILL_TOKENS = "outrider.prefill.tokens"
PREFILL_CACHED_TOKENS = "outrider.prefill.cached_tokens"
PREFILL_CHUNKS = "outrider.prefill.chunks"
DECODE_SECONDS = "outrider.decode.seconds"
DECODE_STEPS = "outrider.decode.steps"
DECODE_TOKENS = "outrider.decode.tokens"
DECODE_ITL_MS_P50 = "outrider.decode.itl_ms_p50"
DECODE_ITL_MS_P99 = "outrider.decode.itl_ms_p99"
DECODE_ITL_MS_MAX = "outrider.decode.itl_ms_max"
SCHEDULER_PREEMPTIONS = "outrider.scheduler.preemptions"

# What a caller may send along as baggage and have recorded
SESSION_ID = "session.id"
USER_ID = "user.id"
BAGGAGE_KEYS = (SESSION_ID, USER_ID)

# Drafts and grammars
SPEC_PREFIX = "outrider.spec."
SPEC_METHOD = "outrider.spec.method"
SPEC_K_MAX = "outrider.spec.k_max"
SPEC_K_MEAN = "outrider.spec.k_mean"
SPEC_STEPS = "outrider.spec.steps"
SPEC_DRAFTED_TOKENS = "outrider.spec.drafted_tokens"
SPEC_ACCEPTED_TOKENS = "outrider.spec.accepted_tokens"
SPEC_EMITTED_TOKENS = "outrider.spec.emitted_tokens"
SPEC_ACCEPTANCE_RATE = "outrider.spec.acceptance_rate"
SPEC_MEAN_ACCEPTED_LEN = "outrider.spec.mean_accepted_len"
SPEC_ACCEPT_LEN_HISTOGRAM = "outrider.spec.accept_len_histogram"
SPEC_DROPPED_DRAFTS = "outrider.spec.dropped_drafts"
GRAMMAR_KIND = "outrider.grammar.kind"
GRAMMAR_COMPILE_MS = "outrider.grammar.compile_ms"
GRAMMAR_CACHE_HIT = "outrider.grammar.cache_hit"
GRAMMAR_ROUTE = "outrider.grammar.route"
GRAMMAR_VALIDATION_RETRIES = "outrider.grammar.validation_retries"
GRAMMAR_BACKEND = "outrider.grammar.backend"
GRAMMAR_BACKEND_REASON = "outrider.grammar.backend_reason"

SPEC_DROPPED_EVENT = "outrider.spec.dropped"
RESUMED_EVENT = "outrider.resumed"
RESUMED_REASON = "outrider.resumed.reason"
RESUMED_FROM = "outrider.resumed.from"
RESUMED_ON = "outrider.resumed.on"
RESUMED_OUTPUT_TOKENS = "outrider.resumed.output_tokens"
RESUMED_SECONDS = "outrider.resumed.seconds"
FIRST_TOKEN_EVENT = "outrider.first_token"  # noqa: S105, a token of text

# `error.type` stays low in cardinality: these, an HTTP status, or OTHER.
ERROR_TYPE = "error.type"
CLIENT_DISCONNECTED = "client_disconnected"
OTHER = "_OTHER"
ERROR_TYPES = frozenset(
    {
        "rate_limit_exceeded",
        "queue_full",
        "queue_timeout",
        "deadline_exceeded",
        "context_length_exceeded",
        "invalid_request",
        "grammar_compile_failed",
        "validation_failed",
        "kv_exhausted",
        "model_not_found",
        "engine_error",
        CLIENT_DISCONNECTED,
        OTHER,
    }
)

FINISHED_BY_ERROR = "error"

# Any other method is `_OTHER` in the attribute and "HTTP" in the span's name: both are chosen by the client.
HTTP_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})


def spec_of(method: str, name: str) -> str:
    """One of the names above for one proposer alone: `outrider.spec.ngram.steps`."""
    return f"{SPEC_PREFIX}{method}.{name.removeprefix(SPEC_PREFIX)}"


def _dotted(*with_dots: str) -> dict[str, str]:
    return {name.replace(".", "_"): name for name in with_dots}


# Prometheus writes underscores where OpenTelemetry writes dots: the way back.
OTLP_METRICS = _dotted(
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
    "gen_ai.client.token.usage",
    "gen_ai.server.request.duration",
    "gen_ai.server.time_per_output_token",
    "gen_ai.server.time_to_first_token",
    "http.server.active_requests",
    "http.server.request.duration",
)
OTLP_LABELS = _dotted(
    *(GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, "gen_ai.token.type"),
    *(ERROR_TYPE, HTTP_ROUTE, HTTP_RESPONSE_STATUS_CODE),
)
