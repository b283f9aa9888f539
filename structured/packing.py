"""How a compiled grammar travels from a compile worker to an engine.

Serialised, as a rule: an engine loads that in milliseconds, whatever it took to compile. But xgrammar's form repeats
the whole automaton for every rule, so that some hundred rules make 60 MB of a grammar that compiles in 20 ms. Such a
grammar travels as its source. llguidance has no compiled form: its grammars are ready in a millisecond anyway.
"""

import zlib
from typing import Final

import xgrammar

from outrider.structured.errors import CompileFailed, GrammarError
from outrider.structured.guidance import GuidanceGrammar, Vocabulary

GUIDANCE: Final = "llguidance"
SERIALISED: Final = "xgrammar"
SOURCE: Final = "xgrammar-source"
_MAX_SECONDS: Final = 0.2  # of compiling that an engine may repeat
_MAX_PRODUCT: Final = 2**20  # rules times source bytes: about the length of the serialised form


def pack(grammar: xgrammar.CompiledGrammar, source: xgrammar.Grammar, seconds: float) -> tuple[str, bytes]:
    """The backend to name and the data to send for a grammar that took `seconds` of CPU time to compile."""
    text = str(source)
    if seconds < _MAX_SECONDS and text.count(" ::= ") * len(text) > _MAX_PRODUCT:
        return SOURCE, zlib.compress(source.serialize_json().encode(), level=1)
    return SERIALISED, zlib.compress(grammar.serialize_json().encode(), level=1)


def unpack(backend: str, data: bytes, info: xgrammar.TokenizerInfo) -> xgrammar.CompiledGrammar:
    """The grammar again. Releases the GIL while it works.

    Raises GrammarError when it was made for another vocabulary or by another version.
    """
    if backend not in (SERIALISED, SOURCE):
        raise GrammarError(f"no backend `{backend}` for compiled grammars")
    try:
        text = zlib.decompress(data).decode()
        if backend == SERIALISED:
            return xgrammar.CompiledGrammar.deserialize_json(text, info)
        compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        return compiler.compile_grammar(xgrammar.Grammar.deserialize_json(text))
    except (RuntimeError, UnicodeDecodeError, zlib.error) as error:
        raise GrammarError("the compiled grammar does not fit this engine or its vocabulary") from error


def pack_guidance(lark: str) -> tuple[str, bytes]:
    """The same for a grammar of llguidance's."""
    return GUIDANCE, zlib.compress(lark.encode(), level=1)


def unpack_guidance(data: bytes, vocabulary: Vocabulary) -> GuidanceGrammar:
    """The grammar at its start. Raises GrammarError when it is damaged or above this engine's limits."""
    try:
        return vocabulary.compile(zlib.decompress(data).decode())
    except (CompileFailed, UnicodeDecodeError, zlib.error) as error:
        raise GrammarError("the compiled grammar does not fit this engine") from error
