"""POST /v1/schemas/audit: what would become of a schema's keywords, before anything is generated with it."""

from typing import Any, Literal

import msgspec
from aiohttp import web

from outrider.gateway.body import read_body
from outrider.gateway.endpoint import check_gate
from outrider.gateway.errors import ApiError, unavailable
from outrider.gateway.limits import Cost
from outrider.gateway.requests import parse_request
from outrider.gateway.state import GATEWAY, REQUEST_STATE
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint
from outrider.structured.errors import SchemaError, WorkerError
from outrider.structured.finding import Finding


class AuditRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body."""

    schema: dict[str, Any] | bool


class SchemaAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: a finding for every keyword that was judged, and the library that keeps the grammar, with the reason.

    `backend` and `reason` are empty for a schema that is refused.
    """

    route: Literal["exact", "validated", "refused"]
    findings: tuple[Finding, ...]
    backend: str = ""
    reason: str = ""
    object: Literal["schema.audit"] = "schema.audit"


async def audit_schema(request: web.Request) -> web.Response:
    """Audits a schema and compiles it, as a request would; a refused one is answered with 200, no schema with 400."""
    gateway = request.app[GATEWAY]
    check_gate(gateway)
    state = request[REQUEST_STATE]
    with gateway.access.lease(state.key, gateway.model_name) as lease:  # it counts as a request without tokens
        state.headers.update(await lease.take(Cost(0, 0), gateway.model_name))
        lease.used = Cost(0, 0)
        return await _audited(request)


async def _audited(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    parsed = parse_request(await read_body(request), AuditRequest)
    constraint = Constraint("json_schema", parsed.schema)
    try:
        audited = await gateway.checker.audit(constraint.text)
        body = SchemaAudit(route=audited.route, findings=audited.findings)
        if body.route != "refused":
            body = await _compiled(gateway.compiler, constraint, body)
    except WorkerError as error:
        raise unavailable(f"The audit is not available: {error}") from error
    except SchemaError as error:
        raise ApiError(
            400,
            f"Invalid schema: {error}",
            param="schema",
            code="invalid_json_schema",
            error_type="grammar_compile_failed",
        ) from error
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def _compiled(compiler: Compiler, constraint: Constraint, audit: SchemaAudit) -> SchemaAudit:
    """The same audit with what compiling tells: the backend, and what has no grammar for its size or speed."""
    try:
        grammar = await compiler.compile(constraint)
    except SchemaError as error:  # no value is left, which the audit does not see
        refused = Finding(error.pointer, error.keyword, "refused", str(error))
        return msgspec.structs.replace(audit, route="refused", findings=(*audit.findings, refused))
    more = tuple(finding for finding in grammar.left if finding not in audit.findings)
    return msgspec.structs.replace(
        audit,
        route="validated" if grammar.left else "exact",
        findings=(*audit.findings, *more),
        backend=grammar.backend.partition("-")[0],
        reason=grammar.reason,
    )
