"""Code examples: short Python functions with a docstring, asked for by what they do.

Owns the functions and their wording; names of functions and parameters are drawn anew each time.
"""

import keyword
from dataclasses import dataclass
from typing import Final

from outrider.demo.recipe.conversation import Example, ask
from outrider.demo.recipe.domain import split
from outrider.demo.recipe.words import Writer

_ASK: Final = (
    "Write a Python function {f} that {does}.",
    "Write a function {f} that {does}.",
    "Python function {f}: it {does}.",
    "I need a Python function called {f} that {does}.",
    "Define {f}, a function that {does}.",
    "Please write {f} in Python. It {does}.",
    "Code a function {f} which {does}.",
    "Give me a Python function named {f} that {does}.",
)


@dataclass(frozen=True, slots=True)
class _Snippet:
    """What a function does, with its parameters `a` and `b` in braces, and its body."""

    does: str
    parameters: tuple[str, ...]
    body: str


_SNIPPETS: Final = (
    _Snippet("adds {a} and {b}", ("a", "b"), "return {a} + {b}"),
    _Snippet("subtracts {b} from {a}", ("a", "b"), "return {a} - {b}"),
    _Snippet("multiplies {a} and {b}", ("a", "b"), "return {a} * {b}"),
    _Snippet("divides {a} by {b}", ("a", "b"), "return {a} / {b}"),
    _Snippet("returns the larger of {a} and {b}", ("a", "b"), "return {a} if {a} > {b} else {b}"),
    _Snippet("returns the smaller of {a} and {b}", ("a", "b"), "return {a} if {a} < {b} else {b}"),
    _Snippet("returns the square of {a}", ("a",), "return {a} * {a}"),
    _Snippet("returns whether {a} is even", ("a",), "return {a} % 2 == 0"),
    _Snippet("returns whether {a} is odd", ("a",), "return {a} % 2 == 1"),
    _Snippet("returns {a} in reverse", ("a",), "return {a}[::-1]"),
    _Snippet("counts {b} in {a}", ("a", "b"), "return {a}.count({b})"),
    _Snippet("returns the length of {a}", ("a",), "return len({a})"),
    _Snippet("returns the last element of {a}", ("a",), "return {a}[-1]"),
    _Snippet("returns the first element of {a}", ("a",), "return {a}[0]"),
    _Snippet("returns {a} in upper case", ("a",), "return {a}.upper()"),
    _Snippet("returns {a} in lower case", ("a",), "return {a}.lower()"),
    _Snippet("joins {a} with {b}", ("a", "b"), "return {b}.join({a})"),
    _Snippet("splits {a} at {b}", ("a", "b"), "return {a}.split({b})"),
    _Snippet("sorts {a}", ("a",), "return sorted({a})"),
    _Snippet("sums up {a}", ("a",), "total = 0\n    for value in {a}:\n        total += value\n    return total"),
    _Snippet(
        "returns the factorial of {a}",
        ("a",),
        "result = 1\n    for factor in range(2, {a} + 1):\n        result *= factor\n    return result",
    ),
    _Snippet(
        "returns the values of {a} above {b}",
        ("a", "b"),
        "return [value for value in {a} if value > {b}]",
    ),
    _Snippet(
        "returns the index of {b} in {a} or -1",
        ("a", "b"),
        "for index, value in enumerate({a}):\n        if value == {b}:\n            return index\n    return -1",
    ),
    _Snippet(
        "counts how often each element of {a} occurs",
        ("a",),
        "counts = {{}}\n    for value in {a}:\n        counts[value] = counts.get(value, 0) + 1\n    return counts",
    ),
)


def function(writer: Writer) -> Example:
    """A request for a function and the function."""
    snippet = writer.one(_SNIPPETS)
    names = {name: _identifier(writer) for name in snippet.parameters}
    name = f"{_identifier(writer)}_{_identifier(writer)}" if writer.chance(0.5) else _identifier(writer)
    does = snippet.does.format(**names)
    question = writer.one(split(_ASK, held_out=writer.held_out)).format(f=name, does=does)
    return ask("code", question, source(snippet, name, names))


def source(snippet: _Snippet, name: str, names: dict[str, str]) -> str:
    """The function's text."""
    docstring = snippet.does.format(**names)
    body = snippet.body.format(**names)
    return f'def {name}({", ".join(names.values())}):\n    """{docstring[0].upper()}{docstring[1:]}."""\n    {body}'


def any_function(writer: Writer) -> str:
    """A function as text to copy or edit."""
    return function(writer).answer


def _identifier(writer: Writer) -> str:
    while True:
        name = writer.thing() if writer.chance(0.4) else writer.coined(1, 2)
        if not keyword.iskeyword(name):
            return name
