"""What can go wrong between a caller's schema and a mask.

    StructuredError (ValueError)
    |-- SchemaError       the schema is malformed, unsupported or above a limit: the caller's to change
    |-- CompileFailed     the schema is well formed, but no usable grammar came out of it
    |   `-- CompileTimeout  ... within the time that one schema may take
    |-- GrammarError      a grammar cannot be loaded, or cannot go on: fails one request
    |   `-- DeadEndError    ... because it allows no token at all
    `-- WorkerError       the compile process could not start: ours to repair

Messages are sentences for the person who wrote the schema.
"""

import re
from typing import Final

_CPP_PREFIX: Final = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


def first_line(text: object) -> str:
    """What a library says, without the place in its C++ code."""
    lines = str(text).strip().splitlines() or ["out of memory"]
    return _CPP_PREFIX.sub("", lines[0])[:300]


class StructuredError(ValueError):
    """Base of this folder's errors."""


class SchemaError(StructuredError):
    """The caller must change the schema; `pointer` and `keyword` say where the first problem is."""

    def __init__(self, message: str, *, pointer: str = "#", keyword: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer
        self.keyword = keyword


class CompileFailed(StructuredError):  # noqa: N818 - named for the event that the caller reads about
    """No usable grammar came out of a schema that the audit had passed."""


class CompileTimeout(CompileFailed):
    """The schema needs more time than one schema may take."""


class GrammarError(StructuredError):
    """A grammar cannot be loaded, or cannot go on."""


class DeadEndError(GrammarError):
    """The mask allows no token."""


class WorkerError(StructuredError):
    """The compile process could not start, or broke its protocol."""
