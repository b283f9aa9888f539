"""What the caller tells about one inference, as plain values, and the span attributes that say it.

A figure that is None is unknown and leaves no attribute; zero is a figure. Knows nothing of spans.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes
from outrider.telemetry.spans import Phase

Operation: TypeAlias = Literal["chat", "text_completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAttributes:
    """What the client asked for: only what it set itself, never a default of ours.

    Attributes:
        max_tokens: The most tokens to generate, per choice.
        temperature: 0 is greedy.
        seed: Left out when it does not fit a signed 64-bit integer, which is all that OTLP carries.
        choice_count: OpenAI's `n`.
        output_type: "text" or "json", when a response format was asked for.
        conversation_id: Only one that the client gave.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    choice_count: int = 1
    output_type: Literal["text", "json"] | None = None
    conversation_id: str | None = None

    def attributes(self) -> Attributes:
        """The conventions give the types: a temperature that came as `0` is recorded as 0.0."""
        return {
            names.GEN_AI_REQUEST_MAX_TOKENS: self.max_tokens,
            names.GEN_AI_REQUEST_TEMPERATURE: _as_float(self.temperature),
            names.GEN_AI_REQUEST_TOP_P: _as_float(self.top_p),
            names.GEN_AI_REQUEST_TOP_K: self.top_k,
            names.GEN_AI_REQUEST_FREQUENCY_PENALTY: _as_float(self.frequency_penalty),
            names.GEN_AI_REQUEST_PRESENCE_PENALTY: _as_float(self.presence_penalty),
            names.GEN_AI_REQUEST_SEED: self.seed,
            names.GEN_AI_REQUEST_STOP_SEQUENCES: list(self.stop_sequences) or None,
            names.GEN_AI_REQUEST_CHOICE_COUNT: self.choice_count if self.choice_count != 1 else None,
            names.GEN_AI_OUTPUT_TYPE: self.output_type,
            names.GEN_AI_CONVERSATION_ID: self.conversation_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationFigures:
    """Sums over the steps of one request that verified a draft.

    Attributes:
        method: The proposers' names joined by "+", in a fixed order, or "off".
        max_tokens: The most tokens that were drafted in a step.
        acceptance_histogram: At place j the steps that accepted j tokens.
        drafted_tokens: Nodes that were offered and verified; they are no output.
        accepted_tokens: Those of them that became output.
        emitted_tokens: What those steps emitted: the accepted ones, and one more for each step.
    """

    method: str
    steps: int
    drafted_tokens: int
    accepted_tokens: int
    emitted_tokens: int
    max_tokens: int | None = None
    acceptance_histogram: tuple[int, ...] = ()

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted / drafted, None when nothing was drafted."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else None

    @property
    def mean_accepted_len(self) -> float | None:
        """Emitted / steps, None without a step; 1 is what plain decoding gives."""
        return self.emitted_tokens / self.steps if self.steps else None

    def attributes(self) -> Attributes:
        """The `outrider.spec.*` attributes."""
        return {
            names.SPEC_METHOD: self.method,
            names.SPEC_STEPS: self.steps,
            names.SPEC_DRAFTED_TOKENS: self.drafted_tokens,
            names.SPEC_ACCEPTED_TOKENS: self.accepted_tokens,
            names.SPEC_EMITTED_TOKENS: self.emitted_tokens,
            names.SPEC_ACCEPTANCE_RATE: self.acceptance_rate,
            names.SPEC_MEAN_ACCEPTED_LEN: self.mean_accepted_len,
            names.SPEC_ACCEPT_LEN_HISTOGRAM: list(self.acceptance_histogram) or None,
            names.SPEC_K_MAX: self.max_tokens,
            names.SPEC_K_MEAN: self.drafted_tokens / self.steps if self.steps else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """What one proposer did for one request; a token that several offered counts for each.

    Attributes:
        method: Its name: one of a fixed few.
        steps: Those that verified a draft of it.
        acceptance_histogram: At place j the steps that accepted j of its tokens.
        dropped_drafts: Drafts that were not used because it failed.
    """

    method: str
    steps: int
    drafted_tokens: int
    accepted_tokens: int
    acceptance_histogram: tuple[int, ...] = ()
    dropped_drafts: int = 0

    def attributes(self) -> Attributes:
        """The `outrider.spec.<method>.*` attributes."""
        figures: Attributes = {
            names.SPEC_STEPS: self.steps,
            names.SPEC_DRAFTED_TOKENS: self.drafted_tokens,
            names.SPEC_ACCEPTED_TOKENS: self.accepted_tokens,
            names.SPEC_ACCEPTANCE_RATE: self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else None,
            names.SPEC_ACCEPT_LEN_HISTOGRAM: list(self.acceptance_histogram) or None,
        }
        return {names.spec_of(self.method, name): value for name, value in figures.items()}

    def dropped(self) -> Attributes | None:
        """What the event of a proposer that failed says; None of one that did not."""
        if not self.dropped_drafts:
            return None
        return {names.SPEC_METHOD: self.method, names.SPEC_DROPPED_DRAFTS: self.dropped_drafts}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarFigures:
    """The grammar of one request.

    Attributes:
        kind: What the client sent: "json_schema", "json_object", "regex", "choice", "grammar", ...
        route: "exact", or "validated" where finished answers are checked.
        validation_retries: Answers that were drawn again because the check failed.
        compile_ms: Milliseconds that this request waited for the compiler; 0 on a cache hit.
        backend: The library that keeps it: "xgrammar" or "llguidance".
        backend_reason: Why that one.
    """

    kind: str
    compile_ms: float
    cache_hit: bool
    route: str = "exact"
    validation_retries: int = 0
    backend: str | None = None
    backend_reason: str | None = None

    def attributes(self) -> Attributes:
        """The `outrider.grammar.*` attributes."""
        return {
            names.GRAMMAR_KIND: self.kind,
            names.GRAMMAR_COMPILE_MS: float(self.compile_ms),
            names.GRAMMAR_CACHE_HIT: self.cache_hit,
            names.GRAMMAR_ROUTE: self.route,
            names.GRAMMAR_VALIDATION_RETRIES: self.validation_retries,
            names.GRAMMAR_BACKEND: self.backend,
            names.GRAMMAR_BACKEND_REASON: self.backend_reason or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """What came of one inference. A failed one tells what it has: never an invented usage.

    Attributes:
        finish_reasons: One per choice, in their order.
        input_tokens: Includes the cached ones.
        output_tokens: Emitted tokens of all choices, reasoning included, drafts not.
        cached_tokens: Prompt tokens whose KV was found in the prefix cache.
        queue_seconds: From admission to the first step that ran the request.
        prefill_seconds: From there to the first token.
        decode_seconds: From the first token to the last.
        methods: One for each proposer that had something to offer, or failed; the decode phases tell of their figures.
        cache_writes: Prompt tokens whose KV later requests can share, and could not before.
        preemptions: How often it gave up its KV blocks to others.
        phases: What it went through after admission, each a span.
    """

    response_id: str | None = None
    response_model: str | None = None
    finish_reasons: tuple[str, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    speculation: SpeculationFigures | None = None
    methods: tuple[MethodFigures, ...] = ()
    grammar: GrammarFigures | None = None
    cache_writes: int | None = None
    preemptions: int | None = None
    phases: tuple[Phase, ...] = ()

    def dropped_drafts(self) -> list[Attributes]:
        """What the events of the proposers that failed say."""
        return [told for told in (method.dropped() for method in self.methods) if told is not None]

    def attributes(self) -> Attributes:
        """Everything above as span attributes, except what the phases tell."""
        return {
            names.GEN_AI_RESPONSE_ID: self.response_id,
            names.GEN_AI_RESPONSE_MODEL: self.response_model,
            names.GEN_AI_RESPONSE_FINISH_REASONS: list(self.finish_reasons) or None,
            names.GEN_AI_USAGE_INPUT_TOKENS: self.input_tokens,
            names.GEN_AI_USAGE_OUTPUT_TOKENS: self.output_tokens,
            names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: self.cached_tokens,
            names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: self.cache_writes,
            names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: self.reasoning_tokens,
            names.SCHEDULER_PREEMPTIONS: self.preemptions,
            names.QUEUE_SECONDS: _as_float(self.queue_seconds),
            names.PREFILL_SECONDS: _as_float(self.prefill_seconds),
            names.DECODE_SECONDS: _as_float(self.decode_seconds),
            **(self.speculation.attributes() if self.speculation is not None else {}),
            **(self.grammar.attributes() if self.grammar is not None else {}),
        }


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)
