"""The audit: whether every keyword of a schema can be kept, before anything is compiled.

A keyword is enforced or refused by name, never ignored. An accepted schema comes back normalised: narrower than the
original at most, and written in the few forms from which a grammar follows exactly. Pure: no grammar library here.
"""

from typing import Any, Final, Literal

import jsonschema
import msgspec
from jsonschema.protocols import Validator

from outrider.structured import limits
from outrider.structured.constraint import Constraint
from outrider.structured.errors import SchemaError
from outrider.structured.finding import Finding
from outrider.structured.normalise import Normaliser
from outrider.structured.references import pointer

_MAX_NAMED: Final = 20
_DRAFTS: Final[dict[str, type[Validator]]] = {
    "json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
    "json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
}


class Audit(msgspec.Struct, frozen=True):
    """What the audit decided; `schema` is the normalised form, to be compiled when the route is `exact`."""

    route: Literal["exact", "refused"]
    schema: dict[str, Any]
    findings: tuple[Finding, ...] = ()

    def error(self) -> SchemaError | None:
        """The refusal as an error that names every keyword, None when there is none."""
        refused = [finding for finding in self.findings if finding.verdict == "refused"]
        if not refused:
            return None
        named = "; ".join(str(finding) for finding in refused[:_MAX_NAMED])
        more = f"; and {len(refused) - _MAX_NAMED} more" if len(refused) > _MAX_NAMED else ""
        return SchemaError(named + more, pointer=refused[0].pointer, keyword=refused[0].keyword)


def audit(schema: object) -> Audit:
    """Decide the route of a schema and normalise it.

    Raises SchemaError when it is no JSON Schema (draft 2020-12 or draft-07) or is above a limit.
    """
    if not isinstance(schema, (dict, bool)):
        raise SchemaError("a schema is a JSON object, `true` or `false`")
    limits.check_nesting(schema)
    limits.check_text(Constraint("json_schema", schema).text)
    _check_metaschema(schema)
    walk = Normaliser(schema)
    normalised = walk.normalise()
    return Audit("refused" if walk.refused else "exact", normalised, tuple(walk.findings))


def _check_metaschema(schema: dict[str, Any] | bool) -> None:
    draft = schema.get("$schema", "https://json-schema.org/draft/2020-12/schema") if isinstance(schema, dict) else ""
    name = str(draft).partition("://")[2].rstrip("#") or "json-schema.org/draft/2020-12/schema"
    if name not in _DRAFTS:
        message = f"`$schema` names `{str(draft)[:200]}`, which is not supported: use draft 2020-12 or draft-07"
        raise SchemaError(message, keyword="$schema")
    try:
        if isinstance(schema, dict):
            _DRAFTS[name].check_schema(schema)
    except jsonschema.SchemaError as error:
        place = pointer("#", *error.absolute_path)
        keyword = str(next((part for part in reversed(error.absolute_path) if isinstance(part, str)), ""))
        message = f"not a valid JSON Schema: at `{place}`, {error.message[:300]}"
        raise SchemaError(message, pointer=place, keyword=keyword) from error
