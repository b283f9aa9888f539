"""Chooses the backend for a constraint and compiles it there. Runs in the compile worker."""

import json
import time
from typing import Any, Final

import msgspec
import xgrammar

from outrider.structured import limits
from outrider.structured.automaton import TooComplexError
from outrider.structured.canary import Canary
from outrider.structured.constraint import Kind, Whitespace
from outrider.structured.errors import CompileFailed, first_line
from outrider.structured.finding import Finding
from outrider.structured.grammar import XgrammarGrammar
from outrider.structured.guidance import Vocabulary
from outrider.structured.jobs import Compiled
from outrider.structured.lark import Lark
from outrider.structured.mask import row_of
from outrider.structured.packing import pack, pack_guidance
from outrider.structured.sources import audited, ebnf_of, is_lark, lark_of, part_of
from outrider.structured.tags import prepare
from outrider.structured.vocabulary import added_tokens

MAX_GRAMMAR_BYTES: Final = 32 * 2**20
# What a grammar costs on xgrammar, fitted to the schemas of bench/grammar.py on one core: for each token of the
# vocabulary (the trial walk, the load in the engine, masks dearer than llguidance's from 30,000 tokens on), for each
# state, and for each of both.
_TOKEN_SECONDS: Final = 5e-7
_STATE_SECONDS: Final = 1.2e-4
_STATE_TOKEN_SECONDS: Final = 1.6e-9
_GUIDANCE_STEPS: Final = 8  # of a canary's walk: its own limits bound the later ones


class Backends:
    """Both grammar libraries over one vocabulary."""

    def __init__(self, info: xgrammar.TokenizerInfo, budget_seconds: float = 0.02) -> None:
        self._budget_seconds = budget_seconds
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._vocabulary = Vocabulary(info)
        self._added = added_tokens(info)
        self._stop_row = row_of(info.stop_token_ids, info.vocab_size)
        self._canary = Canary(info)

    def compile(self, kind: Kind, text: bytes, whitespace: Whitespace = "compact") -> Compiled:
        """A constraint's text as a packed grammar of bearable size and speed, and why on its backend.

        Both backends keep exactly what the audit has let through, in the same words. So xgrammar, whose masks are
        cheaper, gets what it is expected to compile within the budget, and what llguidance cannot read: EBNF and tags.

        Raises SchemaError and CompileFailed.
        """
        value = json.loads(text)
        if kind == "structural_tag":
            return self.on_xgrammar(kind, value, whitespace, "structural tags are xgrammar's")
        if kind == "grammar":
            if is_lark(value):
                return self.on_guidance(lark_of(kind, value), "the grammar is written in Lark")
            return self.on_xgrammar(kind, value, whitespace, "the grammar is written in EBNF")
        left: tuple[Finding, ...] = ()
        if kind in ("json_schema", "json_object"):
            result = audited(value)
            value, left = result.schema, result.left
        return msgspec.structs.replace(self._chosen(kind, value, whitespace), left=left)

    def _chosen(self, kind: Kind, value: Any, whitespace: Whitespace) -> Compiled:
        """A form that both backends can keep, on the cheaper one."""
        lark = lark_of(kind, value, whitespace)
        seconds = self._xgrammar_seconds(lark.num_states)
        budget = f"the budget of {self._budget_seconds * 1000:g} ms"
        if seconds > self._budget_seconds:
            return self.on_guidance(lark, f"xgrammar would take about {seconds * 1000:.0f} ms, above {budget}")
        try:
            return self.on_xgrammar(kind, value, whitespace, f"xgrammar compiles it within {budget}")
        except (CompileFailed, TooComplexError) as error:
            return self.on_guidance(lark, f"xgrammar refuses it: {error}")

    def on_xgrammar(self, kind: Kind, value: Any, whitespace: Whitespace, reason: str = "") -> Compiled:
        """A grammar of xgrammar's."""
        try:
            source = self._source(kind, value, whitespace)
            start = time.process_time()
            grammar = self._compiler.compile_grammar(source)
        except RuntimeError as error:
            raise CompileFailed(f"the grammar compiler refuses it: {first_line(error)}") from error
        seconds = time.process_time() - start
        size = grammar.memory_size_bytes >> 20
        if grammar.memory_size_bytes > MAX_GRAMMAR_BYTES:
            bound = MAX_GRAMMAR_BYTES >> 20
            raise CompileFailed(f"the schema makes a grammar of {size} MiB, above {bound}: simplify it")
        self._canary.walk(lambda: XgrammarGrammar(grammar, self._stop_row))
        return Compiled(*pack(grammar, source, seconds), reason)

    def on_guidance(self, lark: Lark, reason: str) -> Compiled:
        """A grammar of llguidance's."""
        self._canary.walk(self._vocabulary.compile(lark.text).copy, _GUIDANCE_STEPS)
        return Compiled(*pack_guidance(lark.text), reason)

    def _xgrammar_seconds(self, num_states: int) -> float:
        """What xgrammar is expected to take for a grammar with so many states in its strings and numbers."""
        num_tokens = self._vocabulary.size
        return num_tokens * _TOKEN_SECONDS + num_states * (_STATE_SECONDS + num_tokens * _STATE_TOKEN_SECONDS)

    def _source(self, kind: Kind, value: Any, whitespace: Whitespace) -> xgrammar.Grammar:
        if kind == "grammar":  # as a tag: xgrammar masks legal tokens of a root that is recursive; a tag has its own
            value = {"format": {"type": "grammar", "grammar": value}}
        elif kind != "structural_tag":
            return xgrammar.Grammar.from_ebnf(ebnf_of(kind, value, whitespace))
        limits.check_nesting(value)
        tag = prepare(value, self._added, part_of)
        return xgrammar.Grammar.from_structural_tag(tag)
