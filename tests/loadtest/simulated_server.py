"""An OpenAI-compatible server on a real socket that answers by script: chosen delays, chunks and failures."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import msgspec
from aiohttp import web


@dataclass(frozen=True)
class Script:
    """One answer: a chunk for each (delay before it in seconds, tokens in it), then the usage.

    `status` other than 200 refuses; `drop_after` cuts the connection after so many chunks, `error_after` sends an
    error event.
    """

    chunks: Sequence[tuple[float, int]] = ((0.0, 1), (0.0, 1))
    status: int = 200
    drop_after: int | None = None
    error_after: int | None = None
    speculation: dict[str, float] | None = None


@dataclass
class SimulatedServer:
    """The n-th request gets the n-th script, round and round or with `keeps_last` the last one for ever after.

    What was asked is kept for the test to see. During `stall` nothing is written.
    """

    scripts: Sequence[Script] = (Script(),)
    models: Sequence[str] = ("simulated",)
    api_key: str | None = None
    keeps_last: bool = False
    metrics: str = ""
    stall: tuple[float, float] = (0.0, 0.0)  # from and to, by the loop's clock
    url: str = ""
    authorizations: list[str | None] = field(default_factory=list)
    requests: list[dict[str, object]] = field(default_factory=list)
    peak_concurrency: int = 0
    _concurrency: int = 0
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    _numbers: count = field(default_factory=count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SimulatedServer"]:
        application = web.Application()
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_post("/v1/completions", self._complete)
        if self.metrics:
            application.router.add_get("/metrics", self._tell_metrics)
        # Answers still under way when a test ends are cancelled rather than waited for.
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def has_received(self, num_requests: int) -> None:
        async with self._arrival, asyncio.timeout(60):
            await self._arrival.wait_for(lambda: len(self.requests) >= num_requests)

    async def _list_models(self, request: web.Request) -> web.Response:
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.json_response({"error": {"message": "Incorrect API key"}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": model} for model in self.models]})

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.metrics)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        async with self._arrival:
            self.requests.append(await request.json())
            self.authorizations.append(request.headers.get("Authorization"))
            self._arrival.notify_all()
        number = next(self._numbers)
        last = len(self.scripts) - 1
        script = self.scripts[min(number, last) if self.keeps_last else number % len(self.scripts)]
        self._concurrency += 1
        self.peak_concurrency = max(self.peak_concurrency, self._concurrency)
        try:
            return await self._play(request, script)
        finally:
            self._concurrency -= 1

    async def _play(self, request: web.Request, script: Script) -> web.StreamResponse:
        if script.status != 200:
            return web.json_response({"error": {"message": "refused by script"}}, status=script.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        is_chat = request.path.endswith("chat/completions")
        if is_chat:
            await response.write(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
        for number, (delay, num_tokens) in enumerate(script.chunks):
            if number == script.drop_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if number == script.error_after:
                await response.write(event({"error": {"message": "engine died"}}))
                return response
            await asyncio.sleep(delay)
            await self._wait_out_stall()
            text = "word " * num_tokens
            await response.write(event({"choices": [{"delta": {"content": text}} if is_chat else {"text": text}]}))
        await response.write(event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        num_tokens = sum(tokens for _, tokens in script.chunks)
        last: dict[str, object] = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": num_tokens}}
        if script.speculation is not None:
            last["metrics"] = {"speculative_decoding": script.speculation}
        await response.write(event(last) + b"data: [DONE]\n\n")
        return response

    async def _wait_out_stall(self) -> None:
        begin, end = self.stall
        now = asyncio.get_running_loop().time()
        if begin <= now < end:
            await asyncio.sleep(end - now)


def event(payload: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"
