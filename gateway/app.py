"""The aiohttp application: its routes and what is wrapped around them."""

from aiohttp import web

from outrider.gateway import info, playground
from outrider.gateway.chat import chat_completions
from outrider.gateway.completions import completions
from outrider.gateway.middleware import add_headers, answer_errors, authenticate, observe
from outrider.gateway.schemas import audit_schema
from outrider.gateway.state import GATEWAY, Gateway
from outrider.gateway.traces import recent_traces

ROUTES = {
    "/v1/chat/completions": ("POST", chat_completions),
    "/v1/completions": ("POST", completions),
    "/v1/schemas/audit": ("POST", audit_schema),
    "/v1/models": ("GET", info.models),
    "/v1/models/{model:.+}": ("GET", info.model),
    "/health": ("GET", info.health),
    "/ready": ("GET", info.ready),
    "/metrics": ("GET", info.metrics),
    "/traces": ("GET", recent_traces),
    playground.EVENTS_PATH: ("GET", playground.events),
    **dict.fromkeys(sorted(playground.FILE_PATHS), ("GET", playground.file)),
}


def build_app(gateway: Gateway) -> web.Application:
    """The application of a gateway whose engine is connected."""
    app = web.Application(
        middlewares=[observe, answer_errors, authenticate], client_max_size=gateway.config.max_body_bytes
    )
    app[GATEWAY] = gateway
    app.on_response_prepare.append(add_headers)
    for path, (method, handler) in ROUTES.items():
        app.router.add_route(method, path, handler)
    return app
