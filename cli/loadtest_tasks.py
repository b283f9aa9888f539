"""The load test's dataset `demo`: held-out tasks of the demo recipe, its six kinds in turn."""

from collections.abc import Callable, Iterator, Sequence

from outrider.demo.recipe.mixture import HELD_OUT_KINDS, HELD_OUT_SEED, record
from outrider.demo.recipe.words import Writer
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.sample import Sample

MAX_TOKENS = 256
"""Of an answer; the longest of the recipe's own is shorter."""

KINDS = tuple(HELD_OUT_KINDS)


def demo_tasks(kinds: Sequence[str] = ()) -> Callable[[int], Iterator[Sample]]:
    """Of some kinds, all six if none is named. Raises InvalidOptionError for a kind that is none."""
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidOptionError(f"--demo-kind {kind}: choose from {', '.join(KINDS)}")
    return lambda seed: _samples(kinds or KINDS, seed)


def _samples(kinds: Sequence[str], seed: int) -> Iterator[Sample]:
    """Extraction is held to its schema, an edit brings what it expects as `prediction`."""
    writers = {kind: Writer(HELD_OUT_SEED + number + 1000 * seed, held_out=True) for number, kind in enumerate(KINDS)}
    while True:
        for kind in kinds:
            writer = writers[kind]
            example = writer.one(HELD_OUT_KINDS[kind])(writer)
            messages = record(example)["messages"]
            while messages and messages[-1]["role"] == "assistant":
                messages.pop()
            yield Sample(
                messages=messages,
                max_tokens=MAX_TOKENS,
                tools=list(example.tools),
                kind=kind,
                schema=example.schema if kind == "extraction" else None,
            )
