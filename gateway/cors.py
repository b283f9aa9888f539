"""Which pages of other sites may read answers: none, unless `cors_origin` names them."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from outrider.gateway.state import GATEWAY

_EXPOSED = "x-request-id, traceresponse, retry-after, retry-after-ms, x-should-retry, " + ", ".join(
    f"x-ratelimit-{word}-{what}" for what in ("requests", "tokens") for word in ("limit", "remaining", "reset")
)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, traceparent, x-request-id, x-request-timeout",
    "Access-Control-Max-Age": "600",
}


@web.middleware
async def answer_preflight(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers a browser that asks whether a page may send a request; it sends no key with that."""
    if request.method == "OPTIONS" and _allowed(request) and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=204, headers=_PREFLIGHT)
    return await handler(request)


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: lets the pages that are allowed read the answer, whatever it is."""
    if not request.app[GATEWAY].config.cors_origin:
        return
    response.headers.add("Vary", "Origin")
    if _allowed(request):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _allowed(request: web.Request) -> bool:
    return request.headers.get("Origin") in request.app[GATEWAY].config.cors_origin
