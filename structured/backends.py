"""From a constraint to a compiled grammar, in the compile worker."""

import json
import time
from typing import Final

import xgrammar

from outrider.structured.canary import Canary
from outrider.structured.constraint import Kind
from outrider.structured.errors import CompileFailed
from outrider.structured.jobs import Compiled
from outrider.structured.packing import pack
from outrider.structured.sources import grammar_of

MAX_GRAMMAR_BYTES: Final = 32 * 2**20


class Backends:
    """Compiles for one vocabulary."""

    def __init__(self, info: xgrammar.TokenizerInfo) -> None:
        self._info = info
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._canary = Canary(info)

    def compile(self, kind: Kind, text: bytes) -> Compiled:
        """A constraint's text as a packed grammar of bearable size and speed.

        Raises SchemaError and CompileFailed; RuntimeError is xgrammar's own.
        """
        source, left = grammar_of(kind, json.loads(text), self._info)
        start = time.process_time()
        grammar = self._compiler.compile_grammar(source)
        seconds = time.process_time() - start
        size = grammar.memory_size_bytes >> 20
        if grammar.memory_size_bytes > MAX_GRAMMAR_BYTES:
            bound = MAX_GRAMMAR_BYTES >> 20
            raise CompileFailed(f"the schema makes a grammar of {size} MiB, above {bound}: simplify it")
        self._canary.walk(grammar)
        return Compiled(*pack(grammar, source, seconds), left)
