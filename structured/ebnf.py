"""A normalised schema as a grammar: in xgrammar's EBNF here, in llguidance's Lark in `lark.py`.

xgrammar can read JSON Schema itself, but skips in silence what it does not know and writes some strings that are no
JSON. From EBNF it keeps every word. Strings and numbers come as automata, written as one rule per state that others
share: a mask within such rules costs microseconds, one over a repeated rule a thousand times that.

The text is compact JSON, or laid out with whitespace that is bounded everywhere; properties come in the order of the
schema.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from outrider.structured import limits
from outrider.structured.automaton import Automaton, TooComplexError, build
from outrider.structured.constraint import Whitespace
from outrider.structured.decimals import decimal_automaton
from outrider.structured.pattern import parse_own
from outrider.structured.strings import automaton_of, other_names, string_expression
from outrider.structured.terminals import rules_of

_MAX_INLINE: Final = 400  # characters of an expression before it becomes a rule of its own
_EMPTY: Final = '""'
# Between the parts of a text that is laid out: bounded, since some models would never come to an end.
BLANK: Final = " ?"
LAYOUT: Final = "(?: |\\n {0,32}|\\n\\t{0,16})?"
_STRING: Final = {"type": "string"}
_ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"'} | {code: f"\\u{code:04x}" for code in range(32)}
_LEAVES: Final = ("null", "boolean", "number", "string")


def to_ebnf(schema: dict[str, Any], whitespace: Whitespace = "compact") -> str:
    """Grammar of the JSON text that a schema normalised by the audit allows. Raises TooComplexError."""
    return Writer(schema, whitespace).text()


class Writer:
    """Rules by body, so that equal parts of a schema share one rule."""

    root = "root"
    definition = "::="

    def __init__(self, schema: dict[str, Any], whitespace: Whitespace) -> None:
        self.schema = schema
        self.is_compact = whitespace == "compact"
        self.rules: dict[str, str] = {}  # name -> body
        self.names: dict[str, str] = {}  # body -> name
        self.terminals: dict[str, str] = {}  # key -> name
        self.writers: dict[str, Callable[[dict[str, Any]], str]] = {
            "null": lambda _: '"null"',
            "boolean": lambda _: self.rule('"true" | "false"'),
            "integer": self.number,
            "number": self.number,
            "string": self.string,
            "array": self.array,
            "object": self.object,
        }

    def text(self) -> str:
        """The whole grammar."""
        for name, definition in self.schema.get("$defs", {}).items():
            self.rules[name] = self.node(definition)
        # The root is never recursive: xgrammar masks legal tokens of a root that is.
        self.rules[self.root] = self.node({key: self.schema[key] for key in self.schema if key != "$defs"})
        return "".join(f"{name} {self.definition} {body}\n" for name, body in self.rules.items())

    def rule(self, body: str) -> str:
        """Name of the rule with this body."""
        name = self.names.get(body)
        if name is None:
            name = self.names[body] = f"r{len(self.names)}"
            self.rules[name] = body
        return name

    def node(self, schema: dict[str, Any]) -> str:
        """Expression for the values of one schema: a rule's name or a literal."""
        if "$ref" in schema:
            return str(schema["$ref"]).removeprefix("#/$defs/")
        if "anyOf" in schema:
            return self.rule(" | ".join(self.node(branch) for branch in schema["anyOf"]))
        if "enum" in schema:
            return self.rule(" | ".join(self.quoted(compact(value)) for value in schema["enum"]))
        return self.anything() if "type" not in schema else self.writers[schema["type"]](schema)

    def terminal(self, key: str, automaton: Automaton) -> str:
        """Name of the rule for what an automaton accepts; equal keys, equal automata."""
        if key not in self.terminals:
            self.terminals[key] = f"t{len(self.terminals)}"
            self.rules |= rules_of(automaton, self.terminals[key])
        return self.terminals[key]

    def number(self, schema: dict[str, Any]) -> str:
        """Name of the rule for the values of a number or integer schema."""
        return self.terminal(compact(schema), decimal_automaton(schema))

    def string(self, schema: dict[str, Any]) -> str:
        """Name of the rule for the values of a string schema."""
        longest = max(schema.get("minLength", 0), schema.get("maxLength", 0))
        if longest > limits.MAX_COUNTED_LENGTH:
            raise TooComplexError(f"a string of up to {longest} characters")
        return self.terminal(compact(schema), automaton_of(string_expression(schema)))

    def other_names(self, declared: list[str]) -> str:
        """Name of the rule for property names that are none of those declared."""
        return self.terminal(f"other than {compact(declared)}", automaton_of(other_names(declared)))

    def quoted(self, text: str) -> str:
        """The text as a literal."""
        return quoted(text)

    def mark(self, mark: str) -> str:
        """Expression for a bracket, comma or colon, with the whitespace that may stand beside it."""
        if self.is_compact:
            return f'"{mark}"'
        space = self.terminal(f"space {mark == ':'}", build(parse_own(BLANK if mark == ":" else LAYOUT)))
        return self.rule(f'{space} "{mark}"' if mark in "]}" else f'"{mark}" {space}')

    def key(self, name: str) -> str:
        """Expression for a property's name and its colon."""
        if self.is_compact:
            return self.quoted(compact(name) + ":")
        return f"{self.quoted(compact(name))} {self.mark(':')}"

    def repeated(self, item: str, least: int = 0, most: int | None = None, *, continued: bool = False) -> str:
        """Items with commas between them; `continued` when others stand before."""
        if most == 0:
            return ""
        if continued:
            count = "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"
            return f"({self.mark(',')} {item}){count}"
        following = self.repeated(item, max(0, least - 1), None if most is None else most - 1, continued=True)
        items = _sequence(item, following)
        return items if least else f"({items})?"

    def anything(self) -> str:
        """Any JSON value."""
        if "any" not in self.rules:
            self.rules["any"] = ""  # taken first: the rules below refer to it
            null, boolean, number, string = (self.node({"type": kind}) for kind in _LEAVES)
            array = self.rule(_sequence(self.mark("["), self.repeated("any"), self.mark("]")))
            pair = f"{string} {self.mark(':')} any"
            pairs = self.rule(_sequence(self.mark("{"), self.repeated(pair), self.mark("}")))
            self.rules["any"] = " | ".join([null, boolean, number, string, array, pairs])
        return "any"

    def array(self, schema: dict[str, Any]) -> str:
        """Name of the rule for the values of an array schema."""
        prefix = [self.node(item) for item in schema.get("prefixItems", ())]
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        rest = None
        if schema["items"] is not False and (most is None or most > len(prefix)):
            rest = self.node(schema["items"])
        tail = ""
        if rest is not None:
            further = None if most is None else most - len(prefix)
            tail = self.repeated(rest, max(0, least - len(prefix)), further, continued=bool(prefix))
        for index, item in reversed(list(enumerate(prefix[:most]))):
            tail = self.short(_sequence(self.mark(",") if index else "", item, tail))
            if index >= least:
                tail = f"({tail})?"
        return self.rule(_sequence(self.mark("["), tail, self.mark("]")))

    def object(self, schema: dict[str, Any]) -> str:
        """Properties in order, each optional one taken or skipped.

        `tails[count]` says what may follow when `count` properties are written. Unless the schema counts them, it
        only matters whether there is one, for the comma.
        """
        properties: dict[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        counts = is_counted(schema)
        largest = min(len(properties), len(properties) if most is None else most) if counts else 1
        tails = [self.further_properties(schema, count, least, most) for count in range(largest + 1)]
        for name, value in reversed(properties.items()):
            if value is False:  # declared, and impossible
                continue
            item = f"{self.key(name)} {self.node(value)}"
            advanced = [*tails[1:], None if counts else tails[-1]]
            further = f"{self.mark(',')} {item}"
            tails = [
                self.property(further if count else item, take, None if name in required else skip)
                for count, (take, skip) in enumerate(zip(advanced, tails, strict=True))
            ]
        assert tails[0] is not None, "the audit refuses counts that cannot be met"
        return self.rule(_sequence(self.mark("{"), tails[0], self.mark("}")))

    def property(self, item: str, take: str | None, skip: str | None) -> str | None:
        """Expression for a property and what follows: `take` behind it, or `skip` without it."""
        if take is None or skip is None:
            return skip if take is None else self.short(_sequence(item, take))
        # A rule each: xgrammar writes groups out, again for every place that uses them.
        return self.rule(f"{_sequence(item, take)} | {skip or _EMPTY}")

    def further_properties(self, schema: dict[str, Any], count: int, least: int, most: int | None) -> str | None:
        """Expression for properties without a name of their own, behind `count` others; None when it cannot be."""
        if schema["additionalProperties"] is False:
            return "" if count >= least else None
        names = schema.get("propertyNames")
        if names is None and schema["properties"]:
            declared = list(schema["properties"])
            key = self.other_names(declared)
        else:
            key = self.node(names or _STRING)
        pair = self.rule(f"{key} {self.mark(':')} {self.node(schema['additionalProperties'])}")
        further = None if most is None else most - count
        return self.repeated(pair, max(0, least - count), further, continued=count > 0)

    def short(self, expression: str) -> str:
        """The expression, or the name of a rule when it is long."""
        return expression if len(expression) <= _MAX_INLINE else self.rule(expression)


def is_counted(schema: dict[str, Any]) -> bool:
    """Whether the bounds on the number of properties forbid anything that the other keywords allow."""
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")
    if least > len(schema.get("required", ())):
        return True
    return most is not None and (schema["additionalProperties"] is not False or most < len(schema["properties"]))


def _sequence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def compact(value: Any) -> str:
    """JSON text without whitespace."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def quoted(text: str) -> str:
    """The text as a literal."""
    return '"' + text.translate(_ESCAPES) + '"'
