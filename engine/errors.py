"""What can go wrong in the engine.

EngineError
├── LoadError       the checkpoint or its fit to this machine: fatal at start, one line says what to change
└── RequestError    one request is refused or failed: the engine goes on
    └── MissingGrammarError    its grammar is not loaded, or no longer: load it and submit again
"""


class EngineError(Exception):
    """Base of all the engine's errors; the message is for the user."""


class LoadError(EngineError, ValueError):
    """The model cannot be served."""


class RequestError(EngineError, ValueError):
    """The request cannot be served."""


class MissingGrammarError(RequestError):
    """The request names a grammar that is not loaded."""


def first_line(error: Exception) -> str:
    """The first line of a foreign error, short enough to show."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
