"""What can go wrong in the engine.

EngineError
├── LoadError       the checkpoint or its fit to this machine: fatal at start, one line says what to change
├── UnsupportedAttentionError    a model's attention is not what the kernels do; the loader makes it a LoadError
└── RequestError    one request is refused or failed: the engine goes on
    └── MissingGrammarError    its grammar is not loaded, or no longer: load it and submit again
"""


class EngineError(Exception):
    """Base of all the engine's errors; the message is for the user."""


class LoadError(EngineError, ValueError):
    """The model cannot be served."""


class UnsupportedAttentionError(EngineError):
    """The model asks of attention what the kernels do not do; the message names it, behind "it uses"."""


class RequestError(EngineError, ValueError):
    """The request cannot be served."""


class MissingGrammarError(RequestError):
    """The request names a grammar that is not loaded."""


def first_line(error: Exception) -> str:
    """The first line of a foreign error, short enough to show."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
