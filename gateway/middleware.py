"""What happens around every handler: request id, trace and count, errors as JSON, the API key."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from outrider.gateway.errors import ApiError, server_failed
from outrider.gateway.playground import EVENTS_PATH, FILE_PATHS
from outrider.gateway.state import GATEWAY, REQUEST_STATE, RequestState
from outrider.telemetry.names import CLIENT_DISCONNECTED, OTHER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger("outrider.gateway")

# Probes, scrapes and the playground's files come often: they would bury the traces that matter.
UNTRACED_PATHS = frozenset({"/health", "/ready", "/metrics", "/traces", EVENTS_PATH}) | FILE_PATHS

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request its id, its server span and its count; sees the outcome last of all."""
    gateway = request.app[GATEWAY]
    resource = request.match_info.route.resource
    route = None if resource is None else resource.canonical
    state = RequestState(_request_id(request), time.monotonic())
    if request.path not in UNTRACED_PATHS:
        host, port = _server_address(request)
        state.trace = gateway.tracing.start_request(
            method=request.method,
            route=route,
            path=request.path,
            scheme=request.scheme,
            headers=request.headers,
            client_address=request.remote,
            server_address=host,
            server_port=port,
        )
    request[REQUEST_STATE] = state
    gateway.metrics.http.begin()
    gateway.begin_request()
    try:
        response = await handler(request)
    except (asyncio.CancelledError, ConnectionResetError) as error:
        gateway.metrics.count_client_disconnect()
        state.trace.end(200 if state.has_begun else None, CLIENT_DISCONNECTED)
        # aiohttp logs a reset as a failure of ours, with its traceback, and takes a cancellation quietly.
        raise asyncio.CancelledError from error
    except BaseException:
        gateway.metrics.observe_request(route=route, status=500)
        state.trace.end(500, OTHER)
        raise
    finally:
        gateway.metrics.http.end()
        gateway.end_request()
    seconds = None if request.path in UNTRACED_PATHS else time.monotonic() - state.arrived
    gateway.metrics.observe_request(route=route, status=response.status, seconds=seconds)
    state.trace.end(response.status, state.error_type)
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into OpenAI's error object with the right status."""
    try:
        return await handler(request)
    except ApiError as error:
        return _respond(request, error)
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[GATEWAY].config.max_body_bytes
        message = f"The body is larger than the limit of {limit} bytes"
        return _respond(request, ApiError(413, message, code="request_too_large"))
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        message = f"There is no {request.method} {request.path} here"
        return _respond(request, ApiError(error.status, message, code="unknown_url"))
    except web.HTTPException as error:
        return _respond(request, ApiError(error.status, error.reason))
    except ConnectionResetError:
        raise
    except Exception:  # the boundary: a bug of ours becomes a 500 with an id, and its traceback a log line
        state = request[REQUEST_STATE]
        logger.exception("request %s failed", state.request_id, extra={"trace_id": state.trace.trace_id})
        if state.has_begun:
            raise  # the status is out: all that is left is to break the connection off
        message = f"The server failed on this request; its id is {state.request_id}"
        return _respond(request, server_failed(message))


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Asks every /v1 request for a key, when there are any. Health and metrics stay open."""
    if request.path.startswith("/v1/"):
        request[REQUEST_STATE].key = request.app[GATEWAY].access.identify(request.headers.getall("Authorization", []))
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: the headers that every answer carries, streams and errors alike."""
    state = request.get(REQUEST_STATE)
    if state is None:
        return
    response.headers["x-request-id"] = state.request_id
    if state.trace.traceresponse is not None:
        response.headers["traceresponse"] = state.trace.traceresponse
    response.headers.update(state.headers)


def _server_address(request: web.Request) -> tuple[str | None, int | None]:
    """As the client wrote it in its Host header, which can be nonsense."""
    try:
        return request.url.host, request.url.port
    except ValueError:
        return None, None


def _request_id(request: web.Request) -> str:
    """The client's own id where it is harmless, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)


def _respond(request: web.Request, error: ApiError) -> web.Response:
    state = request[REQUEST_STATE]
    state.error_type = state.error_type or error.error_type
    state.inference.fail(error.error_type)
    response = web.Response(
        status=error.status, body=error.json(), content_type="application/json", headers=error.headers
    )
    if error.status == 413:
        response.force_close()  # the rest of the body is not read
    return response
