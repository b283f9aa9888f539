"""The audit: what becomes of every keyword of a schema, before anything is compiled.

A keyword is enforced by the grammar, validated after generation, or refused by name, never ignored. The schema comes
back normalised: written in the few forms from which a grammar follows. Pure: no grammar library here.
"""

from typing import Any, Literal

import msgspec

from outrider.structured import limits
from outrider.structured.constraint import Constraint
from outrider.structured.errors import SchemaError
from outrider.structured.expansion import check_expansion
from outrider.structured.finding import Finding, refusal
from outrider.structured.normalise import Normaliser
from outrider.structured.validator import ReferenceProblem, Validator, draft_of

Route = Literal["exact", "validated", "refused"]


class Audit(msgspec.Struct, frozen=True):
    """What the audit decided.

    On the route `exact` the grammar of `schema`, the normalised form, allows nothing that is invalid; on `validated` it
    keeps to what it can, and the finished answer is checked. `findings` has a row for every keyword that was judged.
    """

    route: Route
    schema: dict[str, Any]
    findings: tuple[Finding, ...] = ()

    @property
    def left(self) -> tuple[Finding, ...]:
        """What is left to the validator."""
        return tuple(finding for finding in self.findings if finding.verdict == "validated")

    def error(self, *, strict: bool = False) -> SchemaError | None:
        """The refusal as an error that names every keyword, None when there is none; strict asks for `exact`."""
        return refusal(self.findings, strict=strict)


def audit(schema: object) -> Audit:
    """Decide the route of a schema and normalise it.

    Raises SchemaError when it is no JSON Schema (draft 2020-12 or draft-07) or is above a limit.
    """
    if not isinstance(schema, (dict, bool)):
        raise SchemaError("a schema is a JSON object, `true` or `false`")
    limits.check_nesting(schema)
    limits.check_text(Constraint("json_schema", schema).text)
    draft_of(schema)
    unresolved: ReferenceProblem | None = None
    try:
        Validator(schema)
    except ReferenceProblem as problem:
        unresolved = problem
    walk = Normaliser(schema)
    normalised = walk.normalise()
    if any(finding.verdict == "validated" for finding in walk.findings):
        if unresolved is not None:
            _refuse_references(walk, unresolved)
        check_expansion(schema)
    verdicts = {finding.verdict for finding in walk.findings}
    route: Route = "refused" if "refused" in verdicts else "validated" if "validated" in verdicts else "exact"
    return Audit(route, normalised, _rows(walk))


def _refuse_references(walk: Normaliser, problem: ReferenceProblem) -> None:
    """A schema whose references have no target can be validated by nobody."""
    left = [finding for finding in walk.findings if finding.keyword == "$ref" and finding.verdict == "validated"]
    for finding in left:
        walk.findings.remove(finding)
        walk.refuse(finding.pointer, "$ref", finding.reason)
    if not left:
        walk.refuse("#", "$ref", f"somewhere in the schema leads nowhere, so that nothing can be validated: {problem}")


def _rows(walk: Normaliser) -> tuple[Finding, ...]:
    """A row for each keyword: what there is to say of it, or that it is enforced."""
    told: dict[tuple[str, str], list[Finding]] = {}
    for finding in walk.findings:
        told.setdefault((finding.pointer, finding.keyword), []).append(finding)
    for place, keyword in walk.seen:
        told.setdefault((place, keyword), [Finding(place, keyword, "enforced", "is kept by the grammar")])
    order = {place: index for index, place in enumerate(dict.fromkeys(place for place, _ in walk.seen))}
    rows = [finding for findings in told.values() for finding in findings]
    return tuple(sorted(rows, key=lambda finding: order.get(finding.pointer, len(order))))
