"""Decides whether a parsed request can be served, and turns it into what the engine needs. Compiles its grammar.

Everything a client can get wrong about a model's limits is found here, before the engine hears of the request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec

from outrider.engine.errors import RequestError
from outrider.engine.protocol import SamplingParams, SpeculationParams, Submit
from outrider.gateway.answer_form import AnswerForm, chat_prompt, refuse_answer
from outrider.gateway.errors import ApiError, context_exceeded, invalid, unavailable
from outrider.gateway.forms import Form, form_of
from outrider.gateway.keys import Key
from outrider.gateway.requests import (
    ChatRequest,
    CompletionRequest,
    SpeculationOptions,
    refuse_unsupported,
)
from outrider.gateway.sampling import sampling_params
from outrider.gateway.state import Gateway
from outrider.structured.constraint import SUBJECTS, CompiledGrammar
from outrider.structured.errors import StructuredError, WorkerError
from outrider.structured.finding import refusal
from outrider.telemetry.figures import GrammarFigures, RequestAttributes
from outrider.telemetry.inference_trace import InferenceTrace
from outrider.telemetry.phases import grammar_compile

# Longer texts are tokenised in a thread, so that other requests do not wait for them.
LONG_TEXT = 20_000  # characters

# Takes the number of prompt tokens, the most of an answer, and the number of answers.
Reserve = Callable[[int, int, int], Awaitable[None]]


DEFAULT_VALIDATION_RETRIES = 2


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """What is done with each finished answer whose grammar enforces only a part of its schema."""

    schema: bytes
    is_streamed: bool  # then nothing can be drawn again: what was sent cannot be recalled
    max_retries: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that will be served: one answer for each of `submits`, of which `num_choices` are returned.

    `echo` is what the text of every answer begins with.
    """

    submits: tuple[Submit, ...]
    num_choices: int
    echo: str
    stops: tuple[str, ...]
    stop_token_ids: frozenset[int]  # tokens whose text is not shown when they end the answer
    requested_draft_tokens: int | None  # of a step, as the request says; the server may have allowed less
    grammar: CompiledGrammar | None
    grammar_figures: GrammarFigures | None
    answer: AnswerForm
    check: AnswerCheck | None
    reserve: Reserve  # for whatever more it turns out to cost


async def admit(
    gateway: Gateway,
    request: ChatRequest | CompletionRequest,
    request_id: str,
    key: Key,
    reserve: Reserve,
    *,
    inference: InferenceTrace,
    trace_id: str,
) -> Admitted:
    """Checks a request against the model, the key and its limits, and prepares it.

    Args:
        gateway: who serves it
        request: as the client sent it
        request_id: of its first answer
        key: that it came with
        reserve: takes what it will cost as soon as that is known, and before anything that costs more
        inference: gets the compilation of its grammar as a phase
        trace_id: of its trace, for the engine's log; empty for none

    Raises:
        ApiError: it cannot be served; the message names the field.
    """
    refuse_unsupported(request)
    if request.stream_options is not None and not request.stream:
        raise invalid("`stream_options` is only for streams: set `stream` to true or remove it", "stream_options")
    hello = gateway.engine.hello
    if isinstance(request, ChatRequest):
        text, answer = chat_prompt(gateway, request)
        field, prompt_ids = "messages", await _encode(gateway, text, add_special_tokens=False)
        max_tokens = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    else:
        answer = AnswerForm()
        field, prompt_ids = "prompt", await _text_prompt(gateway, request)
        max_tokens = request.max_tokens
    _check_context(key, len(prompt_ids), max_tokens, field)
    params = sampling_params(request, gateway, len(prompt_ids), max_tokens, field)
    if key.max_context is not None:
        params = msgspec.structs.replace(params, max_tokens=min(params.max_tokens, key.max_context - len(prompt_ids)))
    num_choices = request.n or 1
    num_candidates = _num_candidates(request, num_choices)
    await reserve(len(prompt_ids), params.max_tokens, num_candidates)
    options = _speculation_options(request)
    speculation = await _speculation(gateway, request, options)
    grammar, figures = await _grammar(gateway, form_of(request), answer, inference)
    stop = request.stop
    submit = Submit(
        request_id=request_id,
        prompt_ids=prompt_ids,
        params=params,
        speculation=speculation,
        grammar_key=None if grammar is None else grammar.key,
        priority=key.priority_of(request.priority),
        cache_salt=key.cache_salt(request.cache_salt),
        token_origins=bool(request.return_token_origins),
        trace_id=trace_id,
    )
    return Admitted(
        submits=_candidates(submit, num_candidates),
        num_choices=num_choices,
        echo=_echo(gateway, request, prompt_ids),
        stops=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=frozenset((*hello.eos_token_ids, *params.stop_token_ids)),
        requested_draft_tokens=options.max_tokens,
        grammar=grammar,
        grammar_figures=figures,
        answer=answer,
        check=_answer_check(request, grammar, params),
        reserve=reserve,
    )


