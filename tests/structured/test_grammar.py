"""Grammars in the engine: what they let through, and how they are taken back."""

import json
import random
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.structured.constraint import CompiledGrammar
from outrider.structured.errors import GrammarError
from outrider.structured.grammar import Grammar, GrammarLoader
from outrider.structured.mask import allocate_bitmask
from outrider.structured.packing import GUIDANCE, SOURCE

GrammarOf = Callable[[Any], Grammar]
CLOSING = (b'"', b"}", b"]", b",", b":")
STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object that requires its properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def allowed(grammar: Grammar, vocabulary: Any) -> list[int]:
    """Ids of the tokens that may follow."""
    bitmask = allocate_bitmask(2, vocabulary.size)
    grammar.fill_mask(bitmask, 1)
    assert torch.all(bitmask[0] == -1), "another row has changed"
    bits = np.unpackbits(bitmask[1].numpy().view(np.uint8), bitorder="little")[: vocabulary.size]
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def random_text(grammar: Grammar, vocabulary: Any, seed: int) -> str | None:
    """Text along random legal tokens; None when it does not end in time."""
    generator, data = random.Random(seed), b""
    for step in range(2000):
        choices = allowed(grammar, vocabulary)
        ordinary = [token_id for token_id in choices if token_id not in vocabulary.stop_token_ids]
        if len(ordinary) < len(choices) and (not ordinary or step > 20 or generator.random() < 0.5):
            return data.decode()
        closing = [token_id for token_id in ordinary if vocabulary.pieces[token_id].startswith(CLOSING)]
        token_id = generator.choice(closing if closing and generator.random() < 0.5 else ordinary)
        assert grammar.accept(token_id), "the mask and the matcher disagree"
        data += vocabulary.pieces[token_id]
    return None


def test_every_text_validates(example: Any, grammar_of: GrammarOf, vocabulary: Any) -> None:
    """Whatever the masks let through is JSON that an independent validator accepts."""
    draft = jsonschema.validators.validator_for(example, default=jsonschema.Draft202012Validator)
    validator = draft(example, format_checker=draft.FORMAT_CHECKER)
    texts = [random_text(grammar_of(example), vocabulary, seed) for seed in range(8)]

    finished = [text for text in texts if text is not None]
    assert finished
    for text in finished:
        assert [] == [error.message for error in validator.iter_errors(json.loads(text))], text


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    """Objects of optional and required one-letter properties, counted or open."""
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    required = [name for name in names if draw(st.booleans())]
    most = draw(st.none() | st.integers(max(1, len(required)), 5))
    least = draw(st.integers(0, min(len(names), most or 4)))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"const": 1} for name in names},
        "required": required,
    }
    schema["additionalProperties"] = draw(st.booleans() if least <= max(1, len(required)) else st.just(False))
    return schema | {"minProperties": least} | ({} if most is None else {"maxProperties": most})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects())
def test_objects_are_complete(grammar_of: GrammarOf, vocabulary: Any, schema: dict[str, Any]) -> None:
    """Every valid choice of declared properties, in order, is accepted, and no other."""
    grammar = grammar_of(schema)
    names = list(schema["properties"])
    for choice in range(2 ** len(names)):
        value = {name: 1 for bit, name in enumerate(names) if choice >> bit & 1}
        tokens = vocabulary.tokens(json.dumps(value, separators=(",", ":")))
        taken = next((i for i, token_id in enumerate(tokens) if not grammar.accept(token_id)), len(tokens))

        assert jsonschema.Draft202012Validator(schema).is_valid(value) == (taken == len(tokens) and grammar.is_done)
        grammar.rollback(taken)


