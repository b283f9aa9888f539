"""What a request asks of sampling, completed by the checkpoint's defaults and by OpenAI's."""

import secrets

from outrider.engine.protocol import SamplingParams
from outrider.gateway.errors import context_exceeded, invalid
from outrider.gateway.requests import ChatRequest, CompletionRequest
from outrider.gateway.state import Gateway


def sampling_params(
    request: ChatRequest | CompletionRequest,
    gateway: Gateway,
    num_prompt_tokens: int,
    max_tokens: int | None,
    prompt_field: str,
) -> SamplingParams:
    """What the request asks for, completed by the checkpoint's defaults and by OpenAI's.

    Raises:
        ApiError: the prompt and the answer do not fit the context, or a token id is out of range.
    """
    hello = gateway.engine.hello
    room = hello.max_model_len - num_prompt_tokens
    if room < 1:
        raise context_exceeded(
            f"The prompt has {num_prompt_tokens} tokens, the model's context holds {hello.max_model_len} "
            "with the answer: shorten the prompt",
            prompt_field,
        )
    if max_tokens is not None and max_tokens > room:
        raise context_exceeded(
            f"`max_tokens` is {max_tokens}, but after {num_prompt_tokens} prompt tokens the context of "
            f"{hello.max_model_len} has room for {room}: lower it",
            "max_tokens",
        )
    for name in ("logit_bias", "stop_token_ids", "allowed_token_ids"):
        token_ids = getattr(request, name) or ()
        outside = [token_id for token_id in token_ids if not 0 <= token_id < hello.vocab_size]
        if outside:
            raise invalid(f"`{name}` names token {outside[0]}, but ids end at {hello.vocab_size - 1}", name)
    if request.min_tokens is not None and request.min_tokens > (max_tokens or room):
        raise invalid(f"`min_tokens` ({request.min_tokens}) is more than `max_tokens` allows", "min_tokens")
    ends = {*hello.eos_token_ids, *(request.stop_token_ids or ())}
    if request.min_tokens and request.allowed_token_ids and ends.issuperset(request.allowed_token_ids):
        raise invalid("`allowed_token_ids` has end tokens alone, which `min_tokens` forbids", "allowed_token_ids")
    return SamplingParams(
        seed=secrets.randbits(63) if request.seed is None else request.seed % 2**64,
        max_tokens=max_tokens or room,
        min_tokens=request.min_tokens or 0,
        temperature=hello.given(request.temperature, "temperature", 1.0),
        top_p=hello.given(request.top_p, "top_p", 1.0),
        top_k=max(0, int(hello.given(request.top_k, "top_k", 0))),
        min_p=hello.given(request.min_p, "min_p", 0.0),
        typical_p=1.0 if request.typical_p is None else request.typical_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        repetition_penalty=hello.given(request.repetition_penalty, "repetition_penalty", 1.0),
        logit_bias=request.logit_bias or {},
        allowed_token_ids=tuple(request.allowed_token_ids or ()),
        bad_words=gateway.tokenizer.encode_words(request.bad_words or ()),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        max_time=request.max_time,
        ignore_eos=bool(request.ignore_eos),
        num_logprobs=_num_logprobs(request),
        num_prompt_logprobs=request.logprobs if isinstance(request, CompletionRequest) and request.echo else None,
        processed_logprobs=request.logprobs_mode == "processed_logprobs",
    )


def _num_logprobs(request: ChatRequest | CompletionRequest) -> int | None:
    """How many of the likeliest tokens are reported at each place; None for no log-probabilities at all."""
    if isinstance(request, ChatRequest):
        if request.top_logprobs is not None and not request.logprobs:
            raise invalid("`top_logprobs` needs `logprobs` to be true", "top_logprobs")
        return (request.top_logprobs or 0) if request.logprobs else None
    if request.logprobs is None and request.best_of is not None and request.best_of > (request.n or 1):
        return 0  # what the best are chosen by
    return request.logprobs
