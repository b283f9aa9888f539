"""What a request may ask of an engine: checked for every caller, the gateway and Python programs alike."""

import math

from outrider.engine.errors import RequestError
from outrider.engine.protocol import SamplingParams, SpeculationParams, Submit


def check_submit(submit: Submit, *, vocab_size: int, max_model_len: int, methods: tuple[str, ...]) -> None:
    """Refuses what can never be served.

    Args:
        submit: the request
        vocab_size: token ids lie below it
        max_model_len: of prompt and answer together
        methods: speculation methods that are loaded

    Raises:
        RequestError: naming the field and what it may be.
    """
    params = submit.params
    if not submit.prompt_ids:
        raise RequestError("the prompt has no tokens")
    if len(submit.prompt_ids) + params.max_tokens > max_model_len:
        raise RequestError(
            f"{len(submit.prompt_ids)} prompt tokens and {params.max_tokens} to generate exceed the "
            f"context of {max_model_len} tokens"
        )
    if not all(0 <= token_id < vocab_size for token_id in (*submit.prompt_ids, *submit.output_ids)):
        raise RequestError(f"token ids must lie between 0 and {vocab_size - 1}")
    for name, named_ids in (
        ("logit_bias", params.logit_bias),
        ("allowed_token_ids", params.allowed_token_ids),
        ("stop_token_ids", params.stop_token_ids),
        ("bad_words", [token_id for word in params.bad_words for token_id in word]),
        ("prediction", submit.speculation.prediction_ids),
    ):
        if not all(0 <= token_id < vocab_size for token_id in named_ids):
            raise RequestError(f"{name} must name tokens between 0 and {vocab_size - 1}")
    if not all(params.bad_words):
        raise RequestError("bad_words must not be empty")
    if len(submit.output_ids) >= params.max_tokens:
        raise RequestError("the request has emitted all its tokens already")
    unknown = set(submit.speculation.methods) - set(methods)
    if unknown:
        raise RequestError(f"speculation method `{min(unknown)}` is not loaded: use one of {', '.join(methods)}")
    _check_ranges(params, submit.speculation)


def _check_ranges(params: SamplingParams, speculation: SpeculationParams) -> None:
    """Comparisons are written so that what is no number fails them."""
    for name, value, lowest, highest in (
        ("temperature", params.temperature, 0.0, math.inf),
        ("min_p", params.min_p, 0.0, 1.0),
        ("top_k", params.top_k, 0, math.inf),
        ("min_tokens", params.min_tokens, 0, math.inf),
        ("num_logprobs", params.num_logprobs or 0, 0, math.inf),
        ("num_prompt_logprobs", params.num_prompt_logprobs or 0, 0, math.inf),
        ("speculation.max_tokens", speculation.max_tokens, 0, math.inf),
        ("speculation.min_probability", speculation.min_probability, 0.0, 1.0),
    ):
        if not lowest <= value <= highest:
            raise RequestError(f"{name} must be between {lowest:g} and {highest:g}, not {value}")
    for name, value, highest in (
        ("top_p", params.top_p, 1.0),
        ("typical_p", params.typical_p, 1.0),
        ("repetition_penalty", params.repetition_penalty, math.inf),
    ):
        if not 0.0 < value <= highest:
            raise RequestError(f"{name} must be above 0 and at most {highest:g}, not {value}")
    for name, value in (
        ("temperature", params.temperature),
        ("frequency_penalty", params.frequency_penalty),
        ("presence_penalty", params.presence_penalty),
        *(("logit_bias", bias) for bias in params.logit_bias.values()),
    ):
        # A bias of minus infinity forbids its token.
        if math.isnan(value) or value == math.inf:
            raise RequestError(f"{name} must be a number, not {value}")
