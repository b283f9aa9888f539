"""Which schemas are accepted, and how the others are refused."""

from typing import Any

import jsonschema
import pytest

from outrider.structured import limits
from outrider.structured.audit import audit
from outrider.structured.errors import SchemaError

STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object that requires its properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


REFUSED: list[tuple[str, Any, str, str]] = [  # name, schema, pointer, keyword
    ("uniqueItems", closed(tags={"type": "array", "uniqueItems": True}), "#/properties/tags", "uniqueItems"),
    ("contains", {"type": "array", "contains": INTEGER}, "#", "contains"),
    ("not", closed(a={"not": STRING}), "#/properties/a", "not"),
    ("if", {"type": "object", "if": {"required": ["a"]}}, "#", "if"),
    ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}, "#", "dependentRequired"),
    ("allOf of two", {"allOf": [INTEGER, {"minimum": 3}]}, "#", "allOf"),
    ("oneOf that may overlap", {"oneOf": [INTEGER, {"type": "number"}]}, "#", "oneOf"),
    ("sibling of anyOf", {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "#", "type"),
    ("sibling of $ref", {"$defs": {"A": INTEGER}, "items": {"$ref": "#/$defs/A", "minimum": 5}}, "#/items", "minimum"),
    ("sibling of enum", {"enum": ["ab", "cd"], "pattern": "^a"}, "#", "pattern"),
    ("enum without a value of its type", {"type": "string", "enum": [1]}, "#", "enum"),
    ("false", closed(a=False), "#/properties/a", ""),
    ("false root", False, "#", ""),
    ("unknown keyword", closed(a={"type": "integer", "minimun": 3}), "#/properties/a", "minimun"),
    ("nullable", closed(a={"type": "string", "nullable": True}), "#/properties/a", "nullable"),
    ("contentEncoding", closed(a={"type": "string", "contentEncoding": "base64"}), "#/properties/a", "contentEncoding"),
    ("remote reference", {"$ref": "https://example.com/s.json"}, "#", "$ref"),
    ("relative reference", {"$ref": "other.json#/A"}, "#", "$ref"),
    ("anchor", {"$defs": {"A": {"$anchor": "a", "type": "integer"}}, "$ref": "#a"}, "#", "$ref"),
    ("missing reference", {"$ref": "#/$defs/none"}, "#", "$ref"),
    ("reference to no schema", {"default": {"type": "integer"}, "$ref": "#/default"}, "#", "$ref"),
    ("dynamic reference", {"$dynamicRef": "#a"}, "#", "$dynamicRef"),
    ("nested $id", closed(a={"$id": "https://example.com/a", "type": "integer"}), "#/properties/a", "$id"),
    ("reference to itself", {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}, "#/$defs/A", ""),
    ("left recursion", {"anyOf": [{"$ref": "#"}, INTEGER]}, "#", ""),
    ("endless recursion", {"$defs": {"A": closed(a={"$ref": "#/$defs/A"})}, "$ref": "#/$defs/A"}, "#/$defs/A", ""),
    ("number multipleOf", {"type": "number", "multipleOf": 0.01}, "#", "multipleOf"),
    ("open multipleOf", {"type": "integer", "multipleOf": 7}, "#", "multipleOf"),
    ("reversed bounds", {"type": "integer", "minimum": 5, "maximum": 3}, "#", "minimum"),
    ("empty number range", {"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "#", "maximum"),
    ("too fine a bound", {"type": "number", "minimum": 1e-300}, "#", "minimum"),
    ("too large a bound", {"type": "integer", "maximum": 10**50}, "#", "maximum"),
    ("unknown format", closed(a={"type": "string", "format": "json-pointer"}), "#/properties/a", "format"),
    ("format of a number", {"type": "integer", "format": "int32"}, "#", "format"),
    ("long maxLength", {"type": "string", "maxLength": 20_000}, "#", "maxLength"),
    ("reversed lengths", {"type": "string", "minLength": 3, "maxLength": 2}, "#", "minLength"),
    ("pattern and length", {"type": "string", "pattern": "^a+$", "maxLength": 3}, "#", "maxLength"),
    ("pattern and format", {"type": "string", "pattern": "^a+$", "format": "date"}, "#", "format"),
    ("lookahead", {"type": "string", "pattern": "^(?=a)b$"}, "#", "pattern"),
    ("lookbehind", {"type": "string", "pattern": "(?<!a)b"}, "#", "pattern"),
    ("back-reference", {"type": "string", "pattern": "^(a)\\1$"}, "#", "pattern"),
    ("items above prefix", {"type": "array", "prefixItems": [STRING], "items": False, "minItems": 2}, "#", "minItems"),
    ("required but forbidden", {"type": "object", "required": ["a"], "additionalProperties": False}, "#", "required"),
    ("two patterns", {"type": "object", "patternProperties": {"^a": INTEGER, "^b": STRING}}, "#", "patternProperties"),
    ("patterns beside properties", closed(a=INTEGER) | {"patternProperties": {"^b": STRING}}, "#", "patternProperties"),
    ("minProperties of free names", {"type": "object", "minProperties": 2}, "#", "minProperties"),
    ("maxProperties below required", closed(a=INTEGER, b=INTEGER) | {"maxProperties": 1}, "#", "maxProperties"),
    ("many optional properties", {"properties": {f"p{i}": STRING for i in range(1000)}}, "#", "properties"),
]  # fmt: skip

INVALID: list[tuple[str, Any, str]] = [  # name, schema, part of the message
    ("no schema", ["type"], "JSON object"),
    ("unknown type", closed(a={"type": "bogus"}), "#/properties/a/type"),
    ("required is no list", {"type": "object", "required": "a"}, "#/required"),
    ("negative length", {"type": "string", "minLength": -1}, "#/minLength"),
    ("draft-04 bound", {"type": "integer", "minimum": 1, "exclusiveMinimum": True}, "#/exclusiveMinimum"),
    ("pattern is no string", {"type": "string", "pattern": 5}, "#/pattern"),
    ("invalid pattern", {"type": "string", "pattern": "(a"}, "#/pattern"),
    ("empty anyOf", {"anyOf": []}, "#/anyOf"),
    ("another draft", {"$schema": "http://json-schema.org/draft-04/schema#"}, "draft-04"),
    ("not a number", {"type": "number", "minimum": float("nan")}, "not JSON"),
    ("lone surrogate", {"const": "\ud800"}, "surrogate"),
    ("nesting", "nested 300", "nested"),
    ("depth", "depth 40", "nested more than 32"),
    ("size", {"description": "x" * 2**20}, "128 KiB"),
    ("enum values", {"enum": list(range(1001))}, "1000 enum values"),
]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def test_ordinary_schemas_are_exact(example: Any) -> None:
    """What people and pydantic write is accepted, and its normalised form is JSON Schema again."""
    result = audit(example)

    assert result.error() is None
    assert "exact" == result.route
    jsonschema.Draft202012Validator.check_schema(result.schema)


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_the_grammar_cannot_keep_is_refused_by_name(schema: Any, pointer: str, keyword: str) -> None:
    """The refusal names the place, the keyword and a way out."""
    result = audit(schema)
    error = result.error()

    assert "refused" == result.route
    assert error is not None
    assert (pointer, keyword) == (error.pointer, error.keyword)
    assert f"`{pointer}`" in str(error)


@pytest.mark.parametrize(("schema", "part"), [pytest.param(*row[1:], id=row[0]) for row in INVALID])
def test_what_is_no_schema_is_an_error(schema: Any, part: str) -> None:
    """Malformed and oversized schemas raise, with the problem in the message."""
    if isinstance(schema, str):
        schema = nested(int(schema.split()[1]))

    with pytest.raises(SchemaError, match=part):
        audit(schema)


def test_every_refused_keyword_is_named() -> None:
    """A caller can repair the whole schema at once."""
    schema = closed(a={"type": "array", "uniqueItems": True}, b={"not": STRING}, c={"type": "string", "format": "iri"})

    message = str(audit(schema).error())

    assert "`uniqueItems` at `#/properties/a`" in message
    assert "`not` at `#/properties/b`" in message
    assert "`format` at `#/properties/c`" in message


def test_definitions_that_nothing_uses_are_not_judged() -> None:
    """An unused definition constrains nothing."""
    assert "exact" == audit({"$defs": {"A": {"not": STRING}}, "type": "integer"}).route


def test_narrowing_is_reported() -> None:
    """A schema without a type is read as meant for its keywords' type, and the audit says so."""
    (finding,) = audit({"minimum": 3}).findings

    assert ("enforced", "type") == (finding.verdict, finding.keyword)


def test_discriminated_unions_are_told_apart() -> None:
    """`oneOf` becomes `anyOf` where a required `const` differs."""
    cat, dog = closed(kind={"const": "cat"}), closed(kind={"const": "dog"})

    assert "exact" == audit({"oneOf": [cat, dog]}).route
    assert "refused" == audit({"oneOf": [cat, {**dog, "required": []}]}).route


def test_limits_hold_at_their_edge() -> None:
    """The last allowed value passes."""
    assert "exact" == audit({"enum": list(range(limits.MAX_ENUM_VALUES))}).route
    assert "exact" == audit(nested(limits.MAX_DEPTH - 1)).route
    assert "exact" == audit({"type": "string", "maxLength": limits.MAX_LENGTH}).route
