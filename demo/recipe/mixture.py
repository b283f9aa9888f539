"""The mixture: an endless, reproducible stream of training examples from a seed.

Owns how often each task occurs and how single examples become longer conversations. Streams with
different seeds share no examples but by accident; the held-out stream is one more seed.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from outrider.demo.recipe import code, edits, extraction, passages, stories, talk, tools
from outrider.demo.recipe.conversation import Example, Message
from outrider.demo.recipe.words import Writer

# (task, weight)
_MIXTURE: Final[tuple[tuple[Callable[[Writer], Example], float], ...]] = (
    (extraction.extraction, 36),
    (extraction.dialogue, 14),
    (tools.tool_call, 16),
    (edits.repetition, 6),
    (edits.replacement, 6),
    (edits.json_edit, 5),
    (passages.question, 7),
    (code.function, 5),
    (talk.about, 4),
    (talk.listing, 3),
    (stories.story, 2),
)
_TASKS: Final = tuple(task for task, _ in _MIXTURE)
_WEIGHTS: Final = tuple(weight for _, weight in _MIXTURE)

HELD_OUT_SEED: Final = 3_000_003
# What speculators are measured on.
HELD_OUT_KINDS: Final[dict[str, tuple[Callable[[Writer], Example], ...]]] = {
    "extraction": (extraction.extraction,),
    "edit": (edits.repetition, edits.replacement, edits.json_edit),
    "tool call": (tools.tool_call,),
    "passage question": (passages.question,),
    "code": (code.function,),
    "talk": (talk.about, talk.listing),
}


def examples(
    seed: int, *, held_out: bool = False, repetitions: float = 0.0, pieces: Sequence[str] = ()
) -> Iterator[Example]:
    """Yields examples without end; mostly single questions, some conversations of several turns.

    `repetitions` is the share of texts to repeat on top of the mixture's own; `pieces` as in `Writer`.
    """
    writer = Writer(seed, held_out=held_out, pieces=pieces)
    while True:
        if repetitions and writer.chance(repetitions):
            yield edits.repetition(writer)
        elif writer.chance(0.05):
            yield _conversation(writer, writer.integer(2, 5))
        else:
            yield single(writer)


def single(writer: Writer) -> Example:
    """One example of one task."""
    return writer.weighted(_TASKS, _WEIGHTS)(writer)


def only(task: Callable[[Writer], Example], seed: int, *, held_out: bool = True) -> Iterator[Example]:
    """Yields examples of one task alone, for measuring."""
    writer = Writer(seed, held_out=held_out)
    while True:
        yield task(writer)


def _conversation(writer: Writer, turns: int) -> Example:
    """Several questions with their answers, one after the other, under at most one system message."""
    messages: list[Message] = [Message("system", "You are a helpful assistant.")] if writer.chance(0.3) else []
    while sum(message.role == "assistant" for message in messages) < turns:
        part = single(writer)
        if part.tools or part.kind == "conversation":
            continue
        messages.extend(message for message in part.messages if message.role in {"user", "assistant"})
        if part.messages[0].role == "system" and "schema" in part.messages[0].content:
            messages[-2] = Message("user", f"{part.messages[0].content}\n{messages[-2].content}")
    return Example("conversation", tuple(messages))


def record(example: Example) -> dict[str, Any]:
    """The example as one line of a training file."""
    if example.kind == "story":
        return {"kind": "story", "text": example.answer}
    messages = [{"role": message.role, "content": message.content} for message in example.messages]
    kind = example.kind.split("/")[0]
    return {"kind": kind, "messages": messages} | ({"tools": list(example.tools)} if example.tools else {})


def held_out_records(count: int) -> Iterator[dict[str, Any]]:
    """`count` single questions of each task kind, with wordings and values that no training text has."""
    for number, (kind, tasks) in enumerate(HELD_OUT_KINDS.items()):
        writer = Writer(HELD_OUT_SEED + number, held_out=True)
        for _ in range(count):
            yield record(writer.one(tasks)(writer)) | {"kind": kind}


def main() -> None:
    """Writes examples as JSON lines to standard output."""
    parser = argparse.ArgumentParser(description="Write training examples as JSON lines.")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="wordings and values that training never has")
    arguments = parser.parse_args()
    for example in itertools.islice(examples(arguments.seed, held_out=arguments.held_out), arguments.count):
        sys.stdout.write(json.dumps(record(example), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
