"""Speaks HTTP to the server under test: finds its model, sends one request, stamps what comes back.

The only file here that knows aiohttp. Knows nothing of schedules or statistics.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from outrider.loadtest.errors import ServerUnusableError
from outrider.loadtest.job import bearer
from outrider.loadtest.record import Answer, Failure, FailureKind
from outrider.loadtest.stream import Read, error_message, parse_stream

TOO_MANY_REQUESTS = 429


def clock() -> float:
    """Seconds, monotonic: the one clock of a run."""
    return time.perf_counter()


@asynccontextmanager
async def open_session(
    api_key: str | None, headers: Mapping[str, str] | None = None, *, is_insecure: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session without limits of its own: neither on connections nor on how long an answer takes.

    `headers` go with each request; `is_insecure` accepts any certificate.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=not is_insecure),
        headers={**bearer(api_key), **(headers or {})},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        read_bufsize=2**15,
    ) as session:
        yield session


async def find_model(session: aiohttp.ClientSession, base_url: str, model: str | None) -> str:
    """The model asked for, or the server's first. Raises ServerUnusableError if there is none, or no way in."""
    try:
        async with session.get(f"{base_url}/v1/models", timeout=aiohttp.ClientTimeout(total=30)) as response:
            status, body = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ServerUnusableError(
            f"no server at {base_url} ({_describe(error)}): start it, or set --base-url"
        ) from error
    if status in {401, 403}:
        raise ServerUnusableError(f"{base_url} refuses access ({status}): set OPENAI_API_KEY to a key it knows")
    if status != 200:
        raise ServerUnusableError(
            f"{base_url}/v1/models answers {status}: set --base-url to an OpenAI-compatible server, without /v1"
        )
    try:
        served = [listed.id for listed in msgspec.json.decode(body, type=_ModelList).data]
    except msgspec.DecodeError as error:
        raise ServerUnusableError(f"{base_url}/v1/models is not a list of models: {error}") from error
    if not served:
        raise ServerUnusableError(f"{base_url} serves no model")
    if model is not None and model not in served:
        raise ServerUnusableError(
            f"{base_url} does not serve the model {model!r}: set --model to one of {', '.join(served)}"
        )
    return model or served[0]


async def exchange(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
) -> tuple[float, float, Answer | Failure]:
    """Sends one request and reads its answer to the end: when it was sent, when it ended, and what came of it."""
    sent = clock()
    outcome: Answer | Failure
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as response:
            if response.status == 200:
                reads = [Read(clock(), data) async for data in response.content.iter_any()]
                ended = clock()
                outcome = parse_stream(reads)
            else:
                outcome = _refusal(response.status, await response.read())
                ended = clock()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        ended = clock()
        outcome = Failure(FailureKind.CONNECTION, _describe(error))
    return sent, ended, outcome


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


def _refusal(status: int, body: bytes) -> Failure:
    if status == TOO_MANY_REQUESTS:
        kind = FailureKind.RATE_LIMITED
    else:
        kind = FailureKind.SERVER_ERROR if status >= 500 else FailureKind.REJECTED
    return Failure(kind, f"{status}: {error_message(body)}")


def _describe(error: Exception) -> str:
    """One line; some of aiohttp's exceptions have no text."""
    return " ".join(str(error).split()) or type(error).__name__
