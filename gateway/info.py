"""The endpoints that tell of the server: models, health, readiness and metrics."""

import msgspec
from aiohttp import web

from outrider.gateway.errors import draining, unavailable, unknown_model
from outrider.gateway.responses import Model, ModelList
from outrider.gateway.state import GATEWAY, REQUEST_STATE, Gateway


async def models(request: web.Request) -> web.Response:
    """GET /v1/models."""
    gateway = request.app[GATEWAY]
    return _json(ModelList([_model(gateway)] if request[REQUEST_STATE].key.may_use(gateway.model_name) else []))


async def model(request: web.Request) -> web.Response:
    """GET /v1/models/{model}."""
    gateway = request.app[GATEWAY]
    name = request.match_info["model"]
    if name != gateway.model_name or not request[REQUEST_STATE].key.may_use(name):
        raise unknown_model(name)
    return _json(_model(gateway))


async def health(request: web.Request) -> web.Response:
    """GET /health: 200 while an engine is connected, else 503."""
    if not request.app[GATEWAY].engine.is_connected:
        raise unavailable("No engine is connected")
    return web.Response()


async def ready(request: web.Request) -> web.Response:
    """GET /ready: 200 when requests should be sent here; 503 while draining."""
    gateway = request.app[GATEWAY]
    if gateway.is_draining:
        raise draining("The server is shutting down")
    return await health(request)


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics, for Prometheus."""
    gateway = request.app[GATEWAY]
    gateway.record_engines()
    body, content_type = gateway.metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def _model(gateway: Gateway) -> Model:
    return Model(gateway.model_name, gateway.started, gateway.engine.hello.max_model_len)


def _json(body: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
