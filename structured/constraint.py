"""What a request asks of its output, and the compiled form that travels to the engines.

Knows neither which grammar library compiles nor how.
"""

import hashlib
import json
from typing import Any, Literal

import msgspec

from outrider.structured.errors import SchemaError
from outrider.structured.finding import Finding


class Constraint(msgspec.Struct, frozen=True):
    """A request's demand on its output text; `schema` is None for `json_object`."""

    kind: Literal["json_schema", "json_object"]
    schema: dict[str, Any] | bool | None = None

    @property
    def text(self) -> bytes:
        """The schema as JSON; keys keep their order, because properties are generated in it.

        Raises SchemaError for what JSON cannot say: NaN, lone surrogates, foreign objects, endless nesting.
        """
        if self.kind == "json_object":
            return b'{"type":"object"}'
        try:
            return json.dumps(self.schema, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except RecursionError as error:
            raise SchemaError("the schema is nested too deeply") from error
        except UnicodeEncodeError as error:
            raise SchemaError("the schema holds a lone surrogate, which is no character") from error
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the schema is not JSON: {error}") from error

    @property
    def key(self) -> str:
        """Content hash (hex): equal keys, equal grammars."""
        return hashlib.sha256(self.kind.encode() + b"\0" + self.text).hexdigest()


class CompiledGrammar(msgspec.Struct, frozen=True):
    """A grammar ready to load into an engine; `key` is the key of its constraint.

    Answers are to be checked when something was `left` to the validator.
    """

    key: str
    backend: str
    data: bytes
    left: tuple[Finding, ...] = ()
    schema: bytes = b""  # JSON text to check answers against
