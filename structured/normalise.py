"""Rewriting of a schema into the few forms that the grammar writer knows, and a verdict on every keyword.

A normalised schema is itself JSON Schema. Its nodes are: anything (`{}`), `$ref` to one of its own `$defs`, `anyOf`,
`enum`, or one `type` with keywords of that type alone; `typed.py` has the last. While every keyword is enforced it is
never wider than the original. A keyword that is left to the validator is left out of it, and what stands beside it is
then read loosely: a grammar that leaves out one condition must not exclude what another one asks for.
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
    LEFT,
    SPLITTING,
    TYPED,
    UNEVALUATED,
    UNKNOWN,
)
from outrider.structured.literals import explicit_types, explicit_values, types_of
from outrider.structured.pruning import IMPOSSIBLE, prune
from outrider.structured.references import UnresolvedError, has_embedded, pointer, resolve
from outrider.structured.siblings import is_void, mentions_reference, speaks, with_type
from outrider.structured.termination import endless_definitions
from outrider.structured.validator import Validator, is_draft_07

Schema = dict[str, Any]


class Normaliser:
    """One walk over one schema; `findings` grows as it goes."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.seen: dict[tuple[str, str], None] = {}  # place and keyword of what was judged, in order
        self.num_properties = 0
        self.num_enum_values = 0
        self.definitions: dict[tuple[str, bool], tuple[str, Any]] = {}  # pointer, whether loose -> name, original
        self.depth = 0
        self.is_loose = False  # whether something left to the validator speaks of the same values
        self.draft_07 = is_draft_07(root)
        self._has_embedded = has_embedded(root)
        self._impossible: list[Finding] = []

    def normalise(self) -> Schema:
        """The schema with its `$defs`; meaningful only when nothing was refused."""
        schema = self.visit(self.root, "#")
        definitions: dict[str, Schema] = {}
        while len(definitions) < len(self.definitions):
            (place, self.is_loose), (name, original) = list(self.definitions.items())[len(definitions)]
            definitions[name] = self.visit(original, place)
        return self._pruned(schema, definitions)

    def _pruned(self, schema: Schema, definitions: dict[str, Schema]) -> Schema:
        """Without dead ends; refused when nothing is left."""
        endless, circular = endless_definitions(definitions)
        places = {name: place for (place, _), (name, _) in self.definitions.items()}
        for name in circular:
            self.refuse(places[name], "", "leads to itself without end: give the recursion a way to stop")
        whole = prune(schema, endless)
        if whole is not None:
            for finding in self._impossible:
                self.note(finding.pointer, finding.keyword, finding.reason)
            pruned = {name: prune(definition, endless) for name, definition in definitions.items()}
            kept = {name: definition for name, definition in pruned.items() if definition is not None}
            return {"$defs": kept, **whole} if kept else whole
        for finding in self._impossible:
            self.refuse(finding.pointer, finding.keyword, finding.reason)
        for name in endless:
            self.refuse(places[name], "", "leads to itself without end: give the recursion a way to stop")
        return {}

    def refuse(self, place: str, keyword: str, reason: str) -> None:
        """Note what can be neither enforced nor validated."""
        self.note(place, keyword, reason, verdict="refused")

    def leave(self, place: str, keyword: str, reason: str) -> Schema:
        """Note what is left to the validator; returns the schema of anything."""
        self.note(place, keyword, reason, verdict="validated")
        return {}

    def impossible(self, place: str, keyword: str, reason: str) -> Schema:
        """Note what no value satisfies: the schema is refused if that makes it impossible as a whole."""
        self._impossible.append(Finding(place, keyword, "enforced", reason))
        return IMPOSSIBLE

    def note(self, place: str, keyword: str, reason: str, *, verdict: Verdict = "enforced") -> None:
        """Add a finding, once."""
        finding = Finding(place, keyword, verdict, reason)
        if finding not in self.findings[-limits.MAX_DEPTH :]:
            self.findings.append(finding)

    def visit(self, schema: Any, place: str) -> Schema:
        """The normalised form of the schema at `place`."""
        if schema is True:
            return {}
        if schema is False:
            return self.impossible(place, "", "is `false` and allows no value: remove it")
        if self.depth >= limits.MAX_DEPTH:
            return self.leave(place, "", f"is nested more than {limits.MAX_DEPTH} schemas deep: move it to `$defs`")
        self.depth += 1
        was_loose = self.is_loose
        try:
            return self.constraint(schema, place, self.judge_keywords(schema, place))
        finally:
            self.depth -= 1
            self.is_loose = was_loose

    def judge_keywords(self, schema: Schema, place: str) -> list[str]:
        """The keywords of a node that may be enforced; the verdict on all others is given here."""
        present = []
        if self.draft_07 and "$ref" in schema:  # in this draft nothing beside a reference counts
            schema = {"$ref": schema["$ref"]}
        for keyword, value in schema.items():
            if keyword in ANNOTATIONS or keyword.startswith("x-") or (keyword == "nullable" and not value):
                continue
            self.seen[place, keyword] = None
            if is_void(keyword, schema):
                self.note(place, keyword, "has no effect here")
            elif keyword in CONSTRAINTS:
                present.append(keyword)
            else:
                self.leave(place, keyword, LEFT.get(keyword, UNKNOWN))
                self.is_loose |= keyword in SPLITTING
        if "$id" in schema and place != "#" and not self.draft_07:
            self.leave(place, "$id", "changes what references mean, which the grammar does not follow")
        return present

    def constraint(self, schema: Schema, place: str, present: list[str]) -> Schema:
        """Dispatch on the keyword that says most; what stands beside it is left to the validator."""
        if "enum" in present or "const" in present:
            return self.literals(schema, place, present)
        applicators = [keyword for keyword in ("$ref", *COMBINATORS) if keyword in present]
        if not applicators:
            return self.types(schema, place, present)
        types = explicit_types(schema)
        if applicators in (["anyOf"], ["oneOf"]) and set(present) == {"type", *applicators} and types is not None:
            branches = [with_type(branch, types) for branch in schema[applicators[0]]]
            if None not in branches:
                return self.combinator({applicators[0]: branches}, place, applicators[0])
        chosen = "" if speaks(schema) else applicators[0]
        for keyword in present:
            if len(present) > 1 and (keyword in applicators if not chosen else keyword != chosen):
                self.leave(place, keyword, BESIDE.format(f"`{chosen}`" if chosen else "the other keywords"))
                self.is_loose = True
        if not chosen:
            return self.types(schema, place, [keyword for keyword in present if keyword not in applicators])
        return self.reference(schema, place) if chosen == "$ref" else self.combinator(schema, place, chosen)

    def reference(self, schema: Schema, place: str) -> Schema:
        """A reference to one of the normalised definitions."""
        if self._has_embedded:
            return self.leave(place, "$ref", "is not followed where an inner `$id` changes what references mean")
        try:
            target, node = resolve(self.root, schema["$ref"])
        except UnresolvedError as error:
            return self.leave(place, "$ref", str(error))
        name, _ = self.definitions.setdefault((target, self.is_loose), (f"d{len(self.definitions)}", node))
        if len(self.definitions) > limits.MAX_DEFINITIONS:
            raise SchemaError(f"the schema uses more than {limits.MAX_DEFINITIONS} definitions", pointer=place)
        return {"$ref": f"#/$defs/{name}"}

    def combinator(self, schema: Schema, place: str, keyword: str) -> Schema:
        """`anyOf`, and what can be proved to be one."""
        branches = schema[keyword]
        places = [pointer(place, keyword, index) for index in range(len(branches))]
        if keyword == "allOf" and len(branches) > 1:
            self.leave(place, keyword, "intersects schemas, of which the grammar takes the first that says something")
            self.is_loose = True
            said = (self.visit(branch, at) for branch, at in zip(branches, places, strict=True))
            return next((branch for branch in said if branch), {})
        if keyword == "oneOf" and not all(
            are_disjoint(self.root, left, right) for i, left in enumerate(branches) for right in branches[:i]
        ):
            self.leave(
                place,
                keyword,
                "has branches that may overlap, and a grammar cannot exclude values of two: use `anyOf`, or require a "
                "property whose `const` differs in every branch",
            )
        visited = [self.visit(branch, at) for branch, at in zip(branches, places, strict=True)]
        return visited[0] if len(visited) == 1 else {"anyOf": visited}

    def literals(self, schema: Schema, place: str, present: list[str]) -> Schema:
        """The values that a node lists, without those that its other keywords exclude."""
        keyword = "const" if "const" in schema else "enum"
        values = explicit_values(schema) or []
        self.num_enum_values += len(schema.get("enum", ()))
        if self.num_enum_values > limits.MAX_ENUM_VALUES:
            reason = f"brings the schema to more than {limits.MAX_ENUM_VALUES} enum values: use a `pattern`"
            self.leave(place, "enum", reason)
            kinds = sorted(frozenset[str]().union(*map(types_of, values)) - {"integer"})
            return self.types({"type": kinds}, place, ["type"])
        others = {name: schema[name] for name in present if name not in ("const", "enum", "type")}
        if others and mentions_reference(others):
            for sibling in others:
                self.leave(place, sibling, BESIDE.format(f"`{keyword}`"))
        elif others:
            judge = Validator({"$schema": self.root["$schema"], **others} if self.draft_07 else others)
            values = [value for value in values if judge.permits(value)]
        if not values:
            return self.impossible(place, keyword, "has no value that `type` and its other keywords permit")
        return {"enum": values}

    def types(self, schema: Schema, place: str, present: list[str]) -> Schema:
        """One node per type; keywords without a `type` are read as meant for the type that they constrain."""
        named = explicit_types(schema)
        if named is None:
            named = frozenset(TYPED[keyword] for keyword in present)
            if not named:
                return {}
            self.note(place, "type", f"is absent: only values of type {', '.join(sorted(named))} are generated")
        if self.is_loose:
            for keyword in UNEVALUATED & set(present):
                self.leave(place, keyword, "depends on keywords that the grammar cannot follow")
            present = [keyword for keyword in present if keyword not in UNEVALUATED]
        schema = {keyword: schema[keyword] for keyword in present}
        if "format" in schema and "string" not in named and schema["format"] not in FORMATS:
            self.leave(place, "format", "speaks of no string here and is not enforced: use `minimum` and `maximum`")
        if "number" in named:
            named -= {"integer"}
        order = [named_type for named_type in typed.NORMALISERS if named_type in named]
        visited = [typed.NORMALISERS[kind](self, schema, place) for kind in order]
        return visited[0] if len(visited) == 1 else {"anyOf": visited}
