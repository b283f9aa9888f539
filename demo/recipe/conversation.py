"""The shape of one training example: who says what, with which tools, and which task it shows.

Owns the message and example types and the special tokens. Does not know how text is made up (`mixture.py` and the
task files) nor how it becomes token ids (`tokenizer.py`).
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant", "tool", "text"]

BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
PAD: Final = "<|pad|>"
ROLE_TOKENS: Final[tuple[str, ...]] = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
TOOL_CALL: Final = ("<tool_call>", "</tool_call>")
THINK: Final = ("<think>", "</think>")
SPECIAL_TOKENS: Final[tuple[str, ...]] = (PAD, BEGIN, END, *ROLE_TOKENS)
# One token each like the special ones, but part of the text that a client sees.
MARKS: Final[tuple[str, ...]] = (*THINK, *TOOL_CALL)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The role `text` is plain text outside of any conversation, for completions."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from.

    `kind` names the task, such as `extraction/person` or `story`; `tools` are OpenAI function declarations; `schema`
    is what the last message obeys, where there is one.
    """

    kind: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None

    @property
    def answer(self) -> str:
        """The last message, which is what a model should produce from the others."""
        return self.messages[-1].content


def ask(
    kind: str,
    question: str,
    answer: str,
    *,
    system: str = "",
    tools: tuple[dict[str, Any], ...] = (),
    schema: dict[str, Any] | None = None,
) -> Example:
    """One question and its answer, with a system message before them unless it is empty."""
    opening = (Message("system", system),) if system else ()
    return Example(kind, (*opening, Message("user", question), Message("assistant", answer)), tools, schema)
