"""The generated text: reproducible, varied, held apart, and with answers that follow from the questions."""

import ast
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator

from outrider.demo.recipe import code, edits, extraction, passages, tools
from outrider.demo.recipe.conversation import Example
from outrider.demo.recipe.domain import GENERIC, mentioned, split
from outrider.demo.recipe.domains import DOMAINS
from outrider.demo.recipe.evaluation import calls
from outrider.demo.recipe.mixture import HELD_OUT_KINDS, examples, held_out_records, only, record
from outrider.demo.recipe.words import Writer

SIDES = pytest.mark.parametrize("held_out", [False, True])


def take(seed: int, count: int = 400, *, held_out: bool = False) -> list[Example]:
    return list(itertools.islice(examples(seed, held_out=held_out), count))


def extractions(seed: int, count: int, *, held_out: bool) -> Iterator[Example]:
    return itertools.islice(only(extraction.extraction, seed, held_out=held_out), count)


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@SIDES
def test_the_same_seed_gives_the_same_examples(held_out: bool) -> None:
    """A checkpoint can be rebuilt because its text can."""
    assert take(3, held_out=held_out) == take(3, held_out=held_out)


def test_held_out_questions_are_new() -> None:
    """Only small talk and lists, which have no values to vary, occur on both sides."""
    trained = {example.messages for example in take(3, 3000)}
    shared = [example for example in take(4, 500, held_out=True) if example.messages in trained]

    assert {"talk"} >= {example.kind.split("/")[0] for example in shared}


def test_every_task_occurs() -> None:
    """No task of the mixture is forgotten."""
    kinds = {example.kind.split("/")[0] for example in take(3)}

    assert {"code", "conversation", "edit", "extraction", "question", "story", "talk", "tool"} == kinds


def test_there_are_at_least_twelve_domains() -> None:
    """And no field of a domain lacks a sentence on either side of the split."""
    assert len({domain.name for domain in DOMAINS}) >= 12
    for domain in DOMAINS:
        for field in domain.fields.values():
            assert len(field.facts) >= 4
            assert all("{}" in fact for fact in field.facts)
        assert all(set(mentioned(head)) <= domain.fields.keys() for head in domain.heads)


def test_wordings_are_split_without_overlap() -> None:
    """What is held out never trains, and the other way round."""
    wordings = [GENERIC, *(domain.heads for domain in DOMAINS)]
    wordings += [field.facts for domain in DOMAINS for field in domain.fields.values()]
    for templates in wordings:
        sides = [set(split(templates, held_out=held_out)) for held_out in (False, True)]

        assert all(sides)
        assert not sides[0] & sides[1]
        assert sides[0] | sides[1] == set(templates)


@pytest.mark.parametrize("draw", [Writer.person, Writer.city, Writer.code, Writer.date, Writer.price, Writer.coined])
def test_held_out_values_never_train(draw) -> None:
    """Names, codes, dates and amounts belong to one side for good."""
    trained = _parts(draw, held_out=False)

    assert not trained & _parts(draw, held_out=True)


def _parts(draw, *, held_out: bool) -> set[str]:
    """A person's two names count each."""
    writer = Writer(1, held_out=held_out)
    return {part.lower() for _ in range(2000) for part in str(draw(writer)).split()}


def test_conversations_end_with_the_assistant() -> None:
    """The last message is what a model should say."""
    last = {example.messages[-1].role for example in take(3) if example.kind != "story"}

    assert {"assistant"} == last


@SIDES
def test_extracted_values_stand_in_the_text(held_out: bool) -> None:
    """A model can answer by copying: every string and number of the JSON is in the question."""
    for example in extractions(5, 500, held_out=held_out):
        prompt = example.messages[-2].content.lower()
        values = [value for value in leaves(json.loads(example.answer)) if not isinstance(value, bool)]

        assert [] == [value for value in values if str(value).lower() not in prompt]


@SIDES
def test_extraction_answers_obey_their_schemas(held_out: bool) -> None:
    """Compact JSON, valid, with the keys in the schema's order: what constrained decoding writes."""
    for example in extractions(6, 500, held_out=held_out):
        answer = json.loads(example.answer)

        assert example.answer == json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        if example.schema is not None:
            Draft202012Validator(example.schema).validate(answer)
            order = list(example.schema["properties"])
            assert list(answer) == [key for key in order if key in answer]


def test_schemas_vary() -> None:
    """Nested objects, arrays, enums, numbers, booleans and optional keys all occur, in many domains."""
    schemas = [example.schema for example in extractions(7, 600, held_out=False) if example.schema]
    text = json.dumps(schemas)

    assert all(f'"type": "{name}"' in text for name in ("string", "integer", "number", "boolean", "array", "object"))
    assert '"enum"' in text
    assert any(set(schema["required"]) < schema["properties"].keys() for schema in schemas)
    assert any(inner.get("type") == "object" for schema in schemas for inner in schema["properties"].values())


@SIDES
def test_tool_calls_obey_their_declarations(held_out: bool) -> None:
    """Each called function is offered, and its arguments obey its parameters."""
    kinds: Counter[str] = Counter()
    for example in itertools.islice(only(tools.tool_call, 8, held_out=held_out), 400):
        kinds[example.kind] += 1
        declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in example.tools}
        for message in example.messages:
            for call in calls(message.content):
                Draft202012Validator(declared[call["name"]]).validate(call["arguments"])
    assert {"tool/none", "tool/one", "tool/reply", "tool/two"} == kinds.keys()


def test_a_wish_that_no_tool_fits_is_declined() -> None:
    """No call is made up."""
    declined = [e for e in itertools.islice(only(tools.tool_call, 9), 300) if e.kind == "tool/none"]

    assert {tools.NO_TOOL} == {example.answer for example in declined}


@SIDES
def test_code_compiles_and_has_a_docstring(held_out: bool) -> None:
    """Every function is Python."""
    for example in itertools.islice(only(code.function, 10, held_out=held_out), 200):
        (definition,) = ast.parse(example.answer).body

        assert isinstance(definition, ast.FunctionDef)
        assert ast.get_docstring(definition)
        assert definition.name in example.messages[-2].content


def test_answers_about_a_passage_stand_in_it() -> None:
    """With thoughts, the sentence thought of is the passage's too."""
    for example in itertools.islice(only(passages.question, 11), 200):
        answer = re.sub(r"<think>(.*)</think>", r"\1", example.answer)

        assert all(f"{sentence}." in example.messages[-2].content for sentence in answer.rstrip(".").split("."))


def test_edited_json_is_json() -> None:
    """Before and after."""
    for example in itertools.islice(only(edits.json_edit, 12), 200):
        assert isinstance(json.loads(example.answer), dict)


def test_records_are_chat_lines() -> None:
    """What `outrider train --data` reads."""
    for example in take(3, 50):
        line = json.loads(json.dumps(record(example)))

        assert ("text" in line) != ("messages" in line)


def test_held_out_records_cover_every_kind_evenly() -> None:
    """The table of `outrider train evaluate` has a row for each."""
    kinds = Counter(line["kind"] for line in held_out_records(3))

    assert dict.fromkeys(HELD_OUT_KINDS, 3) == kinds
