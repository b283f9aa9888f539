"""Extraction examples: prose about something made up, and the JSON object that holds its values.

Owns how a text is put together, how a user asks and what the answer looks like: compact JSON with the keys in the
order asked for, which is also what a schema enforces. What there is to extract stands in `domains/`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from outrider.demo.recipe.conversation import Example, Message, ask
from outrider.demo.recipe.domain import GENERIC, Domain, Field, mentioned
from outrider.demo.recipe.domains import DOMAINS
from outrider.demo.recipe.rewording import opened, worded
from outrider.demo.recipe.words import Writer, grammatical

# Questions; the last quarter of each is held out.
_WITH_SCHEMA: Final = (
    "Extract the {domain} using this JSON schema: {schema}\n\n{text}",
    "Schema: {schema}\nText: {text}",
    "{text}\n\nAnswer with JSON that matches this schema: {schema}",
    "Extract the data as JSON matching {schema}.\n{text}",
    "{schema}\n\n{text}",
    "Fill in this schema: {schema}\nSource: {text}",
    "Text: {text}\n\nReturn the {domain} as JSON with the schema {schema}",
    "Read this: {text}\n\nExtract the data. JSON schema: {schema}",
)
_WITH_KEYS: Final = (
    "Extract {keys}: {text}",
    "Extract {keys} from this text: {text}",
    "Return JSON with the keys {keys}.\n\n{text}",
    "{text}\n\nGive me {keys} as JSON.",
    "Fields: {keys}\nText: {text}",
    "Extract the {domain} with the fields {keys}: {text}",
    "{text}\nReturn {keys}.",
    "What are the {keys}? Answer in JSON. {text}",
)
_BARE: Final = (
    "Extract the {domain}: {text}",
    "Extract the {domain} as JSON: {text}",
    "{text}\n\nExtract the {domain}.",
    "Give me the {domain} as JSON.\n\n{text}",
    "Parse this {domain}: {text}",
    "Turn this {domain} into JSON: {text}",
)
_SYSTEMS: Final = (
    "You are a helpful assistant.",
    "You extract data from text.",
    "Answer with JSON only.",
    "You are a data extraction service. Reply with one JSON object.",
)
_OPENINGS: Final = ("Hello team.", "Good morning.", "Hi!", "Dear all,", "Note:", "Update:", "FYI:", "As agreed:")
_CLOSINGS: Final = ("Thank you!", "Best regards.", "Please confirm.", "See you soon.", "Let me know.", "Thanks.")
_AGAIN: Final = ("Now", "And", "Now only", "Again:", "The same text:", "Extract", "Return", "Also")
_GROUPS: Final = ("details", "info", "data", "record", "summary", "entry")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One key of the answer: its schema, and its value unless the text does not mention it."""

    key: str
    schema: dict[str, Any]
    value: Any
    present: bool


def extraction(writer: Writer) -> Example:
    """One extraction: mostly with a JSON schema, sometimes with the keys named or left to the model."""
    domain = writer.one(DOMAINS)
    names, values, text = _prose(writer, domain)
    kind = f"extraction/{domain.name}"
    if writer.chance(0.05):
        # Without keys the model must know them: what the text mentions, in the domain's own order and names.
        answer = {name: values[name] for name in domain.fields if name in names}
        return _ask(writer, kind, _BARE, answer, domain=domain.name, text=text)
    asked = _asked(writer, domain, names, values)
    if writer.chance(0.15):
        asked = [entry for entry in asked if entry.present]
        listed = ", ".join(entry.key for entry in asked)
        return _ask(writer, kind, _WITH_KEYS, _answer(asked), domain=domain.name, text=text, keys=listed)
    if len(asked) > 3 and writer.chance(0.3):
        asked = _grouped(writer, asked)
    schema = _object_schema(writer, asked)
    if writer.chance(0.25):
        system = f"Answer with JSON that matches this schema: {compact(schema)}"
        plain = writer.one((text, f"Extract the {domain.name}: {text}", f"Text: {text}"))
        return ask(kind, plain, compact(_answer(asked)), system=system, schema=schema)
    return _ask(
        writer, kind, _WITH_SCHEMA, _answer(asked), schema, domain=domain.name, text=text, schema=compact(schema)
    )


def dialogue(writer: Writer) -> Example:
    """A text, and several extractions from it one after the other."""
    domain = writer.one(DOMAINS)
    names, values, text = _prose(writer, domain)
    messages: list[Message] = []
    for _ in range(writer.integer(2, 5)):
        asked = [entry for entry in _asked(writer, domain, names, values) if entry.present]
        keys = ", ".join(entry.key for entry in asked)
        if not messages:
            question = worded(writer, _WITH_KEYS).format(domain=domain.name, text=text, keys=keys)
        elif writer.chance(0.2):
            question = f"{writer.one(_AGAIN)} {compact(_object_schema(writer, asked))}"
        else:
            question = f"{writer.one(_AGAIN)} {keys}"
        messages += [Message("user", question), Message("assistant", compact(_answer(asked)))]
    return Example("conversation", tuple(messages))


