"""Extraction examples: a sentence about something made up, and the JSON object that holds its values.

Owns how a user asks and what the answer looks like: compact JSON with the keys in the order asked for, which
is also what a schema enforces. What there is to extract stands in `domains.py`.
"""

import json
from collections.abc import Sequence
from string import Formatter
from typing import Final

from outrider.demo.conversation import Example, ask
from outrider.demo.domains import DOMAINS, Domain, Field
from outrider.demo.words import Writer, grammatical

_SYSTEMS: Final = (
    "You are a helpful assistant.",
    "You extract data from text.",
    "Answer with JSON only.",
    "You are a data extraction service. Reply with one JSON object.",
)
_OPENINGS: Final = ("Hello team.", "Good morning.", "Hi!", "Dear all,", "Note:", "Update:", "FYI:", "As agreed:")
_CLOSINGS: Final = ("Thank you!", "Best regards.", "Please confirm.", "See you soon.", "Let me know.", "Thanks.")
_BARE: Final = (
    "Extract the {domain}: {text}",
    "Extract the {domain} from this text: {text}",
    "Extract the {domain} as JSON: {text}",
    "{text}\n\nExtract the {domain}.",
    "Turn this into JSON: {text}",
    "Convert to JSON: {text}",
    "Extract the data: {text}",
    "Give me the {domain} as JSON.\n\n{text}",
    "{text}\nReturn the {domain} as JSON.",
    "Parse this {domain}: {text}",
)
_NAMED: Final = (
    "Extract {keys}: {text}",
    "Extract {keys} from this text: {text}",
    "Extract the {domain} with the fields {keys}: {text}",
    "Return JSON with the keys {keys}.\n\n{text}",
    "{text}\n\nGive me {keys} as JSON.",
    "Fields: {keys}\nText: {text}",
    "What are the {keys}? Answer in JSON. {text}",
    "{text}\nReturn {keys}.",
)
_SCHEMA: Final = (
    "Extract the {domain} using this JSON schema: {schema}\n\n{text}",
    "Schema: {schema}\nText: {text}",
    "{text}\n\nAnswer with JSON that matches this schema: {schema}",
    "Extract the data as JSON matching {schema}.\n{text}",
)


def extraction(writer: Writer) -> Example:
    """One extraction: bare, with the fields named, or with a JSON schema in the question or before it."""
    domain = writer.one(DOMAINS)
    sentence = writer.one(domain.sentences)
    mentioned = {name for _, name, _, _ in Formatter().parse(sentence) if name}
    names = [name for name in domain.fields if name in mentioned]
    values = {name: domain.fields[name].draw(writer) for name in names}
    spoken = {name: domain.fields[name].spoken(value) for name, value in values.items()}
    text = _surround(writer, grammatical(sentence.format(**spoken)))
    kind = f"extraction/{domain.name}"
    if writer.chance(0.4):
        question = writer.one(_BARE).format(domain=domain.name, text=text)
        return ask(kind, question, compact(values), system=_system(writer))
    asked = writer.some(names, writer.integer(min(2, len(names)), len(names)))
    keys = _keys(writer, domain, asked)
    answer = compact({key: values[name] for key, name in zip(keys, asked, strict=True)})
    if writer.chance(0.5):
        question = writer.one(_NAMED).format(domain=domain.name, keys=_enumerate(writer, keys), text=text)
        return ask(kind, question, answer, system=_system(writer))
    schema = compact(_schema(keys, [domain.fields[name] for name in asked]))
    if writer.chance(0.4):
        question = writer.one((text, f"Extract the {domain.name}: {text}", f"Text: {text}"))
        return ask(kind, question, answer, system=f"Answer with JSON that matches this schema: {schema}")
    question = writer.one(_SCHEMA).format(domain=domain.name, schema=schema, text=text)
    return ask(kind, question, answer, system=_system(writer))


def compact(value: object) -> str:
    """JSON without spaces, as constrained decoding writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _system(writer: Writer) -> str:
    return writer.one(_SYSTEMS) if writer.chance(0.3) else ""


def _surround(writer: Writer, sentence: str) -> str:
    before = f"{writer.one(_OPENINGS)} " if writer.chance(0.15) else ""
    after = f" {writer.one(_CLOSINGS)}" if writer.chance(0.15) else ""
    return f"{before}{sentence}{after}"


def _keys(writer: Writer, domain: Domain, names: Sequence[str]) -> list[str]:
    """A key for each field: its own name, or an alias that no other field of the answer uses."""
    keys: list[str] = []
    for name in names:
        aliases = [alias for alias in domain.fields[name].aliases if alias not in (*keys, *names)]
        keys.append(writer.one(aliases) if aliases and writer.chance(0.4) else name)
    return keys


def _enumerate(writer: Writer, keys: Sequence[str]) -> str:
    joint = writer.one((", ", ", ", " and "))
    return ", ".join(keys) if joint == ", " else ", ".join(keys[:-1]) + f" and {keys[-1]}"


def _schema(keys: Sequence[str], fields: Sequence[Field]) -> dict[str, object]:
    properties = {key: _type_schema(field.type) for key, field in zip(keys, fields, strict=True)}
    return {"type": "object", "properties": properties, "required": list(keys)}


def _type_schema(name: str) -> dict[str, object]:
    return {"type": "array", "items": {"type": "string"}} if name == "array" else {"type": name}
