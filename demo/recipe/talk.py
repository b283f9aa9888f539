"""Talk examples: what Outrider is, small talk, lists, counting and stories on request.

Owns what is said without a text to work on. The facts about Outrider are the few that the demo model
is meant to know; it is taught to say that it does not know other things.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.conversation import Example, ask
from outrider.demo.recipe.stories import tale
from outrider.demo.recipe.words import Writer

_ABOUT: Final = (
    (
        ("What is Outrider?", "Tell me about Outrider.", "Explain Outrider.", "What does Outrider do?"),
        "Outrider is an OpenAI-compatible server for language models. Every request picks its own speculation "
        "and its own schema, and every token can be explained by a trace.",
    ),
    (
        ("Is Outrider compatible with OpenAI?", "Which API does Outrider speak?", "Which client can I use?"),
        "Outrider speaks the OpenAI API, so the usual clients work with it.",
    ),
    (
        ("What is speculation?", "How does speculation work?", "What is speculative decoding?"),
        "Speculation guesses several tokens cheaply and lets the model check them in one step. The answer stays "
        "the same, it only comes faster. In Outrider every request picks its own speculation.",
    ),
    (
        ("What is a schema?", "Can Outrider enforce a schema?", "What is structured output?"),
        "A schema says what JSON an answer must be. Outrider enforces it: tokens that would break the schema "
        "cannot be chosen.",
    ),
    (
        ("What is a trace?", "What does a trace show?", "How do I see why a token was chosen?"),
        "A trace explains every token: who proposed it, whether the model accepted it, and what the grammar allowed.",
    ),
    (
        ("Who are you?", "What are you?", "Are you a large model?", "What model is this?"),
        "I am the small demo model of Outrider. I can extract data, copy text and count, but I know very little.",
    ),
    (
        ("What can you do?", "How can you help me?", "Help!", "What should I ask you?"),
        "I can extract data from a text as JSON, call tools, repeat or edit a text, answer questions about a "
        "passage and write short Python functions.",
    ),
    (("Hello", "Hi", "Hello!", "Hi there!", "Good morning", "Hey"), "Hello! How can I help you?"),
    (("Thank you", "Thanks!", "Thank you very much.", "Great, thanks"), "You are welcome!"),
    (("Bye", "Goodbye!", "See you later"), "Goodbye!"),
    (("Say hello", "Say hello to the world.", "Write hello world"), "Hello, world!"),
)
_UNKNOWN: Final = (
    "Who is {person}?",
    "What is the capital of {place}?",
    "When was {person} born?",
    "How many people live in {place}?",
    "What is {word}?",
    "Why is the {item} {colour}?",
    "Tell me about {place}.",
)
_UNKNOWN_ANSWER: Final = "I do not know that. I am only a small demo model."
_NUMBER_WORDS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_POOLS: Final = (
    ("colours", words.COLOURS),
    ("animals", words.ANIMALS),
    ("fruits", words.FRUITS),
    ("cities", words.CITIES),
    ("names", words.FIRST_NAMES),
    ("jobs", words.JOBS),
)


def about(writer: Writer) -> Example:
    """What Outrider is, small talk, or an honest answer to what the model cannot know."""
    if writer.chance(0.3):
        asked = writer.one(_UNKNOWN).format(
            person=writer.person(),
            place=writer.city(),
            word=writer.coined(),
            item=writer.one(words.ITEMS),
            colour=writer.one(words.COLOURS),
        )
        return ask("talk/about", asked, _UNKNOWN_ANSWER)
    questions, answer = writer.one(_ABOUT)
    system = "You are a helpful assistant." if writer.chance(0.3) else ""
    return ask("talk/about", writer.one(questions), answer, system=system)


def listing(writer: Writer) -> Example:
    """Counting, a list of things, or a story on request."""
    choice = writer.integer(0, 3)
    if choice == 0:
        first = writer.integer(1, 80)
        last = first + writer.integer(3, 19)
        asked = writer.one(
            ("Count from {first} to {last}.", "Count from {first} to {last}", "Numbers {first} to {last}")
        )
        asked = asked.format(first=first, last=last)
        return ask("talk/list", asked, ", ".join(str(number) for number in range(first, last + 1)))
    if choice == 1:
        name, pool = writer.one(_POOLS)
        count = writer.integer(2, 6)
        size = writer.one((str(count), _NUMBER_WORDS[count - 1]))
        asked = writer.one(("List {size} {name}.", "Name {size} {name}.", "Give me {size} {name}"))
        return ask("talk/list", asked.format(size=size, name=name), ", ".join(writer.some(pool, count)))
    if choice == 2:
        name, pool = writer.one((("days of the week", words.WEEKDAYS), ("months", words.MONTHS)))
        return ask("talk/list", writer.one((f"List the {name}.", f"What are the {name}?")), ", ".join(pool))
    return ask("talk/list", writer.one(("Tell me a story.", "Write a short story.", "A story, please.")), tale(writer))
