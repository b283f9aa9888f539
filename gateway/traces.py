"""GET /traces: the last requests' span trees, for whoever has no backend. To this machine alone, or with the key."""

import hmac
import ipaddress
import re

import msgspec
from aiohttp import web

from outrider.gateway.errors import ApiError, invalid
from outrider.gateway.state import GATEWAY

DEFAULT_LIMIT = 20

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


async def recent_traces(request: web.Request) -> web.Response:
    """The newest first; `limit` says how many, `trace_id` asks for one trace.

    Raises:
        ApiError: the caller is not on this machine and has no key, or a parameter is wrong.
    """
    if not is_local(request) and not _has_key(request, request.app[GATEWAY].config.api_key):
        raise ApiError(
            403,
            "Traces are shown to this machine alone: ask from there, or send the header `Authorization: Bearer <key>`",
            code="forbidden",
        )
    trace_id = request.query.get("trace_id")
    if trace_id is not None and _TRACE_ID.fullmatch(trace_id) is None:
        raise invalid("`trace_id` must be 32 hexadecimal digits in lower case", "trace_id")
    told = request.app[GATEWAY].tracing.recent_json(limit=_limit(request), trace_id=trace_id)
    return web.Response(body=msgspec.json.encode(told), content_type="application/json")


def is_local(request: web.Request) -> bool:
    """Whether a request comes from this machine: not through a proxy, and not by a name that a web page chose."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback and request.url.host in _LOCAL_NAMES
    except ValueError:
        return False


def _has_key(request: web.Request, key: str | None) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return (
        key is not None
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), key.encode())
    )


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(DEFAULT_LIMIT))
    if not given.isascii() or not given.isdigit() or not 1 <= int(given[:9]) <= 1000:
        raise invalid(f"`limit` must be a number from 1 to 1000, not `{given[:32]}`", "limit")
    return int(given[:9])