def _check_context(key: Key, num_prompt_tokens: int, max_tokens: int | None, prompt_field: str) -> None:
    """Refuses what is longer than a key allows."""
    allowed = key.max_context
    if allowed is None:
        return
    if num_prompt_tokens >= allowed:
        raise context_exceeded(
            f"The prompt has {num_prompt_tokens} tokens, this key allows {allowed} with the answer: shorten the prompt",
            prompt_field,
        )
    if max_tokens is not None and num_prompt_tokens + max_tokens > allowed:
        raise context_exceeded(
            f"`max_tokens` is {max_tokens}, but after {num_prompt_tokens} prompt tokens this key allows "
            f"{allowed - num_prompt_tokens} more: lower it",
            "max_tokens",
        )


def _candidates(submit: Submit, count: int) -> tuple[Submit, ...]:
    """The request `count` times, with seeds that follow one another."""
    return tuple(
        msgspec.structs.replace(
            submit,
            request_id=f"{submit.request_id}-{index}" if index else submit.request_id,
            params=msgspec.structs.replace(submit.params, seed=(submit.params.seed + index) % 2**64),
        )
        for index in range(count)
    )


def _num_candidates(request: ChatRequest | CompletionRequest, num_choices: int) -> int:
    best_of = request.best_of if isinstance(request, CompletionRequest) else None
    if best_of is None:
        return num_choices
    if best_of < num_choices:
        raise invalid(f"`best_of` ({best_of}) is less than `n` ({num_choices}): raise it or leave it out", "best_of")
    if best_of > num_choices and request.stream:
        raise invalid("`best_of` chooses when all is known: set `stream` to false or `best_of` to `n`", "best_of")
    return best_of


def _echo(gateway: Gateway, request: ChatRequest | CompletionRequest, prompt_ids: list[int]) -> str:
    if not isinstance(request, CompletionRequest) or not request.echo:
        return ""
    return request.prompt if isinstance(request.prompt, str) else gateway.tokenizer.decode(prompt_ids)


def _speculation_options(request: ChatRequest | CompletionRequest) -> SpeculationOptions:
    """The long form of what the request says of speculation; without methods where it says nothing."""
    asked = request.speculation
    return asked if isinstance(asked, SpeculationOptions) else SpeculationOptions([] if asked is None else [asked])


async def _speculation(
    gateway: Gateway, request: ChatRequest | CompletionRequest, options: SpeculationOptions
) -> SpeculationParams:
    """Which proposers may draft.

    Raises:
        ApiError: a method or a prediction that cannot be honoured.
    """
    hello = gateway.engine.hello
    prediction = request.prediction if isinstance(request, ChatRequest) else None
    is_used = prediction is not None and "off" not in options.methods and hello.speculation_methods
    ids = await _encode(gateway, prediction.text, add_special_tokens=False) if prediction and is_used else []
    try:
        return hello.speculation(
            options.methods,
            options.max_tokens,
            ids,
            tree=options.tree is not False,
            min_probability=options.min_probability or 0.0,
        )
    except RequestError as error:
        field = "prediction" if str(error).startswith("the prediction") else "speculation"
        raise invalid(f"{error}"[:1].upper() + f"{error}"[1:], field, "invalid_value") from error


