"""What a family of models is to the rest: how it writes calls, as a parser and as a grammar.

Grammars are structural tags: the compile worker audits the schemas in them, and takes each mark for the token that the
model has for it, if it has one.
"""

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from outrider.structured.tools.events import Parser

Tag = dict[str, Any]  # a node of a structural tag
Demand = Literal["none", "auto", "required"]


@dataclass(frozen=True, slots=True)
class Function:
    """What may be called, and the JSON schema of its arguments: enforced exactly, or as far as it can be."""

    name: str
    parameters: Any
    is_strict: bool = True


class ToolFormat(Protocol):
    """How a family writes calls."""

    @property
    def name(self) -> str:
        """For `--tool-format`."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that must be seen even where the model has special tokens for them."""
        ...

    def is_used_by(self, template: str) -> bool:
        """Whether a chat template writes calls in this way."""
        ...

    def parser(self) -> Parser:
        """For one answer."""
        ...

    def grammar(self, functions: Sequence[Function], demand: Demand, *, parallel: bool) -> Tag:
        """Of an answer that may call the functions, must, or must not; several at once where `parallel`."""
        ...

    def new_call_id(self) -> str:
        """An id that no other call has."""
        ...


_CALL_ID_CHARACTERS: Final = string.ascii_letters + string.digits


def new_call_id(prefix: str, length: int) -> str:
    """A prefix and random letters and digits."""
    return prefix + "".join(secrets.choice(_CALL_ID_CHARACTERS) for _ in range(length))


def text(value: str) -> Tag:
    """Exactly this text."""
    return {"type": "const_string", "value": value}


def sequence(*parts: Tag) -> Tag:
    """One after the other."""
    return {"type": "sequence", "elements": list(parts)}


def one_of(parts: Sequence[Tag]) -> Tag:
    """Any one of them."""
    return parts[0] if len(parts) == 1 else {"type": "or", "elements": list(parts)}


def arguments(function: Function) -> Tag:
    """What the function's schema allows."""
    return {"type": "json_schema", "json_schema": function.parameters, "strict": function.is_strict}


def marked(begin: str, content: Tag, end: str) -> Tag:
    """Content between two marks; the second may be empty."""
    return sequence(text(begin), content, *([text(end)] if end else []))


def free(mark: str) -> Tag:
    """Any text without this mark."""
    return {"type": "any_text", "excludes": [mark]}


def among_text(call: Tag, mark: str, *, parallel: bool) -> Tag:
    """Free text in which calls stand that begin with this mark; where not `parallel`, at most one, at the end."""
    if parallel:
        return sequence(free(mark), {"type": "star", "content": sequence(call, free(mark))})
    return sequence(free(mark), {"type": "optional", "content": call})


def repeated(call: Tag, separator: str, *, parallel: bool) -> Tag:
    """One call; where `parallel`, any number with the separator between them."""
    if not parallel:
        return call
    further = sequence(*([text(separator)] if separator else []), call)
    return sequence(call, {"type": "star", "content": further})
