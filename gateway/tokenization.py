"""POST /tokenize and POST /detokenize, in vLLM's shapes: exactly the tokens that a request would have."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from outrider.gateway.answer_form import chat_prompt
from outrider.gateway.body import read_body
from outrider.gateway.endpoint import check_gate
from outrider.gateway.errors import invalid, model_not_allowed, unknown_model
from outrider.gateway.limits import Cost
from outrider.gateway.requests import ChatRequest, Message, Natural, parse_request
from outrider.gateway.state import GATEWAY, REQUEST_STATE, Gateway
from outrider.gateway.tool_fields import Tool

T = TypeVar("T", "TokenizeRequest", "DetokenizeRequest")


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /tokenize: either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | UnsetType = UNSET


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /detokenize."""

    tokens: list[Natural]
    model: str | None = None


class Text(msgspec.Struct, frozen=True):
    """The text of tokens."""

    prompt: str


async def tokenize(request: web.Request) -> web.Response:
    """The tokens of a prompt, or of a conversation through the chat template."""
    return await _answered(request, TokenizeRequest, _tokens)


async def detokenize(request: web.Request) -> web.Response:
    """The text of tokens, special ones included."""
    return await _answered(request, DetokenizeRequest, _text)


async def _answered(
    request: web.Request, request_type: type[T], answer: Callable[[Gateway, T], Awaitable[msgspec.Struct]]
) -> web.Response:
    gateway, state = request.app[GATEWAY], request[REQUEST_STATE]
    check_gate(gateway)
    with gateway.access.lease(state.key, gateway.model_name) as lease:  # it counts as a request without tokens
        state.headers.update(await lease.take(Cost(0, 0), gateway.model_name))
        lease.used = Cost(0, 0)
        parsed = parse_request(await read_body(request), request_type)
        model = gateway.model_name if parsed.model is None else parsed.model
        if not state.key.may_use(model):
            raise model_not_allowed(model, state.key.models or ())
        if model != gateway.model_name:
            raise unknown_model(model)
        body = msgspec.json.encode(await answer(gateway, parsed))
    return web.Response(body=body, content_type="application/json")


async def _tokens(gateway: Gateway, asked: TokenizeRequest) -> Tokens:
    if (asked.prompt is None) == (asked.messages is None):
        raise invalid("Send either `prompt` or `messages`", "prompt", "missing_required_parameter")
    if asked.messages is None:
        assert asked.prompt is not None
        text, with_special = asked.prompt, asked.add_special_tokens is not False
    else:
        text, _ = chat_prompt(
            gateway,
            ChatRequest(
                model=gateway.model_name,
                messages=asked.messages,
                chat_template_kwargs=asked.chat_template_kwargs,
                tools=asked.tools,
            ),
        )
        with_special = bool(asked.add_special_tokens)  # templates write their own
    tokenizer = gateway.tokenizer
    token_ids = await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=with_special)
    return Tokens(
        count=len(token_ids),
        max_model_len=gateway.engine.hello.max_model_len,
        tokens=token_ids,
        token_strs=await asyncio.to_thread(tokenizer.tokens, token_ids) if asked.return_token_strs else UNSET,
    )


async def _text(gateway: Gateway, asked: DetokenizeRequest) -> Text:
    outside = [token_id for token_id in asked.tokens if token_id >= gateway.engine.hello.vocab_size]
    if outside:
        raise invalid(f"`tokens` names token {outside[0]}, which the model does not have", "tokens", "invalid_value")
    return Text(await asyncio.to_thread(gateway.tokenizer.decode, asked.tokens, skip_special_tokens=False))
