"""POST /v1/completions."""

from aiohttp import web
from msgspec import UnsetType

from outrider.gateway.endpoint import Endpoint, Head, serve
from outrider.gateway.requests import CompletionRequest
from outrider.gateway.responses import Completion, FinishReason, RequestMetrics, TextChoice, Usage


async def completions(request: web.Request) -> web.StreamResponse:
    """Goes on from a text."""
    return await serve(request, _COMPLETION)


def _whole(
    head: Head, text: str, reason: FinishReason, usage: Usage, metrics: RequestMetrics | UnsetType
) -> Completion:
    choices = [TextChoice(text, reason)]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=usage, metrics=metrics)


def _opening(_head: Head) -> None:
    return None


def _piece(head: Head, text: str, reason: FinishReason | None) -> Completion:
    choices = [TextChoice(text, reason)]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=head.chunk_usage)


def _closing(head: Head, usage: Usage | UnsetType | None, metrics: RequestMetrics | UnsetType) -> Completion:
    return Completion(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, metrics=metrics)


_COMPLETION = Endpoint("text_completion", CompletionRequest, "cmpl", _whole, _opening, _piece, _closing)
