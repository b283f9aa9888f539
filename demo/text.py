"""The mixture: an endless, reproducible stream of training examples from a seed.

Owns how often each task occurs and how single examples become longer conversations. Streams with
different seeds share no examples but by accident; the held-out stream is one more seed.
"""

from collections.abc import Callable, Iterator
from typing import Final

from outrider.demo import copying, extraction, stories, talk
from outrider.demo.conversation import Example, Message
from outrider.demo.words import Writer

# (task, weight); copying comes often because extraction is built on it.
_MIXTURE: Final[tuple[tuple[Callable[[Writer], Example], float], ...]] = (
    (extraction.extraction, 46),
    (copying.repetition, 10),
    (copying.replacement, 9),
    (copying.json_edit, 5),
    (talk.question, 10),
    (talk.about, 6),
    (talk.listing, 6),
    (stories.story, 8),
)
_TASKS: Final = tuple(task for task, _ in _MIXTURE)
_WEIGHTS: Final = tuple(weight for _, weight in _MIXTURE)


def examples(seed: int) -> Iterator[Example]:
    """Yields examples without end; mostly single questions, some conversations of many turns."""
    writer = Writer(seed)
    while True:
        if writer.chance(0.1):
            yield _conversation(writer, writer.integer(2, 10))
        else:
            yield single(writer)


def single(writer: Writer) -> Example:
    """One example of one task."""
    return writer.weighted(_TASKS, _WEIGHTS)(writer)


def extractions(seed: int) -> Iterator[Example]:
    """Yields extraction examples alone, for measuring."""
    writer = Writer(seed)
    while True:
        yield extraction.extraction(writer)


def _conversation(writer: Writer, turns: int) -> Example:
    """Several questions with their answers, one after the other, under at most one system message."""
    messages: list[Message] = [Message("system", "You are a helpful assistant.")] if writer.chance(0.3) else []
    while sum(message.role == "assistant" for message in messages) < turns:
        part = single(writer)
        messages.extend(message for message in part.messages if message.role in {"user", "assistant"})
        if part.messages[0].role == "system" and "schema" in part.messages[0].content:
            messages[-2] = Message("user", f"{part.messages[0].content}\n{messages[-2].content}")
    return Example("conversation", tuple(messages))
