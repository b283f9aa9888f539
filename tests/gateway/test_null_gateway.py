"""The whole gateway, over HTTP and the wire protocol, before an engine without a model."""

import asyncio
import random

import msgspec
from null_gateway import null_gateway, text_of


async def test_an_answer_is_what_the_engine_emitted(tmp_path) -> None:
    """Token for token, as text, whole and streamed."""
    async with null_gateway(tmp_path) as server:
        whole = await server.complete("Once", max_tokens=10, seed=7)
        events = await server.stream("Once", max_tokens=10, seed=7)

        assert server.expected("Once", 7, 10) == whole == text_of(events)


async def test_a_torn_connection_leaves_no_request_behind(tmp_path) -> None:
    """Wherever in the request or the answer the client breaks off."""
    generator = random.Random(5)
    async with null_gateway(tmp_path, step_seconds=0.001) as server:
        host, port = server.url.removeprefix("http://").split(":")
        body = msgspec.json.encode({"model": "null", "prompt": "Once", "max_tokens": 48, "stream": True, "seed": 1})
        request = (
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body

        async def converse(num_bytes: int) -> int:
            """Breaks off once so many bytes went either way; returns how many there were."""
            reader, writer = await asyncio.open_connection(host, int(port))
            sent = request[:num_bytes]
            writer.write(sent)
            answer = b""
            while len(sent) + len(answer) < num_bytes and b"[DONE]" not in answer:
                answer += await reader.read(num_bytes - len(sent) - len(answer))
            writer.transport.abort()
            return len(sent) + len(answer)

        length = await converse(10**6)
        places = [generator.randrange(length) for _ in range(200)]
        for start in range(0, 200, 20):
            await asyncio.gather(*(converse(place) for place in places[start : start + 20]))
        # Aborts travel the same way before it, so they are obeyed when this one is answered.
        await server.gateway.idle.wait()
        await server.complete("Last", max_tokens=1)

        assert (0, []) == (server.gateway.num_requests, server.engines[0].core.request_ids)
