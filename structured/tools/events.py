"""What there is in an answer's text: content, reasoning and calls of functions, each as it comes."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote to itself before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model calls a function; the arguments that follow are this call's."""

    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the newest call's arguments, as the model writes them: all of a call's joined are its JSON text."""

    text: str


Event = Content | Reasoning | CallBegun | CallArguments


class Parser(Protocol):
    """Reads one answer. However its text is cut into pieces, the events say the same."""

    def feed(self, text: str) -> list[Event]:
        """What more text tells. What may yet turn out to be the beginning of a mark is held back."""
        ...

    def finish(self) -> list[Event]:
        """What was held back, when no more text comes."""
        ...


class PlainText:
    """A parser for text that is content and nothing else."""

    def feed(self, text: str) -> list[Event]:
        """The text."""
        return [Content(text)] if text else []

    def finish(self) -> list[Event]:
        """Nothing is held back."""
        return []
