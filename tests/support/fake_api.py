"""The API as the playground sees it, with answers that a test chooses. Its page is the real one."""

import asyncio
import contextlib
import json
import math
from dataclasses import dataclass, field

from aiohttp import web

from outrider.gateway import playground

FACTS = {
    "type": "server",
    "model": "fake-model",
    "max_model_len": 2048,
    "methods": ["ngram", "suffix", "grammar", "prediction", "draft", "eagle", "medusa"],
    "max_draft_tokens": 8,
    "default_speculation": ["auto"],
}
ORIGINS = (
    "target",
    "ngram",
    "ngram",
    "bonus",
    "suffix",
    "prediction",
    "bonus",
    "grammar",
    "draft",
    "eagle",
    "bonus",
    "medusa",
)
AUDIT = {
    "route": "validated",
    "findings": [
        {"pointer": "/type", "keyword": "type", "verdict": "enforced", "reason": "by the grammar"},
        {"pointer": "/not", "keyword": "not", "verdict": "validated", "reason": "checked at the end"},
        {
            "pointer": "/x",
            "keyword": "<img src=x onerror=alert(1)>",
            "verdict": "refused",
            "reason": "<script>alert(1)</script>",
        },
    ],
}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def logprob(text: str) -> dict:
    others = [
        {"token": other, "logprob": math.log(p), "bytes": list(other.encode())}
        for other, p in ((text, 0.7), (" the", 0.2), (" a", 0.05))
    ]
    return {"token": text, "logprob": math.log(0.7), "bytes": list(text.encode()), "top_logprobs": others}


@dataclass
class FakeApi:
    """What is answered next, and what was asked."""

    text: str = "The **red** fox saw the blue bird.\n\n- one\n- two\n"
    tool_calls: list | None = None
    refusal: tuple[int, dict, dict] | None = None  # status, error, headers
    key: str | None = None
    cut_after: int | None = None  # chunks; then the connection breaks
    hold_after: int | None = None  # chunks; then nothing comes until `go_on`
    paths: tuple[str, ...] = ("/traces", "/v1/schemas/audit")
    asked: list[dict] = field(default_factory=list)
    audited: list[object] = field(default_factory=list)
    left: int = 0  # clients that went before the end
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> web.Application:
        app = web.Application()
        for path in playground.FILE_PATHS:
            app.router.add_get(path, playground.file)
        app.router.add_get(playground.EVENTS_PATH, self.events)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/schemas/audit", self.audit)
        app.router.add_get("/traces", self.traces)
        return app

    def refused(self, request: web.Request) -> web.Response | None:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self.error(401, {"message": "Incorrect or missing API key"})
        return None

    @staticmethod
    def error(status: int, error: dict, headers: dict | None = None) -> web.Response:
        return web.json_response({"error": error}, status=status, headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        if refused := self.refused(request):
            return refused
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps({**FACTS, 'paths': self.paths})}\n\n".encode())
        for second in range(10_000):
            levels = {
                "type": "levels",
                "seconds": second * 0.5,
                "running": 3,
                "waiting": 1,
                "blocks": 100,
                "blocks_used": 25,
                "steps": second,
                "tokens": {"target": 40 * second, "bonus": 20 * second, "ngram": 60 * second},
                "drafted": {"ngram": 100, "draft": 10},
                "accepted": {"ngram": 61, "draft": 8},
            }
            with contextlib.suppress(ConnectionResetError):
                await response.write(f"data: {json.dumps(levels)}\n\n".encode())
            await asyncio.sleep(0.05)
        return response

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if refused := self.refused(request):
            return refused
        body = await request.json()
        self.asked.append(body)
        if self.refusal is not None:
            return self.error(*self.refusal)
        headers = {"Content-Type": "text/event-stream", "traceresponse": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            for number, chunk in enumerate(self.chunks(body)):
                if number == self.hold_after:
                    await self.go_on.wait()
                if number == self.cut_after:
                    request.transport.abort()
                    return response
                await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        await response.write(b"data: [DONE]\n\n")
        return response

    def chunks(self, body: dict) -> list[dict]:
        """One for each step: the text in pieces, with origins unless speculation is off."""
        is_off = body.get("speculation") == "off"
        pieces = [self.text[start : start + 4] for start in range(0, len(self.text), 4)]
        chunks = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
        for number, piece in enumerate(pieces):
            origin = "target" if is_off else ORIGINS[number % len(ORIGINS)]
            logprobs = {"content": [logprob(piece)]} if body.get("logprobs") else None
            chunks.append({"choices": [{"delta": {"content": piece}, "logprobs": logprobs, "token_origins": [origin]}]})
        if self.tool_calls is not None:
            chunks.append({"choices": [{"delta": {"tool_calls": self.tool_calls}}]})
        chunks.append({"choices": [{"delta": {}, "finish_reason": "stop", "token_origins": ["bonus"]}]})
        usage = {"prompt_tokens": 9, "completion_tokens": len(pieces) + 1, "total_tokens": len(pieces) + 10}
        metrics = {
            "time_to_first_token_ms": 10.0,
            "generation_time_ms": 90.0 if is_off else 40.0,
            "num_steps": 9,
            "tokens_per_second": 120.0,
        }
        return [*chunks, {"choices": [], "usage": usage, "metrics": metrics}]

    async def audit(self, request: web.Request) -> web.Response:
        self.audited.append(await request.json())
        return web.json_response(AUDIT)

    async def traces(self, request: web.Request) -> web.Response:
        def span(name: str, own: str, parent: str | None, start: int, length: float, **attributes: object) -> dict:
            return {
                "trace_id": TRACE_ID,
                "span_id": own,
                "parent_id": parent,
                "name": name,
                "kind": "SERVER",
                "start": f"2026-01-01T00:00:00.{start:06}Z",
                "duration_ms": length,
                "attributes": attributes,
            }

        seconds = {"outrider.queue.seconds": 0.001, "outrider.prefill.seconds": 0.004, "outrider.decode.seconds": 0.04}
        spans = [
            span("chat fake-model", "b" * 16, "a" * 16, 2000, 46.0, **seconds),
            span("POST /v1/chat/completions", "a" * 16, None, 0, 50.0, **{"http.route": "<b>/v1</b>"}),
        ]
        return web.json_response({"traces": [{"trace_id": TRACE_ID, "spans": spans}]})
