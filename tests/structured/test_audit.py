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


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: list[tuple[str, Any, str, str]] = [  # name, schema, pointer, keyword
    ("enum without a value of its type", {"type": "string", "enum": [1]}, "#", "enum"),
    ("false", closed(a=False), "#/properties/a", ""),
    ("false root", False, "#", ""),
    ("remote reference", {"$ref": "https://example.com/s.json"}, "#", "$ref"),
    ("relative reference", {"$ref": "other.json#/A"}, "#", "$ref"),
    ("missing reference", {"$ref": "#/$defs/none"}, "#", "$ref"),
    ("reference to itself", {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}, "#/$defs/A", ""),
    ("left recursion", {"anyOf": [{"$ref": "#"}, INTEGER]}, "#", ""),
    ("endless recursion", {"$defs": {"A": closed(a={"$ref": "#/$defs/A"})}, "$ref": "#/$defs/A"}, "#/$defs/A", ""),
    ("reversed bounds", {"type": "integer", "minimum": 5, "maximum": 3}, "#", "minimum"),
    ("empty number range", {"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "#", "maximum"),
    ("reversed lengths", {"type": "string", "minLength": 3, "maxLength": 2}, "#", "minLength"),
    ("items above prefix", {"type": "array", "prefixItems": [STRING], "items": False, "minItems": 2}, "#", "minItems"),
    ("required but forbidden", {"type": "object", "required": ["a"], "additionalProperties": False}, "#", "required"),
    ("maxProperties below required", closed(a=INTEGER, b=INTEGER) | {"maxProperties": 1}, "#", "maxProperties"),
    ("dynamic reference", {"$dynamicRef": "#a"}, "#", "$ref"),
]  # fmt: skip

LEFT: list[tuple[str, Any, str, str]] = [  # as above
    ("uniqueItems", closed(tags={"type": "array", "uniqueItems": True}), "#/properties/tags", "uniqueItems"),
    ("contains", {"type": "array", "contains": INTEGER}, "#", "contains"),
    ("not", closed(a={"not": STRING}), "#/properties/a", "not"),
    ("if", {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}, "#", "if"),
    ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}, "#", "dependentRequired"),
    ("allOf of two", {"allOf": [INTEGER, {"minimum": 3}]}, "#", "allOf"),
    ("oneOf that may overlap", {"oneOf": [INTEGER, {"type": "number"}]}, "#", "oneOf"),
    ("sibling of anyOf", closed(a=INTEGER) | {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "#", "anyOf"),
    ("sibling of $ref", {"$defs": {"A": INTEGER}, "items": {"$ref": "#/$defs/A", "minimum": 5}}, "#/items", "minimum"),
    ("sibling of enum", {"$defs": {"A": STRING}, "enum": ["ab", 1], "not": {"$ref": "#/$defs/A"}}, "#", "not"),
    ("unknown keyword", closed(a={"type": "integer", "minimun": 3}), "#/properties/a", "minimun"),
    ("nullable", closed(a={"type": "string", "nullable": True}), "#/properties/a", "nullable"),
    ("contentEncoding", closed(a={"type": "string", "contentEncoding": "base64"}), "#/properties/a", "contentEncoding"),
    ("anchor", {"$defs": {"A": {"$anchor": "a", "type": "integer"}}, "$ref": "#a"}, "#", "$ref"),
    ("nested $id", closed(a={"$id": "https://example.com/a", "type": "integer"}), "#/properties/a", "$id"),
    ("number multipleOf", {"type": "number", "multipleOf": 0.01}, "#", "multipleOf"),
    ("open multipleOf", {"type": "integer", "multipleOf": 7}, "#", "multipleOf"),
    ("too fine a bound", {"type": "number", "minimum": 1e-300}, "#", "minimum"),
    ("too large a bound", {"type": "integer", "maximum": 10**50}, "#", "maximum"),
    ("unknown format", closed(a={"type": "string", "format": "regex"}), "#/properties/a", "format"),
    ("format of a number", {"type": "integer", "format": "int32"}, "#", "format"),
    ("long maxLength", {"type": "string", "maxLength": 20_000}, "#", "maxLength"),
    ("pattern and length", {"type": "string", "pattern": "^a+$", "maxLength": 3}, "#", "maxLength"),
    ("pattern and format", {"type": "string", "pattern": "^a+$", "format": "date"}, "#", "format"),
    ("lookahead", {"type": "string", "pattern": "^(?=a)b$"}, "#", "pattern"),
    ("lookbehind", {"type": "string", "pattern": "(?<!a)b"}, "#", "pattern"),
    ("back-reference", {"type": "string", "pattern": "^(a)\\1$"}, "#", "pattern"),
    ("two patterns", {"type": "object", "patternProperties": {"^a": INTEGER, "^b": STRING}}, "#", "patternProperties"),
    ("patterns beside properties", closed(a=INTEGER) | {"patternProperties": {"^b": STRING}}, "#", "patternProperties"),
    ("minProperties of free names", {"type": "object", "minProperties": 2}, "#", "minProperties"),
    ("many optional properties", {"properties": {f"p{i}": STRING for i in range(1000)}}, "#", "properties"),
    ("depth", nested(40), "#" + "/items" * 32, ""),
    ("many enum values", {"enum": list(range(1001))}, "#", "enum"),
    ("dynamic anchor", {"$dynamicRef": "#a", "$defs": {"A": {"$dynamicAnchor": "a"}}}, "#", "$dynamicRef"),
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
    ("size", {"description": "x" * 2**20}, "128 KiB"),
]


def test_ordinary_schemas_are_exact(example: Any) -> None:
    """What people and pydantic write is accepted, and its normalised form is JSON Schema again."""
    result = audit(example)

    assert result.error() is None
    assert "exact" == result.route
    jsonschema.Draft202012Validator.check_schema(result.schema)


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_nobody_can_keep_is_refused_by_name(schema: Any, pointer: str, keyword: str) -> None:
    """The refusal names the place, the keyword and a way out."""
    result = audit(schema)
    error = result.error()

    assert "refused" == result.route
    assert error is not None
    assert (pointer, keyword) == (error.pointer, error.keyword)
    assert f"`{pointer}`" in str(error)


@pytest.mark.parametrize(("schema", "pointer", "keyword"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_the_grammar_cannot_keep_is_validated(schema: Any, pointer: str, keyword: str) -> None:
    """What is left to the validator is named, for `strict` it is a refusal, and the rest is still constrained."""
    result = audit(schema)
    error = result.error(strict=True)

    assert "validated" == result.route
    assert result.error() is None
    assert error is not None
    assert (pointer, keyword) == (error.pointer, error.keyword)
    assert pointer in {finding.pointer for finding in result.left}
    jsonschema.Draft202012Validator.check_schema(result.schema)


@pytest.mark.parametrize(("schema", "part"), [pytest.param(*row[1:], id=row[0]) for row in INVALID])
def test_what_is_no_schema_is_an_error(schema: Any, part: str) -> None:
    """Malformed and oversized schemas raise, with the problem in the message."""
    if isinstance(schema, str):
        schema = nested(int(schema.split()[1]))

    with pytest.raises(SchemaError, match=part):
        audit(schema)


def test_every_refused_keyword_is_named() -> None:
    """A caller can repair the whole schema at once."""
    schema = closed(
        a={"type": "array", "uniqueItems": True}, b={"not": STRING}, c={"type": "string", "format": "regex"}
    )

    message = str(audit(schema).error(strict=True))

    assert "`uniqueItems` at `#/properties/a`" in message
    assert "`not` at `#/properties/b`" in message
    assert "`format` at `#/properties/c`" in message


def test_definitions_that_nothing_uses_are_not_judged() -> None:
    """An unused definition constrains nothing."""
    assert "exact" == audit({"$defs": {"A": {"not": STRING}}, "type": "integer"}).route


def test_narrowing_is_reported() -> None:
    """A schema without a type is read as meant for its keywords' type, and the audit says so."""
    findings = {finding.keyword: finding for finding in audit({"minimum": 3}).findings}

    assert {"type", "minimum"} == findings.keys()
    assert "enforced" == findings["type"].verdict
    assert "only values of type number" in findings["type"].reason


def test_discriminated_unions_are_told_apart() -> None:
    """`oneOf` becomes `anyOf` where a required `const` differs."""
    cat, dog = closed(kind={"const": "cat"}), closed(kind={"const": "dog"})

    assert "exact" == audit({"oneOf": [cat, dog]}).route
    assert "validated" == audit({"oneOf": [cat, {**dog, "required": []}]}).route


def test_limits_hold_at_their_edge() -> None:
    """The last allowed value passes."""
    assert "exact" == audit({"enum": list(range(limits.MAX_ENUM_VALUES))}).route
    assert "exact" == audit(nested(limits.MAX_DEPTH - 1)).route
    assert "exact" == audit({"type": "string", "maxLength": limits.MAX_LENGTH}).route


def test_every_keyword_has_a_row() -> None:
    """The table of a schema is complete, in the order of its text."""
    schema = closed(a={"type": "string", "maxLength": 3}, b={"type": "array", "uniqueItems": True, "minContains": 2})
    rows = [(row.pointer, row.keyword, row.verdict) for row in audit(schema).findings]

    assert [
        *[("#", keyword, "enforced") for keyword in ("type", "properties", "required", "additionalProperties")],
        ("#/properties/a", "type", "enforced"),
        ("#/properties/a", "maxLength", "enforced"),
        ("#/properties/b", "minContains", "enforced"),
        ("#/properties/b", "uniqueItems", "validated"),
        ("#/properties/b", "type", "enforced"),
    ] == rows


LOOSE: list[tuple[str, Any, Any]] = [  # name, schema, an answer that the rest of the grammar must not exclude
    ("allOf", {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}, "required": ["b"]}]}, {"b": 1}),
    ("sibling of $ref", {"$ref": "#/$defs/A", "required": ["b"], "$defs": {"A": {"properties": {"a": {}}}}}, {"b": 1}),
    ("dependentSchemas", {"properties": {"a": {}}, "dependentSchemas": {"a": {"required": ["c"]}}}, {"a": 1, "c": 2}),
    ("then", {"properties": {"a": closed(x=INTEGER)}, "if": True, "then": {"required": ["z"]}}, {"z": 0}),
    ("deep", {"allOf": [{"properties": {"a": {"properties": {"x": {}}}}}, {"title": "b"}]}, {"a": {"y": 1}}),
    ("patterns", {"properties": {"a": {}}, "patternProperties": {"^b": INTEGER}}, {"b": 1}),
    ("unevaluated", {"anyOf": [{"properties": {"b": {}}}], "properties": {"a": {}},
     "unevaluatedProperties": False}, {"b": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), [row[1:] for row in LOOSE], ids=[row[0] for row in LOOSE])
def test_what_is_left_out_is_not_contradicted(schema: Any, value: Any) -> None:
    """A grammar that cannot follow one keyword leaves room for what that keyword asks for."""
    result = audit(schema)

    assert "validated" == result.route
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    jsonschema.validate(value, result.schema, jsonschema.Draft202012Validator)


EXACT: list[tuple[str, Any, Any]] = [  # name, schema, normalised form
    ("items of draft-07", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [INTEGER],
     "additionalItems": False}, {"type": "array", "prefixItems": [INTEGER], "items": False}),
    ("then without if", {"type": "integer", "then": {"minimum": 3}}, INTEGER),
    ("minContains without contains", {"type": "array", "minContains": 2}, {"type": "array", "items": {}}),
    ("enum with a pattern", {"enum": ["ab", "cd", 3], "pattern": "^a"}, {"enum": ["ab", 3]}),
    ("type beside anyOf", {"type": "integer", "anyOf": [{"minimum": 3}, {"maximum": 1}]},
     {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 1}]}),
    ("branch without a value", {"anyOf": [INTEGER, False]}, INTEGER),
    ("draft-07 reference", {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"A": INTEGER},
     "$ref": "#/definitions/A", "minimum": 3}, {"$defs": {"d0": INTEGER}, "$ref": "#/$defs/d0"}),
    ("property that cannot be", {"type": "object", "properties": {"a": False, "b": INTEGER}},
     {"type": "object", "properties": {"a": False, "b": INTEGER}, "required": [], "additionalProperties": False}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "normalised"), [row[1:] for row in EXACT], ids=[row[0] for row in EXACT])
def test_what_can_be_rewritten_is_exact(schema: Any, normalised: Any) -> None:
    """Keywords without effect, older spellings and dead branches cost nothing."""
    result = audit(schema)

    assert "exact" == result.route
    assert normalised == result.schema
