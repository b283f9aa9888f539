"""The whole gateway, over HTTP and the wire protocol, before an engine without a model."""

import json

from null_gateway import demo_tokenizer, null_gateway


async def test_an_answer_is_what_the_engine_emitted(tmp_path) -> None:
    """Token for token, as text."""
    async with null_gateway(tmp_path) as server:
        text = await server.complete("Once", max_tokens=10, seed=7)
        prompt = demo_tokenizer().encode("Once")
        tokens = [server.engine.core.token(7, position) for position in range(len(prompt), len(prompt) + 10)]

        assert demo_tokenizer().decode(tokens) == text


async def test_a_stream_says_the_same_as_a_whole_answer(tmp_path) -> None:
    """In one event for each frame that shows text."""
    async with null_gateway(tmp_path) as server:
        whole = await server.complete("Once", max_tokens=16, seed=7)
        body = {"model": "null", "prompt": "Once", "max_tokens": 16, "seed": 7, "stream": True}
        async with server.session.post(f"{server.url}/v1/completions", json=body) as response:
            events = [line async for line in response.content if line.startswith(b"data: {")]

        assert "".join(json.loads(event[6:])["choices"][0]["text"] for event in events) == whole
