"""What each route of the API takes and gives: the table that /openapi.json is written from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from outrider.gateway.playground import EVENTS_PATH
from outrider.gateway.requests import ChatRequest, CompletionRequest
from outrider.gateway.responses import ChatChunk, ChatCompletion, Completion, Model, ModelList, Version
from outrider.gateway.schemas import AuditRequest, SchemaAudit
from outrider.gateway.tokenization import DetokenizeRequest, Text, TokenizeRequest, Tokens

ANY_ROUTE = (400, 405, 408, 431, 500)
_GUARDED = (401,)
_BODY = (*_GUARDED, 413, 429, 503)
_MODEL = (*_BODY, 403, 404)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. Without `answer` it gives `content_type`, or nothing where that is empty."""

    method: str
    summary: str
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    event: type[msgspec.Struct] | None = None  # of a stream
    content_type: str = ""
    statuses: tuple[int, ...] = ()  # of errors, besides ANY_ROUTE
    needs_key: bool = True
    has_deadline: bool = False
    query: Mapping[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # name -> (meaning, schema)


def _generating(summary: str, body: type, answer: type, event: type) -> Operation:
    return Operation("post", summary, body, answer, event, statuses=(*_MODEL, 504), has_deadline=True)


OPERATIONS = {
    "/v1/chat/completions": _generating("Answer a conversation.", ChatRequest, ChatCompletion, ChatChunk),
    "/v1/completions": _generating("Continue a text.", CompletionRequest, Completion, Completion),
    "/v1/schemas/audit": Operation(
        "post", "What becomes of each keyword of a schema.", AuditRequest, SchemaAudit, statuses=_BODY
    ),
    "/v1/models": Operation("get", "The models that the key may use.", answer=ModelList, statuses=_GUARDED),
    "/v1/models/{model}": Operation("get", "One model.", answer=Model, statuses=(*_GUARDED, 404)),
    EVENTS_PATH: Operation(
        "get", "For the playground, and as it needs it.", content_type="text/event-stream", statuses=_GUARDED
    ),
    "/tokenize": Operation("post", "Text or a conversation to tokens.", TokenizeRequest, Tokens, statuses=_MODEL),
    "/detokenize": Operation("post", "Tokens to text.", DetokenizeRequest, Text, statuses=_MODEL),
    "/traces": Operation(
        "get",
        "The newest requests' spans, to this machine or with the key.",
        content_type="application/json",
        statuses=(403,),
        query={
            "limit": ("How many traces.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}),
            "trace_id": ("Of one trace.", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        },
    ),
    "/version": Operation("get", "The server's version.", answer=Version, needs_key=False),
    "/openapi.json": Operation("get", "This document.", content_type="application/json", needs_key=False),
    "/health": Operation("get", "200 while an engine is connected.", statuses=(503,), needs_key=False),
    "/ready": Operation("get", "200 when requests should be sent here.", statuses=(503,), needs_key=False),
    "/metrics": Operation("get", "Figures for Prometheus.", content_type="text/plain", needs_key=False),
}
