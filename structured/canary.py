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

from outrider.structured.errors import CompileFailed

NUM_TOKENS: Final = 64  # of one walk
MAX_MASK_SECONDS: Final = 0.005
MAX_ACCEPT_SECONDS: Final = 0.001
_SEED: Final = 20231
_STRUCTURAL: Final = (b'"', b"}", b"]", b",", b":")


class Canary:
    """Walks grammars over one vocabulary, always in the same way."""

    def __init__(self, info: xgrammar.TokenizerInfo) -> None:
        self._bitmask = xgrammar.allocate_token_bitmask(1, info.vocab_size)  # (1, ceil(vocab_size / 32))
        self._vocab_size = info.vocab_size
        self._ordinary = np.ones(info.vocab_size, bool)
        self._ordinary[list(info.stop_token_ids)] = False
        self._structural = np.array([piece.startswith(_STRUCTURAL) for piece in info.decoded_vocab], bool)

    def walk(self, grammar: xgrammar.CompiledGrammar) -> None:
        """Take random legal tokens twice: any, which lingers in strings, and such as end strings, which sees the rest.

        Raises CompileFailed when the grammar is dead or slow.
        """
        for prefers_structure in (False, True):
            matcher = xgrammar.GrammarMatcher(grammar)
            generator = random.Random(_SEED)  # noqa: S311 - not for secrets
            for step in range(NUM_TOKENS):
                _measure(partial(matcher.fill_next_token_bitmask, self._bitmask), MAX_MASK_SECONDS, "mask")
                allowed = np.unpackbits(self._bitmask.numpy().view(np.uint8), bitorder="little")[: self._vocab_size]
                if step == 0 and not allowed.any():
                    raise CompileFailed("the schema allows no value at all")
                ordinary = np.flatnonzero(allowed.astype(bool) & self._ordinary)
                structural = ordinary[self._structural[ordinary]] if prefers_structure else ordinary[:0]
                choices = structural if len(structural) else ordinary
                if not len(choices):
                    break
                token_id = int(generator.choice(choices))
                _measure(partial(matcher.accept_token, token_id), MAX_ACCEPT_SECONDS, "token", undo=matcher.rollback)


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
