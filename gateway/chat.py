"""POST /v1/chat/completions."""

from aiohttp import web
from msgspec import UNSET, UnsetType

from outrider.gateway.endpoint import Endpoint, Head, serve
from outrider.gateway.requests import ChatRequest
from outrider.gateway.responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Delta,
    FinishReason,
    RequestMetrics,
    Usage,
)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answers a conversation."""
    return await serve(request, _CHAT)


def _whole(
    head: Head, text: str, reason: FinishReason, usage: Usage, metrics: RequestMetrics | UnsetType
) -> ChatCompletion:
    choices = [ChatChoice(AssistantMessage(text), reason)]
    return ChatCompletion(
        id=head.id, created=head.created, model=head.model, choices=choices, usage=usage, metrics=metrics
    )


def _chunk(head: Head, choice: ChunkChoice) -> ChatChunk:
    return ChatChunk(id=head.id, created=head.created, model=head.model, choices=[choice], usage=head.chunk_usage)


def _opening(head: Head) -> ChatChunk:
    return _chunk(head, ChunkChoice(Delta(role="assistant", content="")))


def _piece(head: Head, text: str, reason: FinishReason | None) -> ChatChunk:
    return _chunk(head, ChunkChoice(Delta(content=text or UNSET), reason))


def _closing(head: Head, usage: Usage | UnsetType | None, metrics: RequestMetrics | UnsetType) -> ChatChunk:
    return ChatChunk(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, metrics=metrics)


_CHAT = Endpoint("chat", ChatRequest, "chatcmpl", _whole, _opening, _piece, _closing)
