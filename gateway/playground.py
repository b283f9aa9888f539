"""The playground: the page at `/`, and what the server tells it while it is open.

The page is static files of this package, read once. It speaks to the public API and to one endpoint of its own, which
is under /v1 so that the key guards it as it guards the rest.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterable
from importlib import resources

import msgspec
from aiohttp import web

from outrider.engine.protocol import EngineStats
from outrider.gateway.state import GATEWAY, Gateway

EVENTS_PATH = "/v1/playground/events"
EVENT_SECONDS = 0.5

# Nothing from elsewhere, nothing inline, and no text that becomes markup: what a model writes cannot run.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-cache",  # ask each time; the tag answers
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _File(msgspec.Struct, frozen=True):
    """One file of the page."""

    body: bytes
    content_type: str
    etag: str  # without its quotes


def _read_files() -> dict[str, _File]:
    """All files of the page by their path in the server."""
    files: dict[str, _File] = {}
    for entry in resources.files("outrider.gateway").joinpath("page").iterdir():
        body = entry.read_bytes()
        path = "/" if entry.name == "index.html" else f"/playground/{entry.name}"
        content_type = _TYPES[entry.name.rpartition(".")[2]]
        files[path] = _File(body, content_type, hashlib.sha256(body).hexdigest()[:16])
    return files


_FILES = _read_files()
FILE_PATHS = frozenset(_FILES)


class ServerFacts(msgspec.Struct, frozen=True, tag="server"):
    """What the page must know of the server, sent first."""

    model: str
    max_model_len: int
    methods: tuple[str, ...]  # that are loaded
    max_draft_tokens: int  # of a step
    default_speculation: tuple[str, ...]
    paths: list[str]  # of the API: what is missing here the page leaves out


class ServerLevels(msgspec.Struct, frozen=True, tag="levels"):
    """What the engine does now; totals count since its start."""

    seconds: float  # of a clock that never goes back
    running: int = 0
    waiting: int = 0
    blocks: int = 0
    blocks_used: int = 0
    steps: int = 0
    tokens: dict[str, int] = {}  # by origin
    drafted: dict[str, int] = {}  # by method
    accepted: dict[str, int] = {}


async def file(request: web.Request) -> web.Response:
    """GET / and each file of the page; 304 for one that the browser has."""
    served = _FILES[request.path]
    headers = {**_HEADERS, "ETag": f'"{served.etag}"'}
    if any(tag.value in (served.etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=served.body, headers={**headers, "Content-Type": served.content_type})


async def events(request: web.Request) -> web.StreamResponse:
    """GET /v1/playground/events: the server's facts once, then its levels twice a second, as server-sent events."""
    gateway = request.app[GATEWAY]
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    paths = sorted({resource.canonical for resource in request.app.router.resources()})
    message: ServerFacts | ServerLevels = _facts(gateway, paths)
    while not gateway.is_draining:  # an open page must not hold up the end of the server
        try:
            async with asyncio.timeout(gateway.config.stalled_reader_seconds):
                await response.write(b"data: " + msgspec.json.encode(message) + b"\n\n")
        except TimeoutError as error:
            raise ConnectionResetError("the page stopped reading") from error
        if isinstance(message, ServerLevels):
            await asyncio.sleep(EVENT_SECONDS)
        message = server_levels(gateway.engine.stats.values(), time.monotonic())
    return response


def server_levels(stats: Collection[EngineStats], seconds: float) -> ServerLevels:
    """The engines' last words, added up, as the page shows them; zeros where none has said anything yet."""
    return ServerLevels(
        seconds=seconds,
        running=sum(one.num_running for one in stats),
        waiting=sum(one.num_waiting for one in stats),
        blocks=sum(one.num_blocks for one in stats),
        blocks_used=sum(one.num_blocks_used for one in stats),
        steps=sum(one.total_steps for one in stats),
        tokens=_added(one.token_origins for one in stats),
        drafted=_added(one.draft_tokens for one in stats),
        accepted=_added(one.accepted_draft_tokens for one in stats),
    )


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _facts(gateway: Gateway, paths: list[str]) -> ServerFacts:
    hello = gateway.engine.hello
    return ServerFacts(
        model=gateway.model_name,
        max_model_len=hello.max_model_len,
        methods=hello.speculation_methods,
        max_draft_tokens=hello.speculation_max_tokens,
        default_speculation=hello.default_speculation,
        paths=paths,
    )