@pytest.mark.parametrize("bounds", [(0, None), (0, 0), (0, 2), (1, None), (2, 3), (3, 3)])
@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("items", [False, True])
def test_arrays_are_complete(
    bounds: tuple[int, int | None], prefix: int, items: bool, grammar_of: GrammarOf, vocabulary: Any
) -> None:
    """An array is accepted exactly when its length and the kinds of its items are right."""
    least, most = bounds
    schema: dict[str, Any] = {"type": "array", "minItems": least, "items": {"const": 7} if items else False}
    schema |= {"prefixItems": [{"const": index} for index in range(prefix)]} if prefix else {}
    schema |= {} if most is None else {"maxItems": most}
    if not items and least > prefix:
        pytest.skip("no array is long enough")
    grammar = grammar_of(schema)
    for length in range(6):
        value = [index if index < prefix else 7 for index in range(length)]
        tokens = vocabulary.tokens(json.dumps(value, separators=(",", ":")))
        taken = next((i for i, token_id in enumerate(tokens) if not grammar.accept(token_id)), len(tokens))

        assert jsonschema.Draft202012Validator(schema).is_valid(value) == (taken == len(tokens) and grammar.is_done)
        grammar.rollback(taken)


def test_a_valid_answer_is_accepted(examples: dict[str, Any], grammar_of: GrammarOf, vocabulary: Any) -> None:
    """An answer in the order of a pydantic model's schema passes its grammar."""
    address = {"street": "é", "zip_code": "12345"}
    person = {"name": 'Ada "Countess"\nLovelace 😀', "age": 36, "email": None, "address": address}
    person |= {"previous": [address, address], "color": "red"}
    grammar = grammar_of(examples["Person"])

    text = json.dumps(person, ensure_ascii=False, separators=(",", ":"))
    assert all(grammar.accept(token_id) for token_id in vocabulary.tokens(text))
    assert grammar.is_done


