"""The shape of one training example: who says what, and which task it shows.

Owns the message and example types and the special tokens that delimit roles. Does not know how text is
made up (`text.py` and the task files) nor how it becomes token ids (`tokenizer.py`).
"""

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["system", "user", "assistant", "tool", "text"]

BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
PAD: Final = "<|pad|>"
ROLE_TOKENS: Final[tuple[str, ...]] = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
SPECIAL_TOKENS: Final[tuple[str, ...]] = (PAD, BEGIN, END, *ROLE_TOKENS)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The role `text` is plain text outside of any conversation, for completions."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from; `kind` names the task, such as `extraction/person` or `story`."""

    kind: str
    messages: tuple[Message, ...]

    @property
    def answer(self) -> str:
        """The last message, which is what a model should produce from the others."""
        return self.messages[-1].content


def ask(kind: str, question: str, answer: str, *, system: str = "") -> Example:
    """One question and its answer, with a system message before them unless it is empty."""
    opening = (Message("system", system),) if system else ()
    return Example(kind, (*opening, Message("user", question), Message("assistant", answer)))
