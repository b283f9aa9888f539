"""One thing that the audit has to say about one keyword."""

from typing import Literal

import msgspec

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
