"""POST /v1/completions."""

from aiohttp import web
from msgspec import UNSET, UnsetType

from outrider.gateway.endpoint import Endpoint, Head, serve
from outrider.gateway.generation import Piece
from outrider.gateway.requests import CompletionRequest
from outrider.gateway.responses import Completion, RequestMetrics, TextChoice, TextLogprobs, TokenLogprob, Usage


async def completions(request: web.Request) -> web.StreamResponse:
    """Goes on from a text."""
    return await serve(request, _COMPLETION)


def _whole(head: Head, answers: list[Piece], usage: Usage, metrics: RequestMetrics | UnsetType) -> Completion:
    choices = [_choice(head, answer) for answer in answers]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=usage, metrics=metrics)


def _opening(_head: Head, _index: int) -> None:
    return None


def _piece(head: Head, piece: Piece) -> Completion:
    choices = [_choice(head, piece)]
    return Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=head.chunk_usage)


def _choice(head: Head, piece: Piece) -> TextChoice:
    violations = list(piece.violations) or UNSET
    return TextChoice(piece.text, piece.finish_reason, piece.index, _logprobs(piece), head.origins(piece), violations)


def _logprobs(piece: Piece) -> TextLogprobs | None:
    if not piece.logprobs:
        return None
    return TextLogprobs(
        tokens=[one.token for one in piece.logprobs],
        token_logprobs=[one.logprob for one in piece.logprobs],
        top_logprobs=[_likeliest(one) for one in piece.logprobs],
        text_offset=list(piece.offsets),
    )


def _likeliest(token: TokenLogprob) -> dict[str, float] | None:
    """By the tokens' text, the token itself with them. Of tokens that look alike the likeliest counts."""
    if token.logprob is None:
        return None
    found = {top.token: top.logprob for top in reversed(token.top_logprobs)}
    found.setdefault(token.token, token.logprob)
    return found


def _closing(head: Head, usage: Usage | UnsetType | None, metrics: RequestMetrics | UnsetType) -> Completion:
    return Completion(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, metrics=metrics)


_COMPLETION = Endpoint("text_completion", CompletionRequest, "cmpl", _whole, _opening, _piece, _closing)
