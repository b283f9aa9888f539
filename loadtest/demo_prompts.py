"""The built-in prompts: extraction, repetition, questions and talk, with generated names and numbers.

They are short, mixed in length, and no two are alike, so that a prefix cache finds little. Knows nothing of requests.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

_COMMON = """
the of and a to in is you that it he was for on are as with his they I at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then them
these so some her would make like him into time has look two more write go see number no way could people my than first
water been call who oil its now find long down day did get come made may part
"""
COMMON_WORDS = tuple(_COMMON.split())


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """`max_tokens` is a little more than the expected answer needs."""

    text: str
    max_tokens: int
    response_format: dict[str, object] | None = None


def demo_prompts(generator: random.Random) -> Iterator[DemoPrompt]:
    """Endless; the kinds take turns, and every other extraction asks for its schema to be enforced."""
    kinds: tuple[Callable[[random.Random], DemoPrompt], ...] = (
        _extraction,
        _question,
        _repetition,
        _talk,
        _free_extraction,
        _question,
        _repetition,
        _talk,
    )
    return (kind(generator) for kind in cycle(kinds))


_NAMES = ("Ada", "Bruno", "Chloe", "Dmitri", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaito", "Lena", "Omar", "Rosa")
_CITIES = ("Lisbon", "Oslo", "Nairobi", "Lima", "Kyoto", "Ghent", "Turin", "Riga", "Quito", "Cork", "Bergen", "Hobart")
_JOBS = ("baker", "nurse", "pilot", "welder", "teacher", "gardener", "surveyor", "carpenter", "chemist")
_GOODS = ("lamps", "kettles", "chairs", "ropes", "tiles", "pumps", "filters", "brushes", "ladders", "hinges")
_TOPICS = ("the sea", "old maps", "growing tomatoes", "a long train journey", "winter light", "a broken clock", "birds")
_ASIDES = (
    "The weather had been dry for weeks.",
    "Nobody expected the meeting to last that long.",
    "A small crowd had gathered near the station.",
    "The letter arrived two days later than planned.",
    "Most of the shops were still closed at that hour.",
)

_PERSON_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
        "job": {"type": "string"},
    },
    "required": ["name", "age", "city", "job"],
    "additionalProperties": False,
}
_PERSON_FORMAT: dict[str, object] = {
    "type": "json_schema",
    "json_schema": {"name": "person", "strict": True, "schema": _PERSON_SCHEMA},
}


def _extraction(generator: random.Random) -> DemoPrompt:
    return DemoPrompt(_extraction_text(generator), max_tokens=64, response_format=_PERSON_FORMAT)


def _free_extraction(generator: random.Random) -> DemoPrompt:
    return DemoPrompt(_extraction_text(generator), max_tokens=64)


def _extraction_text(generator: random.Random) -> str:
    fact = (
        f"{generator.choice(_NAMES)} is {generator.randint(18, 90)} years old, lives in {generator.choice(_CITIES)}"
        f" and works as a {generator.choice(_JOBS)}."
    )
    sentences = [*generator.choices(_ASIDES, k=generator.randint(0, 6)), fact]
    generator.shuffle(sentences)
    return f"Give the name, age, city and job of the person as a JSON object.\n\n{' '.join(sentences)}"


def _repetition(generator: random.Random) -> DemoPrompt:
    num_lines = generator.randint(3, 10)
    lines = [
        f"{generator.randint(10, 999)} {generator.choice(_GOODS)} for {generator.choice(_CITIES)}"
        for _ in range(num_lines)
    ]
    return DemoPrompt("Repeat this list word for word:\n\n" + "\n".join(lines), max_tokens=16 * num_lines)


def _question(generator: random.Random) -> DemoPrompt:
    first, second = generator.randint(2, 99), generator.randint(2, 99)
    name, goods = generator.choice(_NAMES), generator.choice(_GOODS)
    text = f"{name} has {first} {goods} and buys {second} more. How many {goods} does {name} have now?"
    return DemoPrompt(text, max_tokens=32)


def _talk(generator: random.Random) -> DemoPrompt:
    name, topic = generator.choice(_NAMES), generator.choice(_TOPICS)
    text = f"Hello, I am {name} from {generator.choice(_CITIES)}. Tell me something about {topic}, in a few sentences."
    return DemoPrompt(text, max_tokens=generator.choice((48, 96, 192)))
