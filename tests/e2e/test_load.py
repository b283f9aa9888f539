"""Many at once, and clients that leave."""

import asyncio
import urllib.request

import openai


def metric(server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


async def wait_for(server, name: str, wanted: float) -> None:
    """Polls a metric; a server that never gets there fails the test by its time limit."""
    async with asyncio.timeout(30):
        while await asyncio.to_thread(metric, server, name) != wanted:
            await asyncio.sleep(0.02)


async def test_64_streams_of_mixed_length_all_finish(server) -> None:
    """Each with its own length; in the end every block is free."""

    async def stream(client: openai.AsyncOpenAI, index: int) -> int:
        events = await client.completions.create(
            model="outrider-demo",
            prompt="word " * (1 + index * 5),
            max_tokens=8 + index,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True, "speculation": "ngram" if index % 2 else "off"},
        )
        usage = None
        async for event in events:
            usage = event.usage or usage
        assert usage is not None
        return usage.completion_tokens

    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        counts = await asyncio.gather(*(stream(client, index) for index in range(64)))

    assert [8 + index for index in range(64)] == counts
    await wait_for(server, "outrider_kv_blocks_used", 0)


async def test_a_client_that_leaves_frees_its_blocks(server) -> None:
    """Visible in /metrics, long before the answer would have ended."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        events = await client.completions.create(
            model="outrider-demo",
            prompt="word " * 50,
            max_tokens=1900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        await anext(aiter(events))
        assert metric(server, "outrider_kv_blocks_used") > 0
        generated = metric(server, "outrider_generated_tokens_total")
        left = metric(server, "outrider_client_disconnects_total")
        await events.close()

        await wait_for(server, "outrider_kv_blocks_used", 0)
        await wait_for(server, "outrider_client_disconnects_total", left + 1)
        assert metric(server, "outrider_generated_tokens_total") < generated + 1500
        assert metric(server, "outrider_requests_running") == 0
