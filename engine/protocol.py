"""The messages between a gateway and an engine, and their encoding. Imports no torch: both processes use it.

One WebSocket per pair; each binary frame is one msgpack message. The engine greets with `Hello`; then the gateway
sends commands, and the engine answers with one `StepOutputs` per step for all of that gateway's requests.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from outrider.engine.errors import RequestError

MAX_FRAME_BYTES = 64 * 2**20

OFF = "off"  # no proposer may draft
AUTO = "auto"  # all may, and the engine decides which do, and how much
PREDICTION = "prediction"  # the proposer that a request's own prediction feeds

# Where a token comes from, beside the proposers' names.
BONUS = "bonus"  # drawn by the target behind the last accepted node of a draft
TARGET = "target"  # drawn in a step without a draft


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are drawn, and when to end. The gateway has checked the ranges."""

    seed: int  # 64-bit, never negative: with the position and the token it fixes the noise
    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0  # 0: the most likely token, without noise
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    typical_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    allowed_token_ids: tuple[int, ...] = ()  # none: all
    bad_words: tuple[tuple[int, ...], ...] = ()  # sequences of tokens that are never generated
    stop_token_ids: tuple[int, ...] = ()
    max_time: float | None = None  # seconds from arrival at the engine; then the answer ends as it is
    ignore_eos: bool = False
    num_logprobs: int | None = None  # how many of the likeliest tokens to report; 0: the drawn one alone; None: nothing
    processed_logprobs: bool = False  # of what tokens are drawn from, instead of the model's own
    num_prompt_logprobs: int | None = None  # the same of the prompt's tokens, always the model's own


class SpeculationParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which proposers may draft for a request (none: speculation is off) and how many tokens a step."""

    methods: tuple[str, ...] = ()  # the one to be trusted most first
    max_tokens: int = 0
    prediction_ids: tuple[int, ...] = ()  # what the client expects the answer to be
    auto: bool = False  # which of the methods are asked, and what is verified, is decided step by step
    tree: bool = True  # False: of the first method that offers something, one chain
    min_probability: float = 0.0  # of a node that is verified: its estimated chance to be reached


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Starts a request. Output ids already emitted elsewhere let it go on from where another engine left it."""

    request_id: str
    prompt_ids: list[int]
    params: SamplingParams
    speculation: SpeculationParams = SpeculationParams()
    grammar_key: str | None = None
    output_ids: list[int] = []
    priority: int = 0  # lower values first
    cache_salt: str = ""  # requests share cached prefixes with those of the same salt alone
    token_origins: bool = False  # whether deltas tell where their tokens come from
    trace_id: str = ""  # of the request's trace, for the engine's own log lines


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Ends a request; if it still runs, one last delta tells its figures."""

    request_id: str


class LoadGrammar(msgspec.Struct, frozen=True, tag="load_grammar"):
    """A compiled grammar, sent once per engine before the first request that names its key.

    An engine that has given it up since says so with `TokenDelta.needs_grammar`.
    """

    key: str
    backend: str
    data: bytes


Command = Submit | Abort | LoadGrammar


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """What a gateway must know of the engine's model."""

    model_path: str
    vocab_size: int  # width of the output layer
    max_model_len: int  # prompt and output together
    eos_token_ids: tuple[int, ...]
    default_sampling: dict[str, float]  # the checkpoint's own defaults: temperature, top_p, top_k
    speculation_methods: tuple[str, ...]
    speculation_max_tokens: int
    default_speculation: tuple[str, ...]  # of requests that say nothing: methods, or `off` or `auto` alone
    max_num_seqs: int = 64  # that share a step

    @property
    def num_answers_at_once(self) -> int:
        """How many to send at a time: all that share a step, and a few that begin as soon as one of them ends."""
        return self.max_num_seqs + max(1, self.max_num_seqs // 8)

    def given(self, asked: float | None, name: str, neutral: float) -> float:
        """What a request says, else what the checkpoint says, else what changes nothing."""
        return self.default_sampling.get(name, neutral) if asked is None else asked

    def speculation(
        self,
        methods: Sequence[str],
        max_tokens: int | None,
        prediction_ids: Sequence[int],
        *,
        tree: bool = True,
        min_probability: float = 0.0,
    ) -> SpeculationParams:
        """Which proposers may draft: those that a request asks for, and `prediction` first where it brings one.

        Where the engine does not speculate at all, a prediction is left unused.

        Args:
            methods: none for the engine's default; `off` or `auto` stand alone
            max_tokens: of a step's draft; clipped to the engine's own bound
            prediction_ids: what the client expects the answer to be, if it has said so
            tree: whether offers are merged, or the first one alone is followed, as a chain
            min_probability: below it a drafted token is not worth verifying, 0 to 1

        Raises:
            RequestError: a method that is not loaded, `prediction` without one, or one that can never be emitted.
        """
        for name in (OFF, AUTO):
            if name in methods and len(methods) > 1:
                raise RequestError(f"speculation `{name}` stands alone: leave it or the other methods out")
        if OFF in methods:
            return SpeculationParams()
        chosen = tuple(methods) or self.default_speculation
        chosen = () if chosen == (OFF,) else chosen
        is_auto = chosen == (AUTO,) and self.speculation_methods != ()
        if is_auto:
            chosen = tuple(name for name in self.speculation_methods if name != PREDICTION)
        if PREDICTION in chosen and not prediction_ids:
            raise RequestError(f"speculation method `{PREDICTION}` needs the field `prediction` with a text")
        if prediction_ids and PREDICTION in self.speculation_methods:
            if len(prediction_ids) > self.max_model_len:
                raise RequestError(
                    f"the prediction has {len(prediction_ids)} tokens, more than the context of {self.max_model_len}"
                )
            chosen = (PREDICTION, *chosen)
        chosen = tuple(dict.fromkeys(chosen))
        for method in chosen:
            if method not in self.speculation_methods:
                choices = (OFF, AUTO, *self.speculation_methods) if self.speculation_methods else (OFF,)
                listed = ", ".join(f"`{name}`" for name in choices)
                raise RequestError(f"speculation method `{method}` is not loaded: use one of {listed}")
        if not chosen:
            return SpeculationParams()
        bound = self.speculation_max_tokens
        return SpeculationParams(
            methods=chosen,
            max_tokens=min(max_tokens or bound, bound),
            prediction_ids=tuple(prediction_ids) if PREDICTION in chosen else (),
            auto=is_auto,
            tree=tree,
            min_probability=min_probability,
        )


class SpeculationFigures(msgspec.Struct, frozen=True):
    """What one proposer did for one request. A verified step is one with at least one drafted token."""

    method: str
    num_steps: int
    num_draft_tokens: int
    num_accepted_tokens: int
    acceptance_histogram: list[int]  # index j: verified steps that accepted j drafted tokens
    num_dropped: int = 0  # drafts that were not used: the proposer failed, or offered no tree of tokens


class TokenGaps(msgspec.Struct, frozen=True):
    """Seconds between one step that gave a request tokens and the next such step; a step may give several."""

    median: float
    percentile_99: float
    longest: float


class RequestFigures(msgspec.Struct, frozen=True):
    """Where the time of a request went; monotonic seconds spent between its marks."""

    queue_seconds: float  # arrival at the engine to its first step
    prefill_seconds: float  # first step to first token
    decode_seconds: float  # first token to last
    num_steps: int
    num_preemptions: int
    num_cached_tokens: int = 0  # of the prompt, whose KV was there when the request started
    speculation: list[SpeculationFigures] = []  # by method; a token that several offered counts for each
    whole_drafts: SpeculationFigures | None = None  # of all together, where anything was drafted
    arrived_at: float = 0.0  # at the engine, seconds since 1970
    waits: list[tuple[float, float]] = []  # from and until when it waited, since its arrival: at first, then preempted
    num_waiting: int = 0  # requests that were waiting when it arrived
    num_chunks: int = 0  # steps that computed its prompt
    num_cache_writes: int = 0  # tokens of the prompt that others can share from now on
    token_gaps: TokenGaps | None = None  # of two such steps at least


class TokenLogprobs(msgspec.Struct, frozen=True):
    """Natural log-probabilities at one place: of the drawn token, and of the likeliest ones in falling order."""

    drawn: float
    top_ids: list[int]
    top: list[float]


class TokenDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step gave one request. Figures come with the first token, and again with the finish reason."""

    request_id: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] = []  # one for each token, where asked for
    prompt_logprobs: list[TokenLogprobs] = []  # with the first token, of the prompt's second token and all behind it
    finish_reason: FinishReason | None = None
    error: str | None = None
    needs_grammar: bool = False  # with an error: load the grammar again and submit again
    is_engine_fault: bool = False  # with an error: of the engine, not of the request, which another may serve
    figures: RequestFigures | None = None
    origins: list[str] = []  # one for each token, where asked for: a proposer's name, BONUS or TARGET


class EngineStats(msgspec.Struct, frozen=True):
    """The engine's state after a step; totals count since its start."""

    num_running: int
    num_waiting: int
    num_blocks: int
    num_blocks_used: int
    total_steps: int
    total_step_seconds: float
    total_preemptions: int
    total_cached_tokens: int  # of prompts, found in the prefix cache
    draft_tokens: dict[str, int]  # by method
    accepted_draft_tokens: dict[str, int]
    acceptance_histograms: dict[str, list[int]]  # by method, index j: verified steps that accepted j drafted tokens
    dropped_drafts: dict[str, int]  # by method: offers of proposers that failed, or that were no tree of tokens
    token_origins: dict[str, int]  # emitted tokens: by method, BONUS and TARGET
    resident_bytes: int
    peak_resident_bytes: int
    total_mask_seconds: float = 0.0  # spent on grammar masks, inside steps


class StepOutputs(msgspec.Struct, frozen=True, tag="step"):
    """One frame per step; no deltas when only the state changed, after an abort say."""

    deltas: list[TokenDelta]
    stats: EngineStats


Event = Hello | StepOutputs

encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_event = msgspec.msgpack.Decoder(Event).decode
