"""A short walk through a new grammar, to find the ones that compile fast and then match slowly.

A slow mask in the engine delays every request of its batch, and nothing there can interrupt it.
"""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import xgrammar

from outrider.structured.errors import CompileFailed, DeadEndError, GrammarError, SchemaError
from outrider.structured.grammar import Grammar
from outrider.structured.mask import allocate_bitmask, row_of

NUM_TOKENS: Final = 64  # of one walk
MAX_MASK_SECONDS: Final = 0.005
MAX_ACCEPT_SECONDS: Final = 0.001
_SEED: Final = 20231
_STRUCTURAL: Final = (b'"', b"}", b"]", b",", b":")


class Canary:
    """Walks grammars over one vocabulary, always in the same way."""

    def __init__(self, info: xgrammar.TokenizerInfo) -> None:
        self._bitmask = allocate_bitmask(1, info.vocab_size)  # (1, ceil(vocab_size / 32))
        ordinary = set(range(info.vocab_size)).difference(info.stop_token_ids)
        self._ordinary = row_of(list(ordinary), info.vocab_size).numpy().view(np.uint32)
        structural = [i for i, piece in enumerate(info.decoded_vocab) if piece.startswith(_STRUCTURAL)]
        self._structural = row_of(structural, info.vocab_size).numpy().view(np.uint32)

    def walk(self, start: Callable[[], Grammar], num_tokens: int = NUM_TOKENS) -> None:
        """Take random legal tokens twice: any, which lingers in strings, and such as end strings, which sees the rest.

        Raises SchemaError when the grammar allows nothing, CompileFailed when it is slow.
        """
        for prefers_structure in (False, True):
            grammar = start()
            generator = random.Random(_SEED)  # noqa: S311 - not for secrets
            for step in range(num_tokens):
                try:
                    _measure(partial(grammar.fill_mask, self._bitmask, 0), MAX_MASK_SECONDS, "mask")
                except GrammarError as error:
                    if step:
                        break
                    if isinstance(error, DeadEndError):
                        raise SchemaError("the schema allows no value at all") from error
                    raise CompileFailed(f"the grammar does not even begin: {error}") from error
                allowed = self._bitmask[0].numpy().view(np.uint32) & self._ordinary
                structural = allowed & self._structural
                token_id = _any_of(structural if prefers_structure and structural.any() else allowed, generator)
                if token_id is None:
                    break
                _measure(
                    partial(grammar.accept, token_id), MAX_ACCEPT_SECONDS, "token", undo=partial(grammar.rollback, 1)
                )


def _any_of(row: "np.ndarray[tuple[int], np.dtype[np.uint32]]", generator: random.Random) -> int | None:
    """One of the tokens whose bits are set in the words of a mask's row; None when there is none."""
    words = np.flatnonzero(row)
    if not len(words):
        return None
    word = int(words[generator.randrange(len(words))])
    bits = [bit for bit in range(32) if int(row[word]) >> bit & 1]
    return word * 32 + generator.choice(bits)


def _measure(
    operation: Callable[[], object], limit: float, what: str, *, undo: Callable[[], object] | None = None
) -> None:
    """Run an operation; raise CompileFailed when it is slow twice, since the first time may have met a cold cache."""
    seconds = _timed(operation)
    if seconds > limit:
        if undo is not None:
            undo()
        seconds = min(seconds, _timed(operation))
    if seconds > limit:
        steps = f"slow steps ({seconds * 1000:.0f} ms for one {what})"
        raise CompileFailed(f"the schema makes a grammar with {steps}: simplify its patterns, lengths or counts")


def _timed(operation: Callable[[], object]) -> float:
    """CPU time of this thread: other processes do not count."""
    start = time.thread_time()
    operation()
    return time.thread_time() - start
