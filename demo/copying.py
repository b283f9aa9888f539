"""Copying examples: repeat a text, or repeat it with one small change.

Owns the tasks whose answer stands almost word for word in the question, which is where speculation from
n-grams of the prompt pays most.
"""

from collections.abc import Callable
from typing import Final

from outrider.demo import words
from outrider.demo.conversation import Example, ask
from outrider.demo.extraction import compact
from outrider.demo.stories import sentences
from outrider.demo.words import Writer

_REPEAT: Final = (
    "Repeat this text: {text}",
    "Repeat: {text}",
    "Repeat after me: {text}",
    "Copy this text exactly: {text}",
    "Say this again: {text}",
    "{text}\n\nRepeat the text above.",
    "Write the following once more: {text}",
    "Echo: {text}",
)
_REPLACE: Final = (
    "Replace {old} by {new} in: {text}",
    "Replace {old} with {new} in this text: {text}",
    "Write {new} instead of {old}: {text}",
    "Change {old} to {new}: {text}",
    "Rename {old} to {new} in:\n{text}",
    "{text}\n\nReplace {old} by {new}.",
)
_FUNCTIONS: Final = (
    "def {a}({b}, {c}):\n    {d} = {b} + {c}\n    return {d}\n",
    "def {a}({b}):\n    {d} = 0\n    for {c} in {b}:\n        {d} += {c}\n    return {d}\n",
    "def {a}({b}):\n    if {b} is None:\n        return {c}\n    return {b}.{d}\n",
    "class {A}:\n    def __init__(self, {b}, {c}):\n        self.{b} = {b}\n        self.{c} = {c}\n",
    'for {a} in {b}:\n    print({a}, "{c}")\n    {d} = {a} + 1\n',
)


def repetition(writer: Writer) -> Example:
    """The text again, word for word."""
    text = _text(writer)
    return ask("repeat", writer.one(_REPEAT).format(text=text), text)


def replacement(writer: Writer) -> Example:
    """The text again, with one word or value replaced wherever it stands."""
    text = _text(writer)
    candidates = sorted({word.strip('.,:;"(){}') for word in text.split() if word.isascii()})
    # A candidate inside of another word would be replaced there too: "is" in "this".
    whole = [word for word in candidates if len(word) > 2 and text.count(word) <= 3 and word.isalnum()]
    if not whole:
        return repetition(writer)
    old = writer.one(whole)
    new = writer.digits(len(old)) if old.isdigit() else writer.coined()
    new = new.capitalize() if old[0].isupper() else new
    question = writer.one(_REPLACE).format(old=old, new=new, text=text)
    return ask("replace", question, text.replace(old, new))


def json_edit(writer: Writer) -> Example:
    """A JSON object again, with one value set or one key removed."""
    draws: tuple[tuple[str, Callable[[Writer], object]], ...] = (
        ("name", Writer.person),
        ("city", Writer.city),
        ("price", Writer.price),
        ("count", lambda writer: writer.integer(1, 999)),
        ("item", Writer.item),
        ("id", Writer.code),
        ("date", Writer.date),
    )
    chosen = writer.some(draws, writer.integer(2, 5))
    before = {key: draw(writer) for key, draw in chosen}
    key, draw = writer.one(chosen)
    if writer.chance(0.3):
        after = {name: value for name, value in before.items() if name != key}
        question = writer.one((f"Remove {key} from", f"Delete the key {key} in"))
    else:
        after = {**before, key: draw(writer)}
        question = writer.one((f"Set {key} to {after[key]} in", f"Change the {key} to {after[key]} in"))
    return ask("edit", f"{question} {compact(before)}", compact(after))


def _text(writer: Writer) -> str:
    """A text worth copying: sentences, words, numbers, code or JSON."""
    maker = writer.weighted((_prose, _words, _numbers, _function, _record), (4, 3, 1, 2, 1))
    return maker(writer)


def _prose(writer: Writer) -> str:
    return sentences(writer, writer.integer(1, 5))


def _words(writer: Writer) -> str:
    draws = (writer.coined, writer.first_name, writer.city, writer.item, writer.code)
    return writer.one((" ", ", ")).join(writer.one(draws)() for _ in range(writer.integer(3, 14)))


def _numbers(writer: Writer) -> str:
    return ", ".join(writer.digits(writer.integer(1, 5)) for _ in range(writer.integer(3, 10)))


def _function(writer: Writer) -> str:
    names = {key: writer.one((*words.ITEMS, *words.FRUITS, writer.coined(), writer.coined())) for key in "abcd"}
    return writer.one(_FUNCTIONS).format(A=writer.coined().capitalize(), **names).rstrip("\n")


def _record(writer: Writer) -> str:
    return compact({"name": writer.person(), "city": writer.city(), "code": writer.code()})
