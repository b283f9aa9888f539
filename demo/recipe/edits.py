"""Edit examples: repeat a text, or repeat it with one change.

Owns the tasks whose answer stands almost word for word in the question, which is where speculation from
n-grams of the prompt pays most.
"""

from collections.abc import Callable
from typing import Any, Final

from outrider.demo.recipe.code import any_function
from outrider.demo.recipe.conversation import Example, ask
from outrider.demo.recipe.domain import split
from outrider.demo.recipe.extraction import compact
from outrider.demo.recipe.stories import sentences
from outrider.demo.recipe.words import Writer

_REPEAT: Final = (
    "Repeat this text: {text}",
    "Repeat: {text}",
    "Repeat after me: {text}",
    "Copy this text exactly: {text}",
    "{text}\n\nRepeat the text above.",
    "Write the following once more: {text}",
    "Say this again: {text}",
    "Echo: {text}",
)
_REPLACE: Final = (
    "Replace {old} by {new} in: {text}",
    "Replace {old} with {new} in this text: {text}",
    "Write {new} instead of {old}: {text}",
    "Rename {old} to {new} in:\n{text}",
    "{text}\n\nReplace {old} by {new}.",
    "Change {old} to {new}: {text}",
    "{text}\n\nWrite {new} instead of {old}.",
    "In this text, change {old} to {new}: {text}",
)
_SET: Final = (
    "Set {key} to {value} in {text}",
    "Change the {key} to {value} in {text}",
    "{text}\nSet {key} to {value}.",
    "Update {key} to {value}: {text}",
)
_REMOVE: Final = (
    "Remove {key} from {text}",
    "Delete the key {key} in {text}",
    "{text}\nRemove {key}.",
    "Drop {key}: {text}",
)
_ADD: Final = (
    "Add {key} with the value {value} to {text}",
    "{text}\nAdd {key} with the value {value}.",
    "Append {key} = {value} to {text}",
    "Put {key} with the value {value} at the end of {text}",
)


def repetition(writer: Writer) -> Example:
    """The text again, word for word."""
    text = _text(writer)
    return ask("edit/repeat", writer.one(split(_REPEAT, held_out=writer.held_out)).format(text=text), text)


def replacement(writer: Writer) -> Example:
    """The text again, with one word or value replaced wherever it stands."""
    text = _text(writer)
    candidates = sorted({word.strip('.,:;"(){}[]') for word in text.split() if word.isascii()})
    # A candidate inside of another word would be replaced there too: "is" in "this".
    whole = [word for word in candidates if len(word) > 2 and text.count(word) <= 3 and word.isalnum()]
    if not whole:
        return repetition(writer)
    old = writer.one(whole)
    new = writer.digits(len(old)) if old.isdigit() else writer.coined()
    new = new.capitalize() if old[0].isupper() else new
    question = writer.one(split(_REPLACE, held_out=writer.held_out)).format(old=old, new=new, text=text)
    return ask("edit/replace", question, text.replace(old, new))


def json_edit(writer: Writer) -> Example:
    """A JSON object again, with one value set, one key removed or one key added."""
    draws: tuple[tuple[str, Callable[[Writer], Any]], ...] = (
        ("name", Writer.person),
        ("city", Writer.city),
        ("price", Writer.price),
        ("count", lambda writer: writer.integer(1, 999)),
        ("item", Writer.item),
        ("id", Writer.code),
        ("date", Writer.date),
        ("title", Writer.title),
        ("paid", lambda writer: writer.chance(0.5)),
    )
    chosen = writer.some(draws, writer.integer(3, 6))
    before = {key: draw(writer) for key, draw in chosen}
    key, draw = writer.one(chosen)
    wordings, after = _SET, {**before, key: draw(writer)}
    if writer.chance(0.25):
        wordings, after = _REMOVE, {name: value for name, value in before.items() if name != key}
    elif writer.chance(0.25):
        wordings, after = _ADD, {**before, key: before.pop(key)}
        after = {**before, key: after[key]}
    value = after.get(key)
    question = writer.one(split(wordings, held_out=writer.held_out)).format(
        key=key, value=value if isinstance(value, str) else compact(value), text=compact(before)
    )
    return ask("edit/json", question, compact(after))


def _text(writer: Writer) -> str:
    """A text worth copying: sentences, words, numbers, code or JSON."""
    maker = writer.weighted((_prose, _words, _numbers, any_function, _record), (5, 3, 1, 2, 1))
    return maker(writer)


def _prose(writer: Writer) -> str:
    return sentences(writer, writer.integer(1, 4))


def _words(writer: Writer) -> str:
    draws = (writer.coined, writer.first_name, writer.city, writer.item, writer.code)
    return writer.one((" ", ", ")).join(writer.one(draws)() for _ in range(writer.integer(3, 12)))


def _numbers(writer: Writer) -> str:
    return ", ".join(writer.digits(writer.integer(1, 5)) for _ in range(writer.integer(3, 8)))


def _record(writer: Writer) -> str:
    return compact({"name": writer.person(), "city": writer.city(), "code": writer.code()})
