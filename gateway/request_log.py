"""One log line for each request, at the level `info`: what happened, and nothing of what was said."""

import logging
import time

from aiohttp import web

from outrider.gateway.state import REQUEST_STATE

logger = logging.getLogger("outrider.gateway.requests")


def log_request(request: web.Request, route: str | None, status: int, error_type: str | None) -> None:
    """Tells of a request that has its answer, or whose client is gone (499).

    Args:
        request: which
        route: as it is written in the application; a path that leads nowhere may hold anything
        status: that was sent, or would have been
        error_type: the name of what went wrong, if anything did
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    state = request[REQUEST_STATE]
    fields = {
        "request_id": state.request_id,
        "trace_id": state.trace.trace_id,
        "method": request.method if route is not None else "-",
        "route": route or "-",
        "status": status,
        "milliseconds": round((time.monotonic() - state.arrived) * 1000, 1),
        "key_id": state.key.id,
    }
    logger.info("request", extra=fields if error_type is None else fields | {"error_type": error_type})
