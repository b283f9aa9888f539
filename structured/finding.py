"""What the audit says of a schema's keywords, and the validator of an answer."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from outrider.structured.errors import SchemaError

_MAX_NAMED: Final = 20

Verdict = Literal["enforced", "validated", "refused"]


class Finding(msgspec.Struct, frozen=True):
    """What becomes of `keyword` at `pointer`; `enforced` findings say where output is narrower than the schema."""

    pointer: str
    keyword: str
    verdict: Verdict
    reason: str

    def __str__(self) -> str:
        subject = f"`{self.keyword}` at `{self.pointer}`" if self.keyword else f"the schema at `{self.pointer}`"
        return f"{subject} {self.reason}"


class Violation(msgspec.Struct, frozen=True):
    """One thing in which an answer differs from its schema; `path` is a JSON pointer into the answer."""

    path: str
    keyword: str
    message: str


def refusal(findings: Sequence[Finding], *, strict: bool) -> SchemaError | None:
    """The error that names every keyword which is refused, or which `strict` does not leave to the validator."""
    named = [finding for finding in findings if finding.verdict == "refused"]
    if strict:
        named += [finding for finding in findings if finding.verdict == "validated"]
    if not named:
        return None
    text = "; ".join(str(finding) for finding in named[:_MAX_NAMED])
    more = f"; and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return SchemaError(text + more, pointer=named[0].pointer, keyword=named[0].keyword)
