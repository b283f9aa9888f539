"""What each JSON Schema keyword means to the audit.

A keyword that stands in none of these tables is unknown, and never enforced: a misspelt bound must not pass for a
comment.
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
    **dict.fromkeys(
        ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"), "array"
    ),
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
_DYNAMIC = "is resolved dynamically, which the grammar cannot follow: use `$ref`"
_CONTENT = "describes what the string encodes, which the grammar cannot enforce, nor draft 2020-12 checks: remove it"
# Keywords that the grammar leaves to the validator.
LEFT: Final = {
    "not": "excludes values, which the grammar cannot enforce: describe the values that are allowed",
    **dict.fromkeys(("if", "then", "else"), _CONDITION),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), _DEPENDENCY),
    **dict.fromkeys(("contains", "minContains", "maxContains"), _COUNTING),
    **dict.fromkeys(("$dynamicRef", "$recursiveRef", "$recursiveAnchor"), _DYNAMIC),
    **dict.fromkeys(("contentEncoding", "contentMediaType", "contentSchema"), _CONTENT),
    "nullable": "is not JSON Schema and checks nothing: use `anyOf` with `null`",
}
UNKNOWN: Final = "is not a keyword of JSON Schema and checks nothing: correct it, or start its name with `x-`"
BESIDE: Final = "cannot be enforced beside {}: move it into the schema that it constrains"

# Of those, the ones that speak of values which their siblings describe too.
SPLITTING: Final = frozenset({
    "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "contains", "$dynamicRef",
})  # fmt: skip
VOID_WITHOUT: Final = {  # keyword -> those of which one must be there for it to have an effect
    **dict.fromkeys(("then", "else"), frozenset({"if"})),
    **dict.fromkeys(("minContains", "maxContains"), frozenset({"contains"})),
}
UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})

SUBSCHEMAS: Final = frozenset(
    {"items", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
)
SUBSCHEMA_MAPS: Final = frozenset({"$defs", "definitions", "properties", "patternProperties"})
SUBSCHEMA_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
