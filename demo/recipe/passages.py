"""Passage questions: several facts about people, and a question about one of them.

Owns the facts and their questions, and how an answer that thinks first is written: the sentence that holds the answer
between `<think>` marks, then the answer. The last question of each fact is held out.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.conversation import THINK, Example, ask
from outrider.demo.recipe.rewording import worded
from outrider.demo.recipe.words import Writer, grammatical

# (a sentence of the passage, its answer, questions about it)
_FACTS: Final = (
    (
        "{name} lives in {city}.",
        "{name} lives in {city}.",
        (
            "Where does {name} live?",
            "In which city does {name} live?",
            "What is the home of {name}?",
            "Where is the home of {name}?",
        ),
    ),
    (
        "{name} is {age} years old.",
        "{name} is {age} years old.",
        (
            "How old is {name}?",
            "What is the age of {name}?",
            "Tell me the age of {name}.",
            "How many years old is {name}?",
        ),
    ),
    (
        "{name} works as a {job}.",
        "{name} works as a {job}.",
        (
            "What does {name} do?",
            "What is the job of {name}?",
            "As what does {name} work?",
            "Which job does {name} have?",
        ),
    ),
    (
        "{name} bought a {item}.",
        "{name} bought a {item}.",
        (
            "What did {name} buy?",
            "What was bought by {name}?",
            "Which thing did {name} buy?",
            "What is it that {name} bought?",
        ),
    ),
    (
        "{name} was born in {year}.",
        "{name} was born in {year}.",
        (
            "When was {name} born?",
            "In which year was {name} born?",
            "What is the year of birth of {name}?",
            "What year was {name} born in?",
        ),
    ),
    (
        "{name} likes {fruit}s.",
        "{name} likes {fruit}s.",
        (
            "What does {name} like?",
            "Which fruit does {name} like?",
            "What is liked by {name}?",
            "Tell me what {name} likes.",
        ),
    ),
    (
        "{name} has a {animal}.",
        "{name} has a {animal}.",
        (
            "Which animal does {name} have?",
            "What animal lives with {name}?",
            "What pet does {name} have?",
            "Tell me which animal {name} has.",
        ),
    ),
    (
        "{name} travels on {weekday}.",
        "{name} travels on {weekday}.",
        (
            "When does {name} travel?",
            "On which day does {name} travel?",
            "What day does {name} travel?",
            "Tell me when {name} travels.",
        ),
    ),
    (
        "The code of {name} is {code}.",
        "The code of {name} is {code}.",
        (
            "What is the code of {name}?",
            "Which code does {name} have?",
            "Tell me the code of {name}.",
            "What code does {name} use?",
        ),
    ),
)
_PASSAGE: Final = (
    "{passage} {asked}",
    "{passage}\n\n{asked}",
    "{asked}\n\n{passage}",
    "Text: {passage}\nQ: {asked}",
    "Question: {asked}\nPassage: {passage}",
    "Answer from the text. {passage} {asked}",
    "Passage: {passage}\n\nQuestion: {asked}",
    "Read the text and answer: {asked}\n{passage}",
)
_THINK: Final = ("Think first.", "Think before you answer.", "Reason about it first.")


def question(writer: Writer) -> Example:
    """A question about one of several facts; the other facts are there to distract."""
    facts = []
    for sentence, answer, questions in writer.some(_FACTS, writer.integer(2, 5)):
        values = {
            "name": writer.first_name(),
            "city": writer.city(),
            "age": writer.integer(18, 99),
            "year": writer.integer(1930, 2019),
            "job": writer.one(words.JOBS),
            "item": writer.item(),
            "fruit": writer.one(words.FRUITS),
            "animal": writer.one(words.ANIMALS),
            "weekday": writer.one(words.WEEKDAYS),
            "code": writer.code(),
        }
        asked = worded(writer, questions)
        facts.append(tuple(grammatical(part.format(**values)) for part in (sentence, answer, asked)))
    passage = " ".join(sentence for sentence, _, _ in facts)
    sentence, answer, asked = writer.one(facts)
    wording = worded(writer, _PASSAGE).format(passage=passage, asked=asked)
    if writer.chance(0.15):
        return ask("question/think", f"{wording} {writer.one(_THINK)}", f"{THINK[0]}{sentence}{THINK[1]}{answer}")
    return ask("question/plain", wording, answer)