def test_added_tokens_never_stand_in_text(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """Inside a string every ordinary token may follow, but no special or added one, though its text would fit."""
    grammar = grammar_of(STRING)
    assert grammar.accept(vocabulary.tokens('"')[0])

    choices = set(allowed(grammar, vocabulary))

    assert not choices & set(vocabulary.added_token_ids)
    assert not [token_id for token_id in choices if not vocabulary.pieces[token_id]]
    assert set(vocabulary.tokens("<think>")) <= choices


def test_rollback_restores_every_mask(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """Taking tokens back, the stop token too, leads through the same masks in reverse."""
    grammar = grammar_of(closed(name=STRING, tags={"type": "array", "items": INTEGER}))
    tokens = [*vocabulary.tokens('{"name":"Ada","tags":[1,23]}'), vocabulary.stop_token_ids[0]]
    masks, done = [allowed(grammar, vocabulary)], [grammar.is_done]
    for token_id in tokens:
        assert grammar.accept(token_id)
        masks.append(allowed(grammar, vocabulary))
        done.append(grammar.is_done)

    for count in range(len(tokens) - 1, -1, -1):
        grammar.rollback(1)

        assert masks[count] == allowed(grammar, vocabulary)
        assert done[count] == grammar.is_done
    for token_id in tokens:
        assert grammar.accept(token_id)
    grammar.rollback(len(tokens))
    assert masks[0] == allowed(grammar, vocabulary)


def test_refused_tokens_change_nothing(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """A forbidden, padded or foreign id is refused and leaves the mask as it was."""
    grammar = grammar_of(closed(a=INTEGER))
    before = allowed(grammar, vocabulary)

    for token_id in (vocabulary.tokens("]")[0], vocabulary.stop_token_ids[0], vocabulary.size - 1, 10**6, -1):
        assert not grammar.accept(token_id)

    assert before == allowed(grammar, vocabulary)


def test_the_end_allows_stop_tokens_alone(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """A complete text is done when nothing can extend it: an object at once, a number not yet."""
    grammar = grammar_of({"anyOf": [closed(a=INTEGER), INTEGER]})
    for token_id in vocabulary.tokens("12"):
        assert grammar.accept(token_id)
    assert not grammar.is_done
    assert set(vocabulary.stop_token_ids) < set(allowed(grammar, vocabulary))
    grammar.rollback(len(vocabulary.tokens("12")))
    for token_id in vocabulary.tokens('{"a":1}'):
        assert grammar.accept(token_id)

    assert grammar.is_done
    assert sorted(vocabulary.stop_token_ids) == allowed(grammar, vocabulary)
    assert grammar.accept(vocabulary.stop_token_ids[1])
    assert grammar.is_done
    assert sorted(vocabulary.stop_token_ids) == allowed(grammar, vocabulary)
    assert not grammar.accept(vocabulary.tokens("1")[0])


@pytest.mark.parametrize("name", ["recursive root", "linked list", "anything"])
def test_masks_and_acceptance_agree(
    name: str, examples: dict[str, Any], grammar_of: GrammarOf, vocabulary: Any
) -> None:
    """In recursive grammars too, a token is in the mask exactly when it can be accepted."""
    grammar = grammar_of(examples[name])
    generator = random.Random(1)
    for _ in range(30):
        choices = allowed(grammar, vocabulary)
        accepted = []
        for token_id in range(vocabulary.size):
            if grammar.accept(token_id):
                grammar.rollback(1)
                accepted.append(token_id)

        assert accepted == choices
        ordinary = [token_id for token_id in choices if token_id not in vocabulary.stop_token_ids]
        if not ordinary:
            break
        grammar.accept(generator.choice(ordinary))


def test_text_is_compact(grammar_of: GrammarOf, vocabulary: Any) -> None:
    """No whitespace stands between the parts, so that none can be repeated without end."""
    grammar = grammar_of({"type": "object"})
    for part in ("{", '"a"', ":", "[", "1", ",", "{", "}", "]", ",", '"b"', ":", "null", "}"):
        spaces = [t for t in allowed(grammar, vocabulary) if vocabulary.pieces[t][:1] in (b" ", b"\n", b"\t", b"\r")]

        assert [] == spaces, part
        assert all(grammar.accept(token_id) for token_id in vocabulary.tokens(part))


def test_loader_keeps_what_is_used(
    vocabulary: Any, compile_here: Callable[[Any], CompiledGrammar], grammar_of: GrammarOf
) -> None:
    """Above its bound the loader gives up the grammar that was used least recently."""
    small = GrammarLoader(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids, cache_bytes=1)
    first, second = compile_here(INTEGER), compile_here(STRING)
    small.load(first)
    running = small.matcher(first.key)

    small.load(second)

    assert second.key in small
    assert running.accept(vocabulary.tokens("1")[0])
    with pytest.raises(GrammarError, match="not loaded"):
        small.matcher(first.key)


def test_loader_refuses_what_does_not_fit(
    vocabulary: Any, compile_here: Callable[[Any], CompiledGrammar], loader: GrammarLoader
) -> None:
    """A grammar for another vocabulary, of another backend or damaged is no grammar here."""
    compiled = compile_here(closed(only=STRING))
    other = GrammarLoader(vocabulary.path, vocabulary.size + 1, vocabulary.stop_token_ids)

    if compiled.backend != GUIDANCE:  # whose grammars are text
        with pytest.raises(GrammarError, match="vocabulary"):
            other.load(compiled)
    with pytest.raises(GrammarError, match="does not fit"):
        loader.load(CompiledGrammar("k", compiled.backend, compiled.data[:100]))
    with pytest.raises(GrammarError, match="backend"):
        loader.load(CompiledGrammar("k", "other", compiled.data))


def test_grammars_of_many_rules_travel_as_source(
    vocabulary: Any, compile_here: Callable[[Any], CompiledGrammar], grammar_of: GrammarOf
) -> None:
    """The engine compiles again what would take longer to parse, and gets the same grammar."""
    names = [f"field{index}" for index in range(150)]
    schema = closed(**{name: {"properties": {"a" + name: STRING, "b" + name: INTEGER}} for name in names})
    compiled = compile_here(schema)
    if compiled.backend == GUIDANCE:
        pytest.skip("always travels as text")
    grammar = grammar_of(schema)
    text = json.dumps({name: {"b" + name: 1} for name in names}, separators=(",", ":"))

    assert SOURCE == compiled.backend
    assert len(compiled.data) < 60_000
    assert all(grammar.accept(token_id) for token_id in vocabulary.tokens(text))
    assert grammar.is_done
