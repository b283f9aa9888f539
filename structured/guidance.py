"""The second backend: llguidance, over the same bytes of the same tokens as xgrammar.

It compiles nothing ahead: a grammar is ready in about a millisecond whatever the vocabulary, its lexer grows with the
text, and its own limits bound every step. Its masks cost some tens of microseconds, several times those of xgrammar.
"""

from typing import Any, Final

import torch
import xgrammar
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from outrider.structured.errors import CompileFailed, DeadEndError, GrammarError, first_line
from outrider.structured.mask import row_of

_NOT_TEXT: Final = b"\xff"  # before the text of a token that is no text; llguidance's own mark, too
_LIMITS: Final = LLParserLimits(step_lexer_fuel=100_000, step_max_items=20_000, verbose_errors=False)


class _Pieces:
    """What llguidance asks of a tokenizer: the bytes of every token. It never needs to encode here."""

    def __init__(self, info: xgrammar.TokenizerInfo) -> None:
        self.tokens: list[bytes] = list(info.decoded_vocab)
        self.special_token_ids = [i for i, piece in enumerate(self.tokens) if piece[:1] == _NOT_TEXT and piece[1:]]
        self.eos_token_id = info.stop_token_ids[0]
        self.bos_token_id = None

    def __call__(self, _: Any) -> list[int]:
        return []


class Vocabulary:
    """The vocabulary in llguidance's form."""

    def __init__(self, info: xgrammar.TokenizerInfo) -> None:
        self.size = int(info.vocab_size)
        self.stop_token_ids = frozenset(info.stop_token_ids)
        self.stop_row = row_of(info.stop_token_ids, self.size)  # (ceil(vocab_size / 32),)
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Pieces(info)), eos_token=list(info.stop_token_ids), slices=LLTokenizer.json_slices()
        )

    def compile(self, lark: str) -> "GuidanceGrammar":
        """A grammar at its start. Raises CompileFailed, in llguidance's words."""
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise CompileFailed(first_line(matcher.get_error()))
        return GuidanceGrammar(matcher, self)


class GuidanceGrammar:
    """A `Grammar` over llguidance's matcher."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._num_stops = 0  # accepted at the end

    def __repr__(self) -> str:
        return f"GuidanceGrammar(complete={self._matcher.is_accepting()}, stopped={self._num_stops > 0})"

    def copy(self) -> "GuidanceGrammar":
        """Another one at the same place; costs microseconds."""
        return GuidanceGrammar(self._matcher.deep_copy(), self._vocabulary)

    def fill_mask(self, bitmask: torch.Tensor, row: int) -> bool:
        """Write a row of the mask, as `Grammar` says."""
        target = bitmask[row]  # (ceil(vocab_size / 32),)
        if self._num_stops:
            target.copy_(self._vocabulary.stop_row)
            return True
        self._matcher.unsafe_compute_mask_ptr(target.data_ptr(), target.numel() * target.element_size())
        if self._matcher.is_error():
            raise GrammarError(f"the grammar cannot go on: {first_line(self._matcher.get_error())}")
        if not target.any():
            raise DeadEndError("no token of the vocabulary can follow in this grammar")
        return True

    def accept(self, token_id: int) -> bool:
        """Advance, as `Grammar` says."""
        # Beyond the vocabulary llguidance would break for good.
        if self._num_stops or not 0 <= token_id < self._vocabulary.size:
            return False
        if token_id in self._vocabulary.stop_token_ids:
            self._num_stops = int(self._matcher.is_accepting())
            return self._num_stops > 0
        return self._matcher.try_consume_tokens([token_id]) == 1

    def rollback(self, num_tokens: int) -> None:
        """Take tokens back, as `Grammar` says."""
        consumed = num_tokens - self._num_stops if num_tokens else 0
        self._num_stops = 0 if num_tokens else self._num_stops
        if consumed:
            self._matcher.rollback(consumed)

    def forced_text(self) -> str:
        """What must come next, as `Grammar` says."""
        forced = b"" if self._num_stops else self._matcher.compute_ff_bytes()
        try:
            return forced.decode()
        except UnicodeDecodeError as error:  # it begins or ends within a character
            return forced[: error.start].decode()

    @property
    def is_done(self) -> bool:
        """Whether nothing but a stop may follow, as `Grammar` says."""
        return self._num_stops > 0 or self._matcher.is_stopped()
