"""A tiny vocabulary, grammars compiled for it in this process, and schemas as people send them."""

import datetime
import enum
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from outrider.structured.backends import Backends
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.structured.grammar import Grammar, GrammarLoader
from outrider.structured.vocabulary import tokenizer_info

SPECIAL = ["<|end|>", "<|turn|>"]
ADDED = ["<think>", "</think>", "<tool_call>"]
CORPUS = [
    '{"name": "Ada Lovelace", "age": 36, "tags": ["math", "engine"], "ok": true, "next": null}',
    '{"id":12,"price":3.50,"date":"2024-02-29T10:00:00Z","text":"a line\\nand \\"quotes\\""},[],{}',
    "The quick brown fox jumps over the lazy dog, twice; café, naïve, 東京, 😀 and so on.",
]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer folder and what a model would say about it."""

    path: Path
    size: int  # of the logits, wider than the tokenizer
    stop_token_ids: tuple[int, ...]
    added_token_ids: tuple[int, ...]
    pieces: tuple[bytes, ...]

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, longest piece first."""
        data, ids = text.encode(), []
        while data:
            size, token_id = max((len(p), i) for i, p in enumerate(self.pieces) if p and data.startswith(p))
            ids.append(token_id)
            data = data[size:]
        return ids


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ADDED])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0]).save_pretrained(path)
    stops = tuple(tokenizer.token_to_id(text) for text in SPECIAL)
    added = tuple(tokenizer.token_to_id(text) for text in SPECIAL + ADDED)
    size = tokenizer.get_vocab_size() + 7
    pieces = tuple(tokenizer_info(path, size, stops).decoded_vocab)
    return Vocabulary(path, size, stops, added, pieces)


@pytest.fixture(scope="session")
def loader(vocabulary: Vocabulary) -> GrammarLoader:
    return GrammarLoader(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids)


@pytest.fixture(scope="session", params=["xgrammar", "llguidance"])
def compile_here(vocabulary: Vocabulary, request: pytest.FixtureRequest) -> Callable[[Any], CompiledGrammar]:
    """Compile a constraint, or a schema, without a process, on each of the backends."""
    info = tokenizer_info(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids)
    backends = Backends(info, budget_seconds={"xgrammar": math.inf, "llguidance": -1}[request.param])
    done: dict[str, CompiledGrammar] = {}

    def compile_once(wanted: Any) -> CompiledGrammar:
        constraint = wanted if isinstance(wanted, Constraint) else Constraint("json_schema", wanted)
        key = constraint.key
        if key not in done:
            compiled = backends.compile(constraint.kind, constraint.text, constraint.whitespace)
            # Keys of their own: the loader would hold the other backend's for the same.
            done[key] = CompiledGrammar(f"{request.param} {key}", compiled.backend, compiled.data)
        return done[key]

    return compile_once


@pytest.fixture(scope="session")
def grammar_of(loader: GrammarLoader, compile_here: Callable[[Any], CompiledGrammar]) -> Callable[[Any], Grammar]:
    """A fresh grammar for a schema or a constraint."""

    def grammar(schema: Any) -> Grammar:
        compiled = compile_here(schema)
        loader.load(compiled)
        return loader.matcher(compiled.key)

    return grammar


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(BaseModel):
    """A place."""

    street: str
    zip_code: Annotated[str, Field(pattern=r"^[0-9]{5}(-[0-9]{4})?$")]


class Person(BaseModel):
    name: str = Field(description="Full name", examples=["Ada"])
    age: Annotated[int, Field(ge=0, le=150)]
    email: str | None = None
    address: Address
    previous: list[Address] = []
    color: Color


class Tree(BaseModel):
    value: int
    children: list["Tree"] = Field(max_length=3)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str


class Pets(BaseModel):
    favourite: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: list[Cat | Dog]


class Measures(BaseModel):
    ratio: Annotated[float, Field(gt=0, lt=1)]
    celsius: Annotated[float, Field(ge=-273.15)]
    pair: tuple[int, str]
    counts: dict[str, int]
    by_color: dict[Color, bool]
    slug: Annotated[str, Field(min_length=1, max_length=12)]
    step: Annotated[int, Field(multiple_of=5, ge=0, le=100)]


class Times(BaseModel):
    day: datetime.date
    at: datetime.datetime
    clock: datetime.time
    lasts: datetime.timedelta
    key: uuid.UUID


class Empty(BaseModel):
    pass


class Extra(BaseModel, extra="allow"):
    name: str


class Steps(BaseModel):
    steps: Annotated[list[str], Field(min_length=1, max_length=4)]
    final: str


