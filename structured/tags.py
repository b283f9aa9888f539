"""Structural tags: text in which marked parts follow a form each, as xgrammar and vLLM write them.

A tag is a tree of formats (`{"type": "tag", "begin": "<f>", "content": {"type": "json_schema", ...}, "end": "</f>"}`).
Here it is checked strictly and brought down to the few formats of xgrammar that hold what they say: schemas and
patterns become grammars of our own, and a mark that the tokenizer has as one token (`<tool_call>`) becomes that token,
since models write it so and since text never holds it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outrider.structured import limits
from outrider.structured.errors import SchemaError

# Fields of each format: those it needs, and those it may have.
_FIELDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    kind: (frozenset(needed.split()), frozenset(optional.split()))
    for kind, needed, optional in (
        ("const_string", "value", ""),
        ("json_schema", "json_schema", "style strict"),
        ("regex", "pattern", ""),
        ("grammar", "grammar", ""),
        ("any_text", "", "excludes"),
        ("text_until", "end", "max_tokens"),
        ("sequence", "elements", ""),
        ("or", "elements", ""),
        ("optional", "content", ""),
        ("star", "content", ""),
        ("plus", "content", ""),
        ("repeat", "min max content", ""),
        ("tag", "begin content end", ""),
        ("triggered_tags", "triggers tags", "at_least_one stop_after_first excludes"),
        ("tags_with_separator", "tags separator", "at_least_one stop_after_first"),
    )
}
_REASONS: Final = {
    "max_tokens": "is not enforced exactly: leave it out, or limit the whole answer by `max_tokens`",
    "max_chars": "is not supported: use a `regex` such as `.{0,200}`",
}

Format = dict[str, Any]


def prepare(tag: Any, added: Mapping[str, int], grammar_of: Callable[..., str]) -> Format:
    """The tag in the formats that xgrammar keeps.

    Args:
        tag: `{"type": "structural_tag", "format": ...}`, or the older `{"structures": [...], "triggers": [...]}`
        added: ids of the tokenizer's added tokens by their text
        grammar_of: EBNF of a `json_schema`, a `regex` or a `grammar`; with `strict` false, of a schema it may be wider

    Raises:
        SchemaError: it is malformed; the pointer leads to the format.
    """
    if not isinstance(tag, dict):
        raise SchemaError("a structural tag is a JSON object")
    if "structures" in tag or "triggers" in tag:
        tag = {"format": _modern(tag)}
    elif "format" not in tag:
        raise SchemaError("a structural tag needs `format`, or `structures` and `triggers`")
    unknown = tag.keys() - {"type", "format"}
    if unknown:
        raise SchemaError(f"a structural tag has no field `{min(unknown)}`: remove it")
    return {"type": "structural_tag", "format": _Preparation(added, grammar_of).format(tag["format"], "#/format", 0)}


def _modern(tag: Format) -> Format:
    """Triggered tags of the older form."""
    structures, triggers = tag.get("structures"), tag.get("triggers")
    is_known = isinstance(structures, list) and not tag.keys() - {"type", "structures", "triggers"}
    items: list[Any] = structures if isinstance(structures, list) else []
    if not is_known or not all(isinstance(item, dict) and item.keys() == {"begin", "schema", "end"} for item in items):
        raise SchemaError("an older structural tag has `structures`, each of `begin`, `schema`, `end`, and `triggers`")
    tags = [
        {
            "type": "tag",
            "begin": item["begin"],
            "content": {"type": "json_schema", "json_schema": item["schema"]},
            "end": item["end"],
        }
        for item in items
    ]
    return {"type": "triggered_tags", "triggers": triggers, "tags": tags}


class _Preparation:
    def __init__(self, added: Mapping[str, int], grammar_of: Callable[..., str]) -> None:
        self.added = added
        self.grammar_of = grammar_of
        self.writers: dict[str, Callable[[Format, str, int], Format]] = {
            "const_string": lambda node, place, _: _sequence(self.marks(node["value"], f"{place}/value")),
            "any_text": self.text,
            "text_until": self.text_until,
            "json_schema": self.grammar,
            "regex": self.grammar,
            "grammar": self.grammar,
            "sequence": self.several,
            "or": self.several,
            "tag": self.tag,
            "triggered_tags": self.triggered,
            "tags_with_separator": self.separated,
        }

    def format(self, node: Any, place: str, depth: int) -> Format:
        """One format and all within it."""
        if depth > limits.MAX_DEPTH:
            raise SchemaError(f"formats are nested more than {limits.MAX_DEPTH} deep at `{place}`", pointer=place)
        kind = self.checked(node, place)
        return self.writers.get(kind, self.repeated)(node, place, depth + 1)

    def text(self, node: Format, place: str, _: int) -> Format:
        return {"type": "any_text", "excludes": self.texts(node.get("excludes", []), f"{place}/excludes")}

    def text_until(self, node: Format, place: str, _: int) -> Format:
        """Anything up to a mark, and the mark. Tokens before it are counted exactly where the mark is one token."""
        end = self.marks(node["end"], f"{place}/end")
        most = node.get("max_tokens")
        if most is not None and (type(most) is not int or not 0 <= most < 2**31):
            raise SchemaError(f"`max_tokens` at `{place}` is a number from 0", pointer=place, keyword="max_tokens")
        if end[0]["type"] == "token":
            free = {"type": "any_tokens", "exclude_tokens": [end[0]["token"]]}
            return _sequence([free if most is None else {**free, "max_tokens": most}, *end])
        if most is not None:
            reason = f"needs `{node['end'][:100]}` to be one token, which it is not in this model"
            raise SchemaError(f"`max_tokens` at `{place}` {reason}", pointer=place, keyword="max_tokens")
        return {"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": node["end"]}

    def several(self, node: Format, place: str, depth: int) -> Format:
        elements = self.items(node["elements"], f"{place}/elements")
        parts = [self.format(part, f"{place}/elements/{index}", depth) for index, part in enumerate(elements)]
        return {"type": node["type"], "elements": parts}

    def repeated(self, node: Format, place: str, depth: int) -> Format:
        if node["type"] == "repeat":
            low, high = node["min"], node["max"]
            whole = type(low) is int and type(high) is int
            if not (whole and 0 <= low <= limits.MAX_REPETITION >= high and (high == -1 or low <= high)):
                reason = f"`min` and `max` are 0 to {limits.MAX_REPETITION} and in order; `max` is -1 for no end"
                raise SchemaError(f"at `{place}`, {reason}", pointer=place, keyword="max")
        return {**node, "content": self.format(node["content"], f"{place}/content", depth)}

    def separated(self, node: Format, place: str, depth: int) -> Format:
        tag = _any_of(self.tags(node, place, depth))
        following = _sequence([*self.marks(node["separator"], f"{place}/separator"), tag])
        found = _sequence([tag] if node.get("stop_after_first") else [tag, {"type": "star", "content": following}])
        return found if node.get("at_least_one") else {"type": "optional", "content": found}

    def checked(self, node: Any, place: str) -> str:
        """The type of a format that has the fields it needs and no others."""
        if not isinstance(node, dict) or node.get("type") not in _FIELDS:
            kind = node.get("type") if isinstance(node, dict) else node
            known = ", ".join(_FIELDS)
            raise SchemaError(f"`{str(kind)[:100]}` at `{place}` is no format: use one of {known}", pointer=place)
        needed, optional = _FIELDS[node["type"]]
        for name in sorted(needed - node.keys()):
            raise SchemaError(f"`{name}` is missing at `{place}`", pointer=place, keyword=name)
        for name in sorted(node.keys() - needed - optional - {"type"}):
            reason = _REASONS.get(name, f"is no field of `{node['type']}`: remove it")
            raise SchemaError(f"`{name}` at `{place}` {reason}", pointer=place, keyword=name)
        for name in ("at_least_one", "stop_after_first", "strict"):
            if not isinstance(node.get(name, False), bool):
                raise SchemaError(f"`{name}` at `{place}` is true or false", pointer=place, keyword=name)
        return str(node["type"])

    def grammar(self, node: Format, place: str, _: int) -> Format:
        """What a schema, a pattern or a grammar describes, as a grammar of our own."""
        if node.get("style", "json") != "json":
            raise SchemaError(f"`style` at `{place}` is not supported: use `json`", pointer=place, keyword="style")
        field = "pattern" if node["type"] == "regex" else node["type"]
        try:
            text = self.grammar_of(node["type"], node[field], strict=node.get("strict", True))
            return {"type": "grammar", "grammar": text}
        except SchemaError as error:
            pointer = f"{place}/{field}{error.pointer.removeprefix('#')}"
            raise SchemaError(f"at `{place}/{field}`: {error}", pointer=pointer, keyword=error.keyword) from error

    def tag(self, node: Format, place: str, depth: int) -> Format:
        """A beginning, a content and an end. Text alone stays a tag, whose content ends where the end can begin."""
        content = self.format(node["content"], f"{place}/content", depth)
        begin = self.marks(node["begin"], f"{place}/begin")
        several = node["end"] if isinstance(node["end"], list) else [node["end"]]
        ends = [self.marks(end, f"{place}/end") for end in self.items(several, f"{place}/end")]
        if all(len(end) == 1 and end[0]["type"] == "const_string" for end in ends):
            texts = [end[0]["value"] for end in ends]
            inner = {"type": "tag", "begin": "", "content": content, "end": texts if len(texts) > 1 else texts[0]}
            if len(begin) == 1 and begin[0]["type"] == "const_string":
                return {**inner, "begin": begin[0]["value"]}
            return _sequence([*begin, inner])
        return _sequence([*begin, content, _any_of([_sequence(end) for end in ends])])

    def tags(self, node: Format, place: str, depth: int) -> list[Format]:
        found = []
        for index, item in enumerate(self.items(node["tags"], f"{place}/tags")):
            if not isinstance(item, dict) or item.get("type", "tag") != "tag":
                raise SchemaError(f"`{place}/tags/{index}` is no `tag`", pointer=f"{place}/tags/{index}")
            found.append(self.format({"type": "tag", **item}, f"{place}/tags/{index}", depth))
        return found

    def triggered(self, node: Format, place: str, depth: int) -> Format:
        """Free text with tags in it. Where tokens trigger, text cannot hold them, so no trigger needs to be watched."""
        tags = self.tags(node, place, depth)
        triggers = [self.marks(text, f"{place}/triggers") for text in self.items(node["triggers"], f"{place}/triggers")]
        excludes = self.texts(node.get("excludes", []), f"{place}/excludes")
        begins = [item["begin"] for item in node["tags"]]
        unmet = [begin for begin in begins if not str(begin).startswith(tuple(map(str, node["triggers"])))]
        if unmet:
            raise SchemaError(f"no trigger at `{place}` begins `{str(unmet[0])[:100]}`", pointer=place)
        if all(trigger[0]["type"] == "const_string" for trigger in triggers):
            return {**node, "tags": tags, "excludes": excludes}
        if any(trigger[0]["type"] == "const_string" for trigger in triggers):
            reason = "are partly tokens of their own and partly text: use two tags, or triggers of one kind"
            raise SchemaError(f"`triggers` at `{place}` {reason}", pointer=place, keyword="triggers")
        text = {"type": "any_text", "excludes": excludes}
        tag = _any_of(tags)
        least = bool(node.get("at_least_one"))
        if node.get("stop_after_first"):
            return _sequence([tag]) if least else _sequence([text, {"type": "optional", "content": tag}])
        further = {"type": "star", "content": _sequence([tag, text])}
        return _sequence([tag, text, further] if least else [text, further])

    def marks(self, text: Any, place: str) -> list[Format]:
        """The text as constant strings with the added tokens between them; one empty string for none."""
        if not isinstance(text, str):
            raise SchemaError(f"`{place}` is a string", pointer=place)
        parts: list[Format] = []
        rest = text
        while rest:
            at, length = min(((rest.find(name), -len(name)) for name in self.added if name in rest), default=(-1, 0))
            if at < 0:
                at = len(rest)
            parts += [{"type": "const_string", "value": rest[:at]}] if at else []
            parts += [{"type": "token", "token": self.added[rest[at : at - length]]}] if length else []
            rest = rest[at - length :]
        return parts or [{"type": "const_string", "value": ""}]

    def texts(self, value: Any, place: str) -> list[str]:
        """Strings that hold no added token: those cannot stand in text anyway."""
        texts = self.items(value, place) if value else []
        if not all(isinstance(text, str) and text for text in texts):
            raise SchemaError(f"`{place}` is a list of strings, none empty", pointer=place)
        return [text for text in texts if not any(name in text for name in self.added)]

    def items(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise SchemaError(f"`{place}` is a list that is not empty", pointer=place)
        return value


def _sequence(parts: list[Format]) -> Format:
    return parts[0] if len(parts) == 1 else {"type": "sequence", "elements": parts}


def _any_of(parts: list[Format]) -> Format:
    return parts[0] if len(parts) == 1 else {"type": "or", "elements": parts}
