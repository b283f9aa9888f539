"""Persons: name, age, home, work.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, joined
from outrider.demo.recipe.words import Writer

PERSON: Final = Domain(
    "person",
    {
        "name": Field(
            "string",
            Writer.person,
            "name",
            ("full name", "person", "who"),
            (
                "The name is {}.",
                "Everybody calls them {}.",
                "This is about {}.",
                "The person is {}.",
                "It is {}.",
                "Their full name is {}.",
                "Meet {}.",
                "We talk about {}.",
            ),
        ),
        "age": Field(
            "integer",
            lambda writer: writer.integer(18, 99),
            "age",
            ("years", "age in years"),
            (
                "The age is {}.",
                "They are {} years old.",
                "They just turned {}.",
                "In years that is {}.",
                "{} years old.",
                "They are now {}.",
                "They have lived {} years.",
                "They are {} by now.",
            ),
        ),
        "city": Field(
            "string",
            Writer.city,
            "city",
            ("town", "location", "home", "lives in"),
            (
                "They live in {}.",
                "Home is {}.",
                "They moved to {}.",
                "The town is {}.",
                "You find them in {}.",
                "Their home is in {}.",
                "They are at home in {}.",
                "They stay in {}.",
            ),
        ),
        "job": Field(
            "string",
            lambda writer: writer.known(words.JOBS),
            "job",
            ("occupation", "profession", "role"),
            (
                "They work as a {}.",
                "The job is {}.",
                "They are a {}.",
                "By profession they are a {}.",
                "Their job is {}.",
                "They found work as a {}.",
                "They earn money as a {}.",
                "People need them as a {}.",
            ),
        ),
        "friends": Field(
            "strings",
            lambda writer: [writer.first_name() for _ in range(writer.integer(1, 4))],
            "friends",
            ("friend names", "companions"),
            (
                "The friends are {}.",
                "They often meet {}.",
                "They know {}.",
                "They are friends with {}.",
                "Their friends are called {}.",
                "They spend time with {}.",
                "They like to meet {}.",
                "They are often with {}.",
            ),
            joined,
        ),
    },
    (
        "{name} is {age} years old and lives in {city}.",
        "{name}, {age}, lives in {city}.",
        "{name} ({age}) works as a {job} in {city}.",
        "{name} is a {job} from {city}.",
        "My neighbour {name} is {age} and works as a {job}.",
        "In {city} I met {name}, who is {age} years old.",
        "The {job} {name} moved to {city} at the age of {age}.",
        "{name} lives in {city} and knows {friends}.",
        "{name} is {age} and comes from {city}.",
        "{name} works as a {job} and meets {friends}.",
        "A {job} named {name} lives in {city}.",
        "At {age}, {name} is the youngest {job} in {city}.",
        "There is a {job} in {city} called {name}, aged {age}.",
        "You find {name}, a {job}, in {city}.",
    ),
)
