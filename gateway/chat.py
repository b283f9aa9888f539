"""POST /v1/chat/completions."""

from aiohttp import web
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from outrider.gateway.endpoint import Endpoint, Head, serve
from outrider.gateway.generation import Piece
from outrider.gateway.requests import ChatRequest
from outrider.gateway.responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    Delta,
    RequestMetrics,
    Usage,
)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answers a conversation."""
    return await serve(request, _CHAT)


def _whole(head: Head, answers: list[Piece], usage: Usage, metrics: RequestMetrics | UnsetType) -> ChatCompletion:
    choices = [
        ChatChoice(
            _message(answer),
            answer.finish_reason or "stop",
            answer.index,
            _logprobs(answer),
            head.origins(answer),
            list(answer.violations) or UNSET,
        )
        for answer in answers
    ]
    return ChatCompletion(
        id=head.id, created=head.created, model=head.model, choices=choices, usage=usage, metrics=metrics
    )


def _message(answer: Piece) -> AssistantMessage:
    calls = [replace(call, index=UNSET) for call in answer.calls]
    return AssistantMessage(
        answer.content if answer.content or not calls else None,
        reasoning_content=answer.reasoning or UNSET,
        reasoning=answer.reasoning or UNSET,
        tool_calls=calls or UNSET,
    )


def _chunk(head: Head, choice: ChunkChoice) -> ChatChunk:
    return ChatChunk(id=head.id, created=head.created, model=head.model, choices=[choice], usage=head.chunk_usage)


def _opening(head: Head, index: int) -> ChatChunk:
    return _chunk(head, ChunkChoice(Delta(role="assistant", content=""), index=index))


def _piece(head: Head, piece: Piece) -> ChatChunk:
    delta = Delta(
        content=piece.content or UNSET,
        reasoning_content=piece.reasoning or UNSET,
        reasoning=piece.reasoning or UNSET,
        tool_calls=list(piece.calls) or UNSET,
    )
    return _chunk(head, ChunkChoice(delta, piece.finish_reason, piece.index, _logprobs(piece), head.origins(piece)))


def _logprobs(piece: Piece) -> ChatLogprobs | None:
    return ChatLogprobs(list(piece.logprobs)) if piece.logprobs else None


def _closing(head: Head, usage: Usage | UnsetType | None, metrics: RequestMetrics | UnsetType) -> ChatChunk:
    return ChatChunk(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, metrics=metrics)


_CHAT = Endpoint("chat", ChatRequest, "chatcmpl", _whole, _opening, _piece, _closing)