def compact(value: object) -> str:
    """JSON without spaces, as constrained decoding writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _ask(
    writer: Writer,
    kind: str,
    questions: tuple[str, ...],
    answer: Mapping[str, Any],
    answer_schema: dict[str, Any] | None = None,
    **parts: str,
) -> Example:
    question = worded(writer, questions).format(**parts)
    system = writer.one(_SYSTEMS) if writer.chance(0.3) else ""
    return ask(kind, question, compact(answer), system=system, schema=answer_schema)


def _prose(writer: Writer, domain: Domain) -> tuple[list[str], dict[str, Any], str]:
    """The fields mentioned, all values, and a text: a head and a sentence for each further field."""
    values = {name: field.draw(writer) for name, field in domain.fields.items()}
    spoken = {name: field.spoken(values[name]) for name, field in domain.fields.items()}
    head = opened(writer, worded(writer, domain.heads))
    names = mentioned(head)
    others = [name for name in domain.fields if name not in names]
    more = writer.some(others, writer.integer(0, min(4, len(others))))
    sentences = [head.format(**spoken), *(_fact(writer, domain.fields[name], spoken[name]) for name in more)]
    if writer.chance(0.25):
        sentences = writer.some(sentences, len(sentences))
    if writer.chance(0.15):
        sentences.insert(0, writer.one(_OPENINGS))
    if writer.chance(0.15):
        sentences.append(writer.one(_CLOSINGS))
    between = " " if writer.held_out or writer.chance(0.9) else "\n"
    return [*names, *more], values, grammatical(_capitalised(between.join(sentences)))


def _fact(writer: Writer, field: Field, spoken: str) -> str:
    if field.type == "boolean" or writer.chance(0.6):
        return opened(writer, worded(writer, field.facts)).format(spoken)
    label = writer.one((field.label, *field.aliases))
    sentence = worded(writer, GENERIC)
    if sentence.startswith("{label}"):
        label = _capitalised(label)
    return opened(writer, sentence).format(label=label, value=spoken)


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _asked(writer: Writer, domain: Domain, names: Sequence[str], values: Mapping[str, Any]) -> list[_Asked]:
    """The keys asked for: most of what the text mentions, and now and then something that it does not."""
    wanted = writer.some(names, writer.integer(min(2, len(names)), min(6, len(names))))
    absent = [name for name in domain.fields if name not in names]
    if absent and writer.chance(0.25):
        wanted.insert(writer.integer(0, len(wanted)), writer.one(absent))
    style = writer.weighted((_snake, _camel), (3, 1))
    taken: set[str] = set()
    asked = []
    for name in wanted:
        field = domain.fields[name]
        key = name if writer.chance(0.3) else style(writer.one((field.label, *field.aliases)))
        if key in taken:
            key = name
        if key in taken:
            continue
        taken.add(key)
        asked.append(_Asked(key, _type_schema(writer, field, values[name]), values[name], name in names))
    return asked


def _snake(label: str) -> str:
    return label.lower().replace(" ", "_").replace("/", "_")


def _camel(label: str) -> str:
    first, *rest = label.lower().replace("/", " ").split()
    return first + "".join(word.capitalize() for word in rest)


def _grouped(writer: Writer, asked: list[_Asked]) -> list[_Asked]:
    """Two or three neighbouring keys become one key with an object."""
    start = writer.integer(0, len(asked) - 2)
    inner = asked[start : start + writer.integer(2, 3)]
    group = _Asked(
        writer.one(_GROUPS), _object_schema(writer, inner), _answer(inner), any(entry.present for entry in inner)
    )
    return [*asked[:start], group, *asked[start + len(inner) :]]


def _answer(asked: Sequence[_Asked]) -> dict[str, Any]:
    return {entry.key: entry.value for entry in asked if entry.present}


def _object_schema(writer: Writer, asked: Sequence[_Asked]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {entry.key: entry.schema for entry in asked}}
    # What is required is present; what is present need not be required.
    optional = writer.chance(0.2)
    schema["required"] = [entry.key for entry in asked if entry.present and not (optional and writer.chance(0.3))]
    if writer.chance(0.15):
        schema["additionalProperties"] = False
    return schema


def _choices(writer: Writer, field: Field, value: str) -> list[str]:
    """The usual values in any order; around a value that is not usual, others like it."""
    usual = writer.some(field.choices, len(field.choices))
    if value in usual:
        return usual
    return writer.some([value, *(writer.coined() for _ in range(2)), *usual[:1]], 4)


def _type_schema(writer: Writer, field: Field, value: Any) -> dict[str, Any]:
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "enum": lambda: {"type": "string", "enum": _choices(writer, field, value)},
        "strings": lambda: {"type": "array", "items": {"type": "string"}},
        "numbers": lambda: {"type": "array", "items": {"type": "integer"}},
        "objects": lambda: {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "quantity": {"type": "integer"}},
                "required": ["name", "quantity"],
            },
        },
    }
    maker = makers.get(field.type)
    schema: dict[str, Any] = maker() if maker else {"type": field.type}
    if writer.chance(0.1):
        schema["description"] = field.label
    return schema
