"""Training text says the same thing in many wordings; held-out wordings stay out of it."""

from collections.abc import Iterator
from string import Formatter

import pytest

from outrider.demo.recipe import extraction, passages
from outrider.demo.recipe.domain import GENERIC, split
from outrider.demo.recipe.domains import DOMAINS
from outrider.demo.recipe.functions import FUNCTIONS
from outrider.demo.recipe.rewording import opened, reworded, worded
from outrider.demo.recipe.words import Writer


def _placeholders(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _templates() -> Iterator[tuple[str, ...]]:
    yield GENERIC
    yield from (extraction._WITH_SCHEMA, extraction._WITH_KEYS, extraction._BARE, passages._PASSAGE)
    for domain in DOMAINS:
        yield domain.heads
        yield from (field.facts for field in domain.fields.values())
    yield from (function.wishes for function in FUNCTIONS)


@pytest.mark.parametrize("templates", list(_templates()), ids=lambda templates: templates[0])
def test_rewording_keeps_every_placeholder_in_its_place(templates: tuple[str, ...]) -> None:
    writer = Writer(1)
    for template in templates:
        for _ in range(20):
            assert _placeholders(opened(writer, reworded(writer, template))) == _placeholders(template)


@pytest.mark.parametrize("templates", list(_templates()), ids=lambda templates: templates[0])
def test_no_training_wording_is_a_held_out_one(templates: tuple[str, ...]) -> None:
    writer = Writer(2)
    held_out = set(split(templates, held_out=True))
    assert not held_out & {worded(writer, templates) for _ in range(300)}


def test_held_out_wordings_are_used_as_they_are_written() -> None:
    writer = Writer(3, held_out=True)
    held_out = set(split(GENERIC, held_out=True))
    assert {opened(writer, worded(writer, GENERIC)) for _ in range(300)} == held_out


def test_a_template_has_many_wordings() -> None:
    writer = Writer(4)
    assert len({reworded(writer, "They want to buy the {item} for {price}.") for _ in range(300)}) > 50
