"""POST /v1/completions."""

from itertools import accumulate

from aiohttp import web
from msgspec import UnsetType

from outrider.gateway.endpoint import Endpoint, Head, serve
from outrider.gateway.generation import Piece
from outrider.gateway.requests import CompletionRequest
from outrider.gateway.responses import Completion, RequestMetrics, TextChoice, TextLogprobs, Usage


async def completions(request: web.Request) -> web.StreamResponse:
    """Goes on from a text."""
    return await serve(request, _COMPLETION)


def _whole(head: Head, answers: list[Piece], usage: Usage, metrics: RequestMetrics | UnsetType) -> Completion:
    choices = [TextChoice(answer.text, answer.finish_reason, answer.index, _logprobs(answer, 0)) for answer in answers]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=usage, metrics=metrics)


def _opening(_head: Head, _index: int) -> None:
    return None


def _piece(head: Head, piece: Piece, offset: int) -> Completion:
    choices = [TextChoice(piece.text, piece.finish_reason, piece.index, _logprobs(piece, offset))]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=head.chunk_usage)


def _logprobs(piece: Piece, offset: int) -> TextLogprobs | None:
    if not piece.logprobs:
        return None
    offsets = accumulate((len(one.token) for one in piece.logprobs), initial=offset)
    return TextLogprobs(
        tokens=[one.token for one in piece.logprobs],
        token_logprobs=[one.logprob for one in piece.logprobs],
        top_logprobs=[{top.token: top.logprob for top in one.top_logprobs} for one in piece.logprobs],
        text_offset=list(offsets)[:-1],
    )


def _closing(head: Head, usage: Usage | UnsetType | None, metrics: RequestMetrics | UnsetType) -> Completion:
    return Completion(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, metrics=metrics)


_COMPLETION = Endpoint("text_completion", CompletionRequest, "cmpl", _whole, _opening, _piece, _closing)
