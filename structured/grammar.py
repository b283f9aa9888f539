"""The engine's side of structured output: compiled grammars, and one matcher per request.

Knows nothing of schemas. A matcher belongs to one thread at a time; the loader may load on another than it serves.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import torch
import xgrammar

from outrider.structured.constraint import CompiledGrammar
from outrider.structured.errors import DeadEndError, GrammarError
from outrider.structured.guidance import GuidanceGrammar, Vocabulary
from outrider.structured.mask import row_of
from outrider.structured.packing import GUIDANCE, unpack, unpack_guidance
from outrider.structured.vocabulary import tokenizer_info

_CACHE_BYTES: Final = 512 * 2**20
_GUIDANCE_BYTES: Final = 2**20  # what a grammar of llguidance counts for: it does not tell


class Grammar(Protocol):
    """Where one request stands in its grammar."""

    def fill_mask(self, bitmask: torch.Tensor, row: int) -> bool:
        """Write the allowed tokens to a row of `bitmask` (num_rows, ceil(vocab_size / 32)).

        False when every token is allowed. Raises GrammarError when none is, since no sampling can go on then.
        """
        ...

    def accept(self, token_id: int) -> bool:
        """Advance over a token; False, and no change, when the grammar forbids it."""
        ...

    def rollback(self, num_tokens: int) -> None:
        """Take back the last accepted tokens, stop tokens included."""
        ...

    def forced_text(self) -> str:
        """The text that must come next, up to the first choice; none where there is one at once."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the text is complete and nothing but a stop token may follow, or one has been accepted."""
        ...


class GrammarLoader:
    """Holds the grammars of one engine, least recently used ones given up first; requests under way keep theirs."""

    def __init__(
        self,
        tokenizer_path: Path | str,
        vocab_size: int,
        stop_token_ids: Sequence[int],
        *,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.vocab_size = vocab_size
        self._cache_bytes = cache_bytes
        self._info = tokenizer_info(tokenizer_path, vocab_size, stop_token_ids)
        self._vocabulary = Vocabulary(self._info)
        self._stop_row = row_of(stop_token_ids, vocab_size)
        self._lock = threading.Lock()  # guards the next two
        self._grammars: OrderedDict[str, xgrammar.CompiledGrammar | GuidanceGrammar] = OrderedDict()
        self._held_bytes = 0

    def __repr__(self) -> str:
        return f"GrammarLoader({len(self._grammars)} grammars, {self._held_bytes} of {self._cache_bytes} bytes)"

    def load(self, compiled: CompiledGrammar) -> None:
        """Take in a grammar, for later `matcher` calls with its key. Releases the GIL while it works.

        Raises GrammarError when it was compiled for another vocabulary or by another version.
        """
        if compiled.key in self:
            return
        grammar: xgrammar.CompiledGrammar | GuidanceGrammar
        if compiled.backend == GUIDANCE:
            grammar = unpack_guidance(compiled.data, self._vocabulary)
        else:
            grammar = unpack(compiled.backend, compiled.data, self._info)
        with self._lock:
            if compiled.key not in self._grammars:
                self._grammars[compiled.key] = grammar
                self._held_bytes += _size(grammar)
            while self._held_bytes > self._cache_bytes and len(self._grammars) > 1:
                _, given_up = self._grammars.popitem(last=False)
                self._held_bytes -= _size(given_up)

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._grammars

    def matcher(self, key: str) -> Grammar:
        """A grammar at its start, for one request. Raises GrammarError when the key is not loaded, or no longer."""
        with self._lock:
            grammar = self._grammars.get(key)
            if grammar is None:
                raise GrammarError(f"the grammar {key[:16]} is not loaded")
            self._grammars.move_to_end(key)
            # Under the lock, since a copy reads what is copied.
            return grammar.copy() if isinstance(grammar, GuidanceGrammar) else XgrammarGrammar(grammar, self._stop_row)


class XgrammarGrammar:
    """A `Grammar` over xgrammar's matcher."""

    def __init__(self, grammar: xgrammar.CompiledGrammar, stop_row: torch.Tensor) -> None:
        self._matcher = xgrammar.GrammarMatcher(grammar)
        self._stop_row = stop_row  # (ceil(vocab_size / 32),)

    def __repr__(self) -> str:
        return f"Grammar(complete={self._matcher.is_completed()}, stopped={self._matcher.is_terminated()})"

    def fill_mask(self, bitmask: torch.Tensor, row: int) -> bool:
        """Write a row of the mask, as `Grammar` says."""
        if self._matcher.is_terminated():  # xgrammar refuses to fill then
            bitmask[row] = self._stop_row
            return True
        if not self._matcher.fill_next_token_bitmask(bitmask, row):
            return False
        if not bitmask[row].any():
            raise DeadEndError("no token of the vocabulary can follow in this grammar")
        return True

    def accept(self, token_id: int) -> bool:
        """Advance, as `Grammar` says."""
        # Behind the end xgrammar refuses, too, but tells the log.
        return not self._matcher.is_terminated() and bool(self._matcher.accept_token(token_id))

    def rollback(self, num_tokens: int) -> None:
        """Take tokens back, as `Grammar` says."""
        if num_tokens:
            self._matcher.rollback(num_tokens)

    def forced_text(self) -> str:
        """What must come next, as `Grammar` says."""
        return "" if self._matcher.is_terminated() else str(self._matcher.find_jump_forward_string())

    @property
    def is_done(self) -> bool:
        """Whether nothing but a stop may follow, as `Grammar` says."""
        if self._matcher.is_terminated():
            return True
        if not self._matcher.is_completed():
            return False
        # Complete is not the end: 12 may become 123.
        row = torch.empty((1, len(self._stop_row)), dtype=torch.int32)
        return bool(self._matcher.fill_next_token_bitmask(row, 0)) and torch.equal(row[0], self._stop_row)


def _size(grammar: xgrammar.CompiledGrammar | GuidanceGrammar) -> int:
    """Bytes that a grammar takes, about."""
    return _GUIDANCE_BYTES if isinstance(grammar, GuidanceGrammar) else int(grammar.memory_size_bytes)
