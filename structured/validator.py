"""The validator: what a schema says of a finished value, read by a library that knows nothing of our grammars.

It decides what a schema is, and checks the answers whose schema a grammar enforces only in part. Nothing is ever
fetched. Its regular expressions have bounds on size and on backtracking; its time as a whole has none, so it runs in
processes that can be ended.
"""

import json
from itertools import islice
from typing import Any, Final, NoReturn

import jsonschema_rs

from outrider.structured.errors import SchemaError
from outrider.structured.finding import Violation
from outrider.structured.references import pointer

MAX_VIOLATIONS: Final = 20  # that one answer is told of
_MAX_MESSAGE: Final = 300  # characters
_REGEX: Final = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=4 * 2**20)
_DEFAULT: Final = "json-schema.org/draft/2020-12/schema"
_DRAFT_07: Final = "json-schema.org/draft-07/schema"
_DRAFTS: Final[dict[str, type[jsonschema_rs.Validator]]] = {
    _DEFAULT: jsonschema_rs.Draft202012Validator,
    _DRAFT_07: jsonschema_rs.Draft7Validator,
}


class ReferenceProblem(SchemaError):  # noqa: N818 - not always an error: what is not used may lead anywhere
    """A `$ref` that leads nowhere, or outside the schema."""


class Validator:
    """One schema, ready to check values."""

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        """Raises SchemaError when it is no JSON Schema, ReferenceProblem when a reference has no target."""
        try:
            draft = _DRAFTS[draft_of(schema)]
            self._validator = draft(schema, validate_formats=True, offline=True, pattern_options=_REGEX)
        except jsonschema_rs.ValidationError as error:
            _explain(error)
        except (ValueError, RecursionError, OverflowError) as error:
            raise SchemaError(f"not a valid JSON Schema: {str(error)[:_MAX_MESSAGE]}") from error

    def permits(self, value: Any) -> bool:
        """Whether a value satisfies the schema."""
        return bool(self._validator.is_valid(value))

    def violations(self, text: str) -> tuple[Violation, ...]:
        """What is wrong with an answer, none when it is JSON that satisfies the schema."""
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
            errors = list(islice(self._validator.iter_errors(value), MAX_VIOLATIONS))
        except RecursionError:
            return (Violation("", "", "the answer is nested too deeply to be read"),)
        except UnicodeEncodeError:
            return (Violation("", "", "the answer holds a lone surrogate, which is no character"),)
        except ValueError as error:
            return (Violation("", "", f"the answer is not JSON: {str(error)[:_MAX_MESSAGE]}"),)
        return tuple(
            Violation(pointer("", *error.instance_path), error.kind.name, error.message[:_MAX_MESSAGE])
            for error in errors
        )


def draft_of(schema: dict[str, Any] | bool) -> str:
    """The draft that a schema is written in, 2020-12 where it says nothing. Raises SchemaError for any other."""
    uri = schema.get("$schema", f"https://{_DEFAULT}") if isinstance(schema, dict) else f"https://{_DEFAULT}"
    name = str(uri).partition("://")[2].rstrip("#")
    if name not in _DRAFTS:
        message = f"`$schema` names `{str(uri)[:200]}`, which is not supported: use draft 2020-12 or draft-07"
        raise SchemaError(message, keyword="$schema")
    return name


def is_draft_07(schema: Any) -> bool:
    """Whether a schema says that it is draft-07."""
    return isinstance(schema, dict) and draft_of(schema) == _DRAFT_07


def _explain(error: jsonschema_rs.ValidationError) -> NoReturn:
    """Turn the library's refusal of a schema into ours."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        raise ReferenceProblem(error.message[:_MAX_MESSAGE], keyword="$ref") from error
    place = pointer("#", *error.instance_path)
    keyword = str(next((part for part in reversed(error.instance_path) if isinstance(part, str)), ""))
    problem = error.message[:_MAX_MESSAGE]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Format):
        problem += ", or one too large to be checked"
    raise SchemaError(f"not a valid JSON Schema: at `{place}`, {problem}", pointer=place, keyword=keyword) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no number of JSON")
