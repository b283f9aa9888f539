"""Rewriting of a schema into the few forms that the grammar writer knows, and refusal of all the rest.

A normalised schema is itself JSON Schema and never wider than the original. Its nodes are: anything (`{}`), `$ref` to
one of its own `$defs`, `anyOf`, `enum`, or one `type` with keywords of that type alone; `typed.py` has the last.
"""

from typing import Any

from outrider.structured import limits, typed
from outrider.structured.disjoint import are_disjoint
from outrider.structured.errors import SchemaError
from outrider.structured.finding import Finding, Verdict
from outrider.structured.formats import FORMATS
from outrider.structured.keywords import (
    ANNOTATIONS,
    BESIDE,
    COMBINATORS,
    CONSTRAINTS,
    REFUSED,
    TYPED,
    UNKNOWN,
)
from outrider.structured.literals import explicit_types, explicit_values
from outrider.structured.references import UnresolvedError, pointer, resolve
from outrider.structured.termination import endless_definitions

Schema = dict[str, Any]


class Normaliser:
    """One walk over one schema; `findings` grows as it goes, and a refused node becomes a placeholder."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.num_properties = 0
        self.num_enum_values = 0
        self.definitions: dict[str, tuple[str, Any]] = {}  # pointer -> name, original schema
        self.depth = 0

    def normalise(self) -> Schema:
        """The schema with its `$defs`; meaningful only when nothing was refused."""
        schema = self.visit(self.root, "#")
        definitions: dict[str, Schema] = {}
        while len(definitions) < len(self.definitions):
            place, (name, original) = list(self.definitions.items())[len(definitions)]
            definitions[name] = self.visit(original, place)
        whole = {"$defs": definitions, **schema} if definitions else schema
        if not self.refused:
            places = {name: place for place, (name, _) in self.definitions.items()}
            for name in endless_definitions(whole):
                self.refuse(places[name], "", "leads to itself without end: give the recursion a way to stop")
        return whole

    @property
    def refused(self) -> bool:
        """Whether any finding refuses the schema."""
        return any(finding.verdict == "refused" for finding in self.findings)

    def refuse(self, place: str, keyword: str, reason: str) -> Schema:
        """Note what cannot be enforced; returns a placeholder."""
        self.note(place, keyword, reason, verdict="refused")
        return {}

    def note(self, place: str, keyword: str, reason: str, *, verdict: Verdict = "enforced") -> None:
        """Add a finding, once."""
        finding = Finding(place, keyword, verdict, reason)
        if finding not in self.findings:
            self.findings.append(finding)

    def visit(self, schema: Any, place: str) -> Schema:
        """The normalised form of the schema at `place`."""
        if schema is True:
            return {}
        if schema is False:
            return self.refuse(place, "", "is `false` and allows no value: remove it")
        if self.depth >= limits.MAX_DEPTH:
            message = f"schemas are nested more than {limits.MAX_DEPTH} deep at `{place}`: move inner ones to `$defs`"
            raise SchemaError(message, pointer=place)
        self.depth += 1
        try:
            self.refuse_keywords(schema, place)
            return self.constraint(schema, place)
        finally:
            self.depth -= 1

    def refuse_keywords(self, schema: Schema, place: str) -> None:
        """Refuse, by name, what no later step would look at."""
        for keyword in schema:
            if keyword in REFUSED:
                if keyword != "nullable" or schema[keyword]:
                    self.refuse(place, keyword, REFUSED[keyword])
            elif keyword not in CONSTRAINTS and keyword not in ANNOTATIONS and not keyword.startswith("x-"):
                self.refuse(place, keyword, UNKNOWN)
        if "$id" in schema and place != "#":
            self.refuse(place, "$id", "changes what references mean, which is not supported: remove it")

    def constraint(self, schema: Schema, place: str) -> Schema:
        """Dispatch on the one constraint of a node; what stands beside a reference or a combinator is refused."""
        present = [keyword for keyword in schema if keyword in CONSTRAINTS]
        for keyword in ("$ref", *COMBINATORS):
            if keyword in present:
                for sibling in present:
                    if sibling != keyword:
                        self.refuse(place, sibling, BESIDE.format(keyword))
                return self.reference(schema, place) if keyword == "$ref" else self.combinator(schema, place, keyword)
        if "enum" in present or "const" in present:
            return self.literals(schema, place, present)
        return self.types(schema, place, present)

    def reference(self, schema: Schema, place: str) -> Schema:
        """A reference to one of the normalised definitions."""
        try:
            target, node = resolve(self.root, schema["$ref"])
        except UnresolvedError as error:
            return self.refuse(place, "$ref", str(error))
        name, _ = self.definitions.setdefault(target, (f"d{len(self.definitions)}", node))
        if len(self.definitions) > limits.MAX_DEFINITIONS:
            raise SchemaError(f"the schema uses more than {limits.MAX_DEFINITIONS} definitions", pointer=place)
        return {"$ref": f"#/$defs/{name}"}

    def combinator(self, schema: Schema, place: str, keyword: str) -> Schema:
        """`anyOf`, and what can be proved to be one."""
        branches = schema[keyword]
        if keyword == "allOf" and len(branches) > 1:
            return self.refuse(place, keyword, "intersects schemas, which a grammar cannot: merge them into one")
        if keyword == "oneOf" and not all(
            are_disjoint(self.root, left, right) for i, left in enumerate(branches) for right in branches[:i]
        ):
            return self.refuse(
                place,
                keyword,
                "has branches that may overlap, and a grammar cannot exclude values of two: use `anyOf`, or require a "
                "property whose `const` differs in every branch",
            )
        visited = [self.visit(branch, pointer(place, keyword, index)) for index, branch in enumerate(branches)]
        return visited[0] if len(visited) == 1 else {"anyOf": visited}

    def literals(self, schema: Schema, place: str, present: list[str]) -> Schema:
        """The values that a node lists."""
        keyword = "const" if "const" in schema else "enum"
        for sibling in present:
            if sibling not in ("const", "enum", "type"):
                self.refuse(
                    place, sibling, f"cannot be enforced beside `{keyword}`: remove the values that it excludes"
                )
        values = explicit_values(schema) or []
        self.num_enum_values += len(schema.get("enum", ()))
        if self.num_enum_values > limits.MAX_ENUM_VALUES:
            message = (
                f"the schema lists more than {limits.MAX_ENUM_VALUES} enum values: use a `pattern` or a shorter list"
            )
            raise SchemaError(message, pointer=place, keyword="enum")
        if not values:
            return self.refuse(place, keyword, "has no value that `type` and its other keywords permit")
        return {"enum": values}

    def types(self, schema: Schema, place: str, present: list[str]) -> Schema:
        """One node per type; keywords without a `type` are read as meant for the type that they constrain."""
        named = explicit_types(schema)
        if named is None:
            named = frozenset(TYPED[keyword] for keyword in present)
            if not named:
                return {}
            self.note(place, "type", f"is absent: only values of type {', '.join(sorted(named))} are generated")
        if "format" in schema and "string" not in named and schema["format"] not in FORMATS:
            reason = "speaks of no string here and is not enforced: remove it, or use `minimum` and `maximum`"
            return self.refuse(place, "format", reason)
        if "number" in named:
            named -= {"integer"}
        order = [named_type for named_type in typed.NORMALISERS if named_type in named]
        visited = [typed.NORMALISERS[kind](self, schema, place) for kind in order]
        return visited[0] if len(visited) == 1 else {"anyOf": visited}
