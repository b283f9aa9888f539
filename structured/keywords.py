"""What each JSON Schema keyword means to the audit.

A keyword that stands in none of these tables is unknown, and refused: a misspelt bound must not pass for a comment.
"""

from typing import Final

ANNOTATIONS: Final = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "default", "definitions",
    "deprecated", "description", "discriminator", "example", "examples", "externalDocs", "readOnly", "title",
    "writeOnly",
})  # fmt: skip

# Keywords that constrain values of one type.
TYPED: Final = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"), "array"),
    **dict.fromkeys(
        (
            "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
            "maxProperties", "unevaluatedProperties",
        ),
        "object",
    ),
}  # fmt: skip

COMBINATORS: Final = ("anyOf", "oneOf", "allOf")
CONSTRAINTS: Final = frozenset({"$ref", "type", "enum", "const", *COMBINATORS, *TYPED})

_CONDITION = "needs a condition, which the grammar cannot enforce: use `anyOf` with one branch per case"
_DEPENDENCY = "makes one property depend on another, which the grammar cannot enforce: use `anyOf` of two objects"
_COUNTING = "counts matching items, which the grammar cannot enforce: remove it"
_DYNAMIC = "is resolved dynamically, which is not supported: use `$ref`"
_CONTENT = "describes what the string encodes, which the grammar cannot enforce: remove it"
REFUSED: Final = {
    "not": "excludes values, which the grammar cannot enforce: describe the values that are allowed",
    **dict.fromkeys(("if", "then", "else"), _CONDITION),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), _DEPENDENCY),
    **dict.fromkeys(("contains", "minContains", "maxContains"), _COUNTING),
    "additionalItems": "belongs to `items` lists, which are not supported: use `prefixItems` and `items`",
    **dict.fromkeys(("$dynamicRef", "$recursiveRef", "$recursiveAnchor"), _DYNAMIC),
    **dict.fromkeys(("contentEncoding", "contentMediaType", "contentSchema"), _CONTENT),
    "nullable": "is not JSON Schema: use `anyOf` with `null`",
}
UNKNOWN: Final = "is not a keyword of JSON Schema: remove it, or start its name with `x-`"
BESIDE: Final = "cannot be enforced beside `{}`: move it into the schema that it constrains"

SUBSCHEMAS: Final = frozenset(
    {"items", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
)
SUBSCHEMA_MAPS: Final = frozenset({"$defs", "definitions", "properties", "patternProperties"})
SUBSCHEMA_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
