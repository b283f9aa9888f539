"""Clients that mean harm, over raw sockets: each is answered or dropped, none costs memory, and others are served."""

import asyncio
import gzip
import json
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_server import MODEL, ApiServer, api_server

LIMITS = {"body_seconds": 0.2, "idle_seconds": 0.3, "stalled_reader_seconds": 0.3}
PATH = b"/v1/completions"
GOOD = json.dumps({"model": MODEL, "prompt": "a", "max_tokens": 2}).encode()
MEBIBYTE = 2**20

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def post(body: bytes, *headers: bytes, path: bytes = PATH, length: int | None = None) -> bytes:
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: a", size, *headers, b"", body])


def chat(content: object) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]}).encode()


def sends(*pieces: bytes) -> Client:
    """All of it, as long as the server takes it."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return client


def drips(start: bytes, piece: bytes) -> Client:
    """A piece every few milliseconds, for as long as the server listens."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not reader.at_eof():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)

    return client


async def half_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(GOOD))
    writer.write_eof()


async def half_closes_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(b'{"model', length=100))
    writer.write_eof()


def peak_bytes() -> int:
    """The most memory that this process has had since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def answer_to(server: ApiServer, client: Client) -> bytes:
    """What comes back before the server closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    answer = b""

    async def read() -> None:
        nonlocal answer
        while piece := await reader.read(65536):
            answer += piece

    async with asyncio.timeout(20):
        await asyncio.gather(read(), client(reader, writer), return_exceptions=True)
    writer.transport.abort()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


HEADERS = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
HOSTILE = {
    "silence": (sends(), []),
    "half a head": (sends(HEADERS), []),
    "a head that drips": (drips(HEADERS, b"a: b\r\n"), []),
    "a long head that drips": (drips(HEADERS + b"a: ", b"b"), []),
    "half a body": (sends(post(b"{", length=100)), [408]),
    "a body that drips": (drips(post(b"{", length=100_000), b" "), [408]),
    "a chunked body that drips": (
        drips(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        [408],
    ),
    "100 MB that are announced": (sends(post(b"", length=100 * MEBIBYTE), *[b" " * MEBIBYTE] * 100), [413]),
    "100 MB in chunks": (
        sends(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + b" " * MEBIBYTE + b"\r\n"] * 100),
        [413],
    ),
    "100 MB to a path that takes none": (
        sends(post(b"", path=b"/nowhere", length=100 * MEBIBYTE), *[b" " * MEBIBYTE] * 100),
        [404],
    ),
    "arrays 10,000 deep": (sends(post(b"[" * 10_000 + b"]" * 10_000, b"Connection: close")), [400]),
    "a schema 10,000 deep": (
        sends(
            post(
                b'{"schema":' + b'{"not":' * 10_000 + b"{}" + b"}" * 10_001,
                b"Connection: close",
                path=b"/v1/schemas/audit",
            )
        ),
        [400],
    ),
    "a quote that never ends": (sends(post(b"[" * 200 + b'"\\' * 10**6, b"Connection: close")), [400]),
    "brackets without end": (sends(post(b"[]," * 10**6, b"Connection: close")), [400]),
    "10,000 headers": (sends(HEADERS + b"".join(b"x-%d: a\r\n" % i for i in range(10_000)) + b"\r\n"), [400]),
    "a header of a megabyte": (sends(HEADERS + b"a: " + b"b" * MEBIBYTE + b"\r\n\r\n"), [431]),
    "a path of a megabyte": (sends(b"GET /" + b"a" * MEBIBYTE + b" HTTP/1.1\r\n\r\n"), [431]),
    "a control character in a header": (sends(HEADERS + b"Authorization: Bearer sk-secret\x01\r\n\r\n"), [400]),
    "two lengths": (sends(HEADERS + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\naa"), [400]),
    "a length and chunks": (
        sends(HEADERS + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        [400],
    ),
    "a gzip bomb": (
        sends(post(gzip.compress(bytes(32 * MEBIBYTE), 1), b"Content-Encoding: gzip")),
        [413],
    ),
    "no HTTP at all": (sends(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), [400]),
    "50 requests in one breath": (sends(post(GOOD) * 49, post(GOOD, b"Connection: close")), [200] * 50),
    "an upgrade to what there is not": (
        sends(post(GOOD, b"Connection: upgrade", b"Upgrade: websocket")),
        [200],
    ),
    "a request whose sender closes its side": (half_closes, []),
    "half a body whose sender closes its side": (half_closes_in_the_body, []),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_client_is_answered_or_dropped(name, caplog, monkeypatch) -> None:
    """Then the connection ends, memory stays as it was, nothing is left of the request, and the next one is served."""
    monkeypatch.setattr("outrider.gateway.server.LINGER_SECONDS", 0.1)
    client, expected = HOSTILE[name]
    async with api_server(**LIMITS) as server:
        await answer_to(server, sends(post(GOOD, b"Connection: close")))
        forget_peak()
        before = peak_bytes()
        answer = await answer_to(server, client)
        grown = peak_bytes() - before
        after = await answer_to(server, sends(post(GOOD, b"Connection: close")))

        assert expected == statuses(answer)
        assert [200] == statuses(after)
        assert grown < 48 * MEBIBYTE, "the request cost memory"
        assert 0 == server.engine.num_running
        assert "sk-secret" not in caplog.text + answer.decode()
        for error in re.findall(rb'\{"error".*?\}\}', answer):
            assert {"message", "type", "param", "code"} == json.loads(error)["error"].keys()


async def test_a_crowd_of_them_leaves_the_others_their_answers(monkeypatch) -> None:
    """Everything above eight times at once, and meanwhile one good request after the other."""
    monkeypatch.setattr("outrider.gateway.server.LINGER_SECONDS", 0.1)
    async with api_server(**LIMITS) as server:
        await answer_to(server, sends(post(GOOD, b"Connection: close")))
        forget_peak()
        before = peak_bytes()
        clients = [client for client, _ in HOSTILE.values()] * 8
        crowd = asyncio.gather(*(answer_to(server, client) for client in clients))
        served = []
        while not crowd.done():
            served += statuses(await answer_to(server, sends(post(GOOD, b"Connection: close"))))
        await crowd

        assert {200} == set(served)
        assert peak_bytes() - before < 512 * MEBIBYTE, "each may cost its body, and no more"
        assert 0 == server.engine.num_running


async def test_more_connections_than_allowed_are_closed() -> None:
    """Those that are there go on."""
    async with api_server(max_connections=2) as server:
        held = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        reader, writer = held[0]
        writer.write(post(GOOD))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert b"" == await answer_to(server, sends(post(GOOD)))
        for _, writer in held:
            writer.transport.abort()


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(json.dumps({"prompt": "a b " * 30_000, "return_token_strs": True}).encode(), path=b"/tokenize"),
        post(json.dumps({"model": MODEL, "prompt": "a", "n": 32, "stream": True, "max_tokens": 200}).encode()),
    ],
    ids=["whole", "streamed"],
)
async def test_a_client_that_reads_nothing_is_dropped(request_bytes) -> None:
    """Whether its answer comes whole or streamed; nothing of it goes on."""
    async with api_server(stalled_reader_seconds=0.3) as server:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (server.host, server.port))
            async with asyncio.timeout(20):
                while not server.connections():
                    await asyncio.sleep(0)
                own = server.connections()[0].transport.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                await asyncio.get_running_loop().sock_sendall(sock, request_bytes)
                while server.connections():
                    await asyncio.sleep(0.01)

        assert 0 == server.engine.num_running
