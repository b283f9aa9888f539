"""The HTTP server under the application: what holds for each connection, before there is a request and after it.

aiohttp's own answers to malformed HTTP are plain text, and its log lines quote what came, keys included.
"""

import asyncio
import logging
import secrets
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from outrider.gateway.app import build_app
from outrider.gateway.config import GatewayConfig
from outrider.gateway.errors import ApiError, server_failed
from outrider.gateway.middleware import SERVER_NAME
from outrider.gateway.state import Gateway

LINGER_SECONDS = 2.0  # what is left of a refused body is read for so long, that the client may see its answer
MAX_HEADERS = 128
MAX_HEADER_BYTES = 8190  # of one header, and of the request line

logger = logging.getLogger("outrider.gateway")


def build_runner(gateway: Gateway, shutdown_seconds: float) -> web.AppRunner:
    """What serves a gateway's application, within the limits of its configuration; not set up yet.

    Args:
        gateway: whose engine is connected
        shutdown_seconds: how long running requests may go on at the end; aiohttp waits twice so long, the second time
            in vain
    """
    config = gateway.config
    return _Runner(
        config,
        build_app(gateway),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=config.idle_seconds,  # also of a request whose head does not end
        lingering_time=LINGER_SECONDS,
        shutdown_timeout=shutdown_seconds,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
    )


class _Runner(web.AppRunner):
    """Serves with our own connections."""

    __slots__ = ("_config",)

    def __init__(self, config: GatewayConfig, app: web.Application, **arguments: Any) -> None:
        super().__init__(app, **arguments)
        self._config = config

    async def _make_server(self) -> web.Server:
        return _Server(self._config, await super()._make_server())


class _Server(web.Server):
    """All connections."""

    def __init__(self, config: GatewayConfig, server: web.Server) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,
            **server._kwargs,
        )
        self.config = config

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self.config.max_connections:
            transport.abort()


class _Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_stall_seconds",)

    def __init__(self, manager: _Server, **arguments: Any) -> None:
        super().__init__(manager, **arguments)
        self._stall_seconds = manager.config.stalled_reader_seconds

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the rest of an answer; drops a client that does not read it."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002, it quotes what came
    ) -> web.StreamResponse:
        """What came before any handler, or after it: malformed HTTP, or a failure that broke a stream off."""
        request_id = secrets.token_hex(12)
        logger.info("malformed request", extra={"request_id": request_id, "error": type(exc).__name__})
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is out already")
        error = _explain(status, exc, request_id)
        response = web.Response(
            status=error.status,
            body=error.json(),
            content_type="application/json",
            headers={"x-request-id": request_id, "Server": SERVER_NAME},
        )
        response.force_close()
        return response


def _explain(status: int, problem: BaseException | None, request_id: str) -> ApiError:
    if isinstance(problem, LineTooLong):
        message = f"The request line or a header is longer than {MAX_HEADER_BYTES} bytes: shorten it"
        return ApiError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message, code="headers_too_large")
    if isinstance(problem, BadHttpMessage) or status < HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The request is not valid HTTP/1.1 ({type(problem).__name__})"
        return ApiError(HTTPStatus.BAD_REQUEST, message, code="invalid_http")
    return server_failed(f"The server failed on this request; its id is {request_id}")
