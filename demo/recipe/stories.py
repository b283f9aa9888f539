"""Plain prose: short sentences about made-up people and animals, for completions and as text to copy.

Owns the sentence patterns. Does not know about questions or answers.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.conversation import Example, Message
from outrider.demo.recipe.words import Writer, grammatical

_SENTENCES: Final = (
    "{Name} went to {city} to buy a {item}.",
    "The {adjective} {animal} slept in the {place}.",
    "On {weekday}, {Name} met a {adjective} {animal} near the {place}.",
    "{Name} gave the {item} to {Other}.",
    "It was {condition} in {city}, and {Name} stayed at home.",
    "{Other} asked {Name} to bring the {item} back by {weekday}.",
    "The {item} costs {number} euros in {city}.",
    "{Name} and {Other} walked through the {place} with their {animal}.",
    "Nobody in {city} had ever seen such a {adjective} {animal}.",
    "The train from {city} to {town} leaves at {clock}.",
    "{Name} works as a {job} in {city}.",
    "{Other} found {number} {colour} stones behind the {place}.",
)
_OPENINGS: Final = (
    "Once upon a time, there was a {adjective} {animal} named {Name} who lived in a {place} near {city}.",
    "Once upon a time, a {adjective} {animal} called {Name} lived in a {place}.",
    "There was once a {adjective} {job} named {Name} who lived in {city}.",
)
_MIDDLES: Final = (
    "One day, {Name} found a {colour} {item} in the {place}.",
    "Every morning, {Name} walked to the {place} and looked for {fruit}s.",
    "{Name} had a friend, a {friend} called {Other}.",
    '"What a {condition} day," said {Name}.',
    '"Let us go to the {place}," said {Other}.',
    "{Name} was {adjective}, but {Other} was not.",
    "They shared a {fruit} and talked until it was dark.",
    "It was a {condition} {weekday}, and nobody was in the {place}.",
    "{Other} asked {Name} for help, and {Name} said yes.",
)
_ENDINGS: Final = (
    "In the end, {Name} went home and slept well.",
    "And so {Name} and {Other} became friends.",
    "From that day on, {Name} was never alone.",
    "The end.",
)


def sentences(writer: Writer, count: int) -> str:
    """`count` unrelated sentences."""
    return grammatical(" ".join(writer.one(_SENTENCES).format(**_cast(writer)) for _ in range(count)))


def tale(writer: Writer) -> str:
    """A story of a few sentences about the same two characters."""
    cast = _cast(writer)
    middles = writer.some(_MIDDLES, writer.integer(2, 5))
    patterns = (writer.one(_OPENINGS), *middles, writer.one(_ENDINGS))
    # The characters stay, the rest of the scenery changes from sentence to sentence.
    names = {"Name": cast["Name"], "Other": cast["Other"]}
    return grammatical(" ".join(pattern.format(**{**_cast(writer), **names}) for pattern in patterns))


def story(writer: Writer) -> Example:
    """A story or some sentences as plain text, without a conversation around it."""
    text = tale(writer) if writer.chance(0.7) else sentences(writer, writer.integer(2, 6))
    return Example("story", (Message("text", text),))


def _cast(writer: Writer) -> dict[str, str]:
    return {
        "Name": writer.first_name(),
        "Other": writer.first_name(),
        "city": writer.city(),
        "town": writer.city(),
        "item": writer.one(words.ITEMS),
        "adjective": writer.one(words.ADJECTIVES),
        "animal": writer.one(words.ANIMALS),
        "friend": writer.one(words.ANIMALS),
        "place": writer.one(words.PLACES),
        "weekday": writer.one(words.WEEKDAYS),
        "condition": writer.one(words.CONDITIONS),
        "number": str(writer.integer(2, 99)),
        "clock": writer.clock(),
        "job": writer.one(words.JOBS),
        "colour": writer.one(words.COLOURS),
        "fruit": writer.one(words.FRUITS),
    }