def request_attributes(request: ChatRequest | CompletionRequest) -> RequestAttributes:
    """What the trace says about what was asked: only what the client set itself."""
    stop = request.stop
    max_completion_tokens = request.max_completion_tokens if isinstance(request, ChatRequest) else None
    response_format = request.response_format
    return RequestAttributes(
        max_tokens=request.max_tokens if max_completion_tokens is None else max_completion_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        seed=request.seed,
        stop_sequences=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        choice_count=request.n or 1,
        output_type=None if response_format is None else "text" if response_format.type == "text" else "json",
    )


async def _text_prompt(gateway: Gateway, request: CompletionRequest) -> list[int]:
    prompt = request.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        token_ids = await _encode(gateway, prompt, add_special_tokens=True)
    elif prompt and all(isinstance(token_id, int) and not isinstance(token_id, bool) for token_id in prompt):
        token_ids = prompt
        outside = [token_id for token_id in prompt if not 0 <= token_id < gateway.engine.hello.vocab_size]
        if outside:
            raise invalid(f"`prompt` names token {outside[0]}, which the model does not have", "prompt")
    else:
        raise invalid("`prompt` must be one string or one list of token ids: send several prompts apart", "prompt")
    if not token_ids:
        raise invalid("`prompt` is empty: the model needs at least one token to go on from", "prompt")
    return token_ids


async def _encode(gateway: Gateway, text: str, *, add_special_tokens: bool) -> list[int]:
    if len(text) < LONG_TEXT:
        return gateway.tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(gateway.tokenizer.encode, text, add_special_tokens=add_special_tokens)


def _answer_check(
    request: ChatRequest | CompletionRequest, grammar: CompiledGrammar | None, params: SamplingParams
) -> AnswerCheck | None:
    if grammar is None or not grammar.left:
        return None
    given = request.max_validation_retries
    retries = DEFAULT_VALIDATION_RETRIES if given is None else given
    is_final = bool(request.stream) or params.temperature == 0
    return AnswerCheck(grammar.schema, bool(request.stream), 0 if is_final else retries)


async def _grammar(
    gateway: Gateway, form: Form | None, answer: AnswerForm, inference: InferenceTrace
) -> tuple[CompiledGrammar | None, GrammarFigures | None]:
    content = None if form is None else form.constraint
    try:
        constraint = answer.constraint(content)
    except StructuredError as error:
        raise _invalid_form(form, error) from error
    if constraint is None:
        return None, None
    started = time.monotonic()
    is_cached = gateway.compiler.is_cached(constraint)
    is_compiled = False
    try:
        grammar = await gateway.compiler.compile(constraint)
        is_compiled = True
    except WorkerError as error:
        raise unavailable(f"The grammar compiler is not available: {error}") from error
    except StructuredError as error:
        await refuse_answer(gateway.compiler, answer, error)
        raise _invalid_form(form, error) from error
    finally:
        ended = time.monotonic()
        compile_ms = 0.0 if is_cached else (ended - started) * 1000
        figures = GrammarFigures(kind=constraint.kind, compile_ms=compile_ms, cache_hit=is_cached)
        inference.phase(grammar_compile(started, ended, figures, has_failed=not is_compiled))
    if content is not None and constraint is not content:  # what is left of the content's own schema
        part = await gateway.compiler.compile(content)
        grammar = msgspec.structs.replace(grammar, left=part.left, schema=part.schema)
    if form is not None and form.is_strict and (problem := refusal(grammar.left, strict=True)) is not None:
        raise _invalid_form(form, problem)
    backend = grammar.backend.partition("-")[0]
    if not is_cached:
        gateway.metrics.observe_grammar_compile(ended - started, backend)
    return grammar, replace(
        figures,
        route="validated" if grammar.left else "exact",
        backend=backend,
        backend_reason=grammar.reason,
    )


def _invalid_form(form: Form | None, problem: StructuredError) -> ApiError:
    """A 400 that names every keyword which cannot be honoured."""
    if form is None:
        return ApiError(400, f"The grammar of the tools is refused: {problem}", param="tools")
    name = "" if form.name is None else f" '{form.name}'"
    kind = "json_schema" if form.constraint.kind == "json_object" else form.constraint.kind
    return ApiError(
        400,
        f"Invalid {SUBJECTS[kind]} for {form.field}{name}: {problem}",
        param=form.field,
        code=f"invalid_{kind}",
        error_type="grammar_compile_failed",
    )
