"""The shape of an extraction domain: its fields, how prose says them, and which wording is held out.

Owns the types and the split of templates. The domains themselves are data in `domains/`; how a
user asks for them is in `extraction.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final, Literal

from outrider.demo.recipe.words import Writer

# Wordings that fit any field; the last quarter is held out.
GENERIC: Final = (
    "The {label} is {value}.",
    "{label}: {value}.",
    "{label} {value}.",
    "For the {label}, note {value}.",
    "We have {value} as the {label}.",
    "The {label} given is {value}.",
    "Its {label} is {value}.",
    "{value} is the {label}.",
    "The {label} is given as {value}.",
    "Note the {label}: {value}.",
    "It has {value} as the {label}.",
    "As for the {label}, it is {value}.",
    "{label} is {value}.",
    "The {label} was recorded as {value}.",
    "It says {value} for the {label}.",
    "The {label} we have is {value}.",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a domain.

    `type` is a JSON type or `enum`; `label` is what prose calls it; `aliases` are other labels; each of `facts` is a
    sentence with the value at `{}`; `choices` are the usual values of an enum; `spoken` writes a value as prose does.
    """

    type: Literal["string", "integer", "number", "boolean", "enum", "strings", "numbers", "objects"]
    draw: Callable[[Writer], Any]
    label: str
    aliases: tuple[str, ...]
    facts: tuple[str, ...]
    spoken: Callable[[Any], str] = str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of thing to extract; every head is a sentence that mentions the fields in its braces."""

    name: str
    fields: Mapping[str, Field]
    heads: tuple[str, ...]


def split(templates: tuple[str, ...], *, held_out: bool) -> tuple[str, ...]:
    """The wordings of one side of the split: the last quarter, at least one, is held out from training."""
    kept = len(templates) - max(1, len(templates) // 4)
    return templates[kept:] if held_out else templates[:kept]


def mentioned(template: str) -> list[str]:
    """The names of the fields in braces, in their order."""
    return [name for _, name, _, _ in Formatter().parse(template) if name]


def joined(values: list[Any]) -> str:
    """A list as prose writes it."""
    said = [str(value) for value in values]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + f" and {said[-1]}"


def phrases(yes: str, no: str) -> Callable[[Any], str]:
    """How prose says a boolean."""
    return lambda value: yes if value else no


def counted(values: list[Any]) -> str:
    """A list of `{"name", "quantity"}` objects as prose writes it."""
    return joined([f"{value['quantity']} x {value['name']}" for value in values])