def closed(**properties: Any) -> dict[str, Any]:
    """An object that requires its properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


STRING = {"type": "string"}
INTEGER = {"type": "integer"}

SCHEMAS: dict[str, Any] = {
    model.__name__: model.model_json_schema()
    for model in (Address, Person, Tree, Cat, Pets, Measures, Times, Empty, Extra, Steps)
} | {
    "anything": True,
    "free object": {"type": "object"},
    "free array": {"type": "array"},
    "string": STRING,
    "number": {"type": "number"},
    "strict object": closed(name=STRING, score={"type": "number"}),
    "nullable": closed(note={"type": ["string", "null"]}, count={"anyOf": [INTEGER, {"type": "null"}]}),
    "enum": {"enum": ["a", 'say "hi"', "line\nbreak", "é", 1, 2.5, 0.1, -0.0, 10**25, True, None, [1, {"k": "v"}]]},
    "enum with type": {"type": "string", "enum": ["a", 1, "b"]},
    "const": closed(version={"const": 3}),
    "optional": {
        "type": "object",
        "properties": {"a": INTEGER, "b": STRING, "c": {"type": "boolean"}},
        "required": ["b"],
    },
    "counted": {
        "type": "object",
        "properties": {name: {"type": "null"} for name in "abcd"},
        "minProperties": 2,
        "maxProperties": 3,
    },
    "required undeclared": {"type": "object", "properties": {"a": INTEGER}, "required": ["a", "q"]},
    "pairs": {"type": "object", "additionalProperties": INTEGER, "minProperties": 1, "maxProperties": 3},
    "named and other pairs": {
        "type": "object",
        "properties": {"id": STRING, "idea": STRING, 'q"': INTEGER},
        "required": ["id"],
        "additionalProperties": {"type": "boolean"},
    },
    "pattern pairs": {"type": "object", "patternProperties": {"^x-[a-z]+$": INTEGER}, "additionalProperties": False},
    "named pairs": {"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": {"type": "null"}},
    "odd names": closed(**{'a"b': INTEGER, "c\\d": INTEGER, "e\nf": INTEGER, "é😀": INTEGER, "": INTEGER}),
    "tuple": {
        "type": "array",
        "prefixItems": [STRING, INTEGER],
        "items": {"type": "null"},
        "minItems": 1,
        "maxItems": 4,
    },
    "closed tuple": {"type": "array", "prefixItems": [STRING, INTEGER], "items": False},
    "bounded array": {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 3},
    "bounds": closed(
        a={"type": "integer", "exclusiveMinimum": -3, "maximum": 12},
        b={"type": "number", "minimum": -0.5, "exclusiveMaximum": 0.25},
        c={"type": "integer", "minimum": 1.5},
        d={"type": "number", "exclusiveMinimum": 99.5},
    ),
    "patterns": closed(
        slug={"type": "string", "pattern": "^[a-z0-9]+(?:-[a-z0-9]+)*$"},
        anywhere={"type": "string", "pattern": "[0-9]{2}"},
        quotes={"type": "string", "pattern": '^".{0,3}\\\\[\\n\\t]$'},
        negated={"type": "string", "pattern": "^[^a-z\\s]{2,4}$"},
        either={"type": "string", "pattern": "^a|b$"},
        letters={"type": "string", "pattern": "^\\w+\\W\\D\\S$"},
    ),
    "lengths": closed(
        a={"type": "string", "maxLength": 3},
        b={"type": "string", "minLength": 2},
        c={"type": "string", "minLength": 2, "maxLength": 2},
    ),
    "formats": closed(
        **{
            name: {"type": "string", "format": name}
            for name in ("date", "time", "duration", "ipv4", "ipv6", "hostname", "email", "uri")
        }
    ),
    "recursive root": {"type": "array", "items": {"$ref": "#"}},
    "linked list": {
        "$defs": {"node": closed(value=INTEGER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
        "$ref": "#/$defs/node",
    },
    "escaped reference": {"$defs": {"a/b~c %": INTEGER}, "$ref": "#/$defs/a~1b~0c%20%25"},
    "reference with annotations": closed(a={"$ref": "#/$defs/A", "description": "why", "default": 1})
    | {"$defs": {"A": INTEGER}},
    "single allOf": closed(a={"allOf": [{"$ref": "#/$defs/A"}], "title": "A"}) | {"$defs": {"A": STRING}},
    "oneOf types": {"oneOf": [INTEGER, STRING, {"type": "null"}]},
    "draft-07": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/x",
        "definitions": {"A": closed(x=INTEGER)},
        "$ref": "#/definitions/A",
    },
    "types": {"type": ["integer", "array", "object"], "minimum": 3, "maxItems": 1, "items": STRING},
    "no type": {"minimum": 3, "maximum": 5},
}


@pytest.fixture(params=SCHEMAS)
def example(request: pytest.FixtureRequest) -> Any:
    """Each of the schemas."""
    return SCHEMAS[request.param]


@pytest.fixture(scope="session")
def examples() -> dict[str, Any]:
    """The schemas by name."""
    return SCHEMAS
