"""What a request asks of its output, and the compiled form that travels to the engines.

Knows neither which grammar library compiles nor how.
"""

import hashlib
import json
from typing import Any, Final, Literal

import msgspec

from outrider.structured.errors import SchemaError
from outrider.structured.finding import Finding

Kind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "structural_tag"]
Whitespace = Literal["compact", "free"]  # of JSON text: none, or bounded amounts where readers expect them


# What messages call the value.
SUBJECTS: Final[dict[str, str]] = {
    "json_schema": "schema",
    "json_object": "schema",
    "regex": "pattern",
    "choice": "list of choices",
    "grammar": "grammar",
    "structural_tag": "structural tag",
}


class Constraint(msgspec.Struct, frozen=True):
    """A request's demand on its output text.

    `value` is what the kind needs: the schema, the pattern, the list of choices, the grammar's text, the tag's tree;
    None for `json_object`.
    """

    kind: Kind
    value: Any = None
    whitespace: Whitespace = "compact"

    @property
    def text(self) -> bytes:
        """The value as JSON; keys keep their order, because properties are generated in it.

        Raises SchemaError for what JSON cannot say: NaN, lone surrogates, foreign objects, endless nesting.
        """
        if self.kind == "json_object":
            return b'{"type":"object"}'
        subject = SUBJECTS[self.kind]
        try:
            return json.dumps(self.value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except RecursionError as error:
            raise SchemaError(f"the {subject} is nested too deeply") from error
        except UnicodeEncodeError as error:
            raise SchemaError(f"the {subject} holds a lone surrogate, which is no character") from error
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the {subject} is not JSON: {error}") from error

    @property
    def key(self) -> str:
        """Content hash (hex): equal keys, equal grammars."""
        return hashlib.sha256(f"{self.kind} {self.whitespace}\0".encode() + self.text).hexdigest()


class CompiledGrammar(msgspec.Struct, frozen=True):
    """A grammar ready to load into an engine; `key` is the key of its constraint.

    Answers are to be checked when something was `left` to the validator.
    """

    key: str
    backend: str
    data: bytes
    reason: str = ""  # why this backend
    left: tuple[Finding, ...] = ()
    schema: bytes = b""  # JSON text to check answers against
