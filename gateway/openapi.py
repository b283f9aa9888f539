"""GET /openapi.json: the API as OpenAPI 3.1, written from the types that requests are parsed with."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from outrider.gateway.deadline import HEADER as TIMEOUT_HEADER
from outrider.gateway.deadline import MAX_SECONDS
from outrider.gateway.errors import ErrorBody
from outrider.gateway.field_texts import text_of
from outrider.gateway.info import SERVER_VERSION
from outrider.gateway.operations import ANY_ROUTE, OPERATIONS, Operation

_ALTERNATIVES = {"TokenizeRequest": {"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}}
_SCHEMAS = "#/components/schemas/{name}"

ERRORS = {
    400: "The request is wrong; `param` names the field.",
    401: "There is no key, or it is not good.",
    403: "The key is not good for this model.",
    404: "There is no such model, or no such path.",
    405: "The path knows another method.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "A limit is reached, or the queue is full; `Retry-After` says when to try again.",
    431: "The request line or a header is too long.",
    500: "The server failed.",
    503: "The server is busy, is shutting down, or has no engine.",
    504: "The answer was not ready within `timeout`.",
}


class Failure(msgspec.Struct, frozen=True):
    """The body of every error."""

    error: ErrorBody


async def openapi(request: web.Request) -> web.Response:  # noqa: ARG001, as handlers are called
    """The document; nothing in it depends on how the server was started."""
    return web.Response(body=_encoded(), content_type="application/json")


@functools.cache
def _encoded() -> bytes:
    return msgspec.json.encode(document(OPERATIONS))


def document(operations: Mapping[str, Operation]) -> dict[str, Any]:
    """The whole document of an API, by its paths."""
    types: set[type[msgspec.Struct]] = {Failure}
    for operation in operations.values():
        types |= {one for one in (operation.body, operation.answer, operation.event) if one is not None}
    ordered = sorted(types, key=lambda one: one.__name__)
    references, components = msgspec.json.schema_components(ordered, ref_template=_SCHEMAS)
    schema_of = dict(zip(ordered, references, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Outrider", "version": SERVER_VERSION, "license": {"name": "Apache-2.0"}},
        "paths": {path: {one.method: _operation(path, one, schema_of)} for path, one in operations.items()},
        "components": {
            "schemas": {name: _described(name, schema) for name, schema in components.items()},
            "responses": {str(status): _error(status, text, schema_of[Failure]) for status, text in ERRORS.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A type's schema with what is said of each field."""
    fields = {
        field: ({"description": text} if (text := text_of(name, field)) is not None else {}) | own
        for field, own in schema.get("properties", {}).items()
    }
    return {**schema, **({"properties": fields} if fields else {}), **_ALTERNATIVES.get(name, {})}


def _operation(path: str, operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    statuses = sorted({*ANY_ROUTE, *operation.statuses})
    parameters: list[dict[str, Any]] = [_REQUEST_ID, *([_TIMEOUT] if operation.has_deadline else [])]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (text, schema) in operation.query.items()
    ]
    parameters += [_MODEL] if path.endswith("/{model}") else []
    told: dict[str, Any] = {
        "operationId": operation.method + path.replace("/", "_").translate(str.maketrans(".", "_", "{}")),
        "summary": operation.summary,
        "parameters": parameters,
        "security": [{"key": []}, {}] if operation.needs_key else [{}],  # without keys, anybody comes in
        "responses": {
            "200": _success(operation, schema_of),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
    }
    if operation.body is not None:
        content = {"application/json": {"schema": schema_of[operation.body]}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _success(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": schema_of[operation.answer]}
    if operation.event is not None:
        text = f"Server-sent events: each `data:` is a {operation.event.__name__} or a Failure; the last is `[DONE]`."
        content["text/event-stream"] = {"schema": {"description": text}}
    if operation.content_type:
        content[operation.content_type] = {"schema": {}}
    success: dict[str, Any] = {"description": operation.summary, "headers": {"x-request-id": _ID_HEADER}}
    return {**success, "content": content} if content else success


def _error(status: int, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    headers = {"x-request-id": _ID_HEADER}
    if status in {429, 503}:
        wait = {"description": "Seconds until another try may pass.", "schema": {"type": "string"}}
        headers["Retry-After"] = wait
    return {"description": text, "headers": headers, "content": {"application/json": {"schema": schema}}}


_ID_PATTERN = "^[A-Za-z0-9._-]{1,128}$"
_ID_HEADER = {"description": "By which logs know the request.", "schema": {"type": "string", "pattern": _ID_PATTERN}}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "description": "The request's id, sent back; anything else than this is replaced.",
    "schema": {"type": "string", "pattern": _ID_PATTERN},
}
_TIMEOUT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "description": "Seconds from arrival after which the request is given up; the earlier of this and `timeout`.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
}
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "As /v1/models lists it.",
    "schema": {"type": "string", "minLength": 1},
}
