"""Request bodies: read within limits of size and time, and looked at for their depth before anything parses them."""

import asyncio
import re
from itertools import accumulate

from aiohttp import web

from outrider.gateway.errors import ApiError, invalid
from outrider.gateway.state import GATEWAY

MAX_DEPTH = 128  # JSON arrays and objects within one another: more than any schema that is accepted has

_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEPS.keys())
# Possessive, and good without its closing quote: no body makes it look at anything twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


async def read_body(request: web.Request) -> bytes:
    """The whole body.

    Raises:
        ApiError: it is too large, too deep, does not come in time, or cannot be read.
    """
    config = request.app[GATEWAY].config
    if (request.content_length or 0) > config.max_body_bytes:
        raise body_too_large(config.max_body_bytes)
    try:
        async with asyncio.timeout(config.body_seconds):
            body = await request.read()
    except web.RequestPayloadError as error:
        raise invalid("The body cannot be read: it is not what its headers say") from error
    except TimeoutError as error:
        raise ApiError(
            408, f"The body did not arrive within {config.body_seconds:g} s", code="request_timeout"
        ) from error
    if depth_of(body) > MAX_DEPTH:
        raise invalid(f"The body is nested too deeply: {MAX_DEPTH} arrays and objects within one another are the limit")
    return body


def body_too_large(max_bytes: int) -> ApiError:
    """A 413."""
    return ApiError(413, f"The body is larger than the limit of {max_bytes} bytes", code="request_too_large")


def depth_of(body: bytes) -> int:
    """How deeply the arrays and objects of a JSON text lie within one another; at most that, where it is shallow."""
    openers = body.count(b"{") + body.count(b"[")
    if openers <= MAX_DEPTH:
        return openers
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
