"""Homes for rent.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

PROPERTY: Final = Domain(
    "property",
    {
        "city": Field(
            "string",
            Writer.city,
            "city",
            ("location", "town", "place"),
            (
                "It is in {}.",
                "It stands in {}.",
                "You find it in {}.",
                "The place is {}.",
                "The home is in {}.",
                "Come to {} to see it.",
                "The home is located in {}.",
                "It is for rent in {}.",
            ),
        ),
        "kind": Field(
            "enum",
            lambda writer: writer.known(words.HOMES),
            "kind",
            ("type", "property type"),
            (
                "It is a {}.",
                "We offer a {}.",
                "This is a {}.",
                "The type is {}.",
                "You get a {}.",
                "It is called a {}.",
                "The home is a {}.",
                "What you rent is a {}.",
            ),
            choices=words.HOMES,
        ),
        "rooms": Field(
            "integer",
            lambda writer: writer.integer(1, 12),
            "rooms",
            ("number of rooms", "room count"),
            (
                "It has {} rooms.",
                "There are {} rooms.",
                "With {} rooms.",
                "You get {} rooms.",
                "The number of rooms is {}.",
                "It comes with {} rooms.",
                "Inside there are {} rooms.",
                "{} rooms are free.",
            ),
        ),
        "area": Field(
            "integer",
            lambda writer: writer.integer(20, 400),
            "area",
            ("size", "square metres", "floor area"),
            (
                "It measures {} square metres.",
                "There are {} square metres.",
                "{} m2 of space.",
                "The size is {} square metres.",
                "It is {} square metres large.",
                "The area is {} square metres.",
                "You get {} m2.",
                "Its floor has {} square metres.",
            ),
        ),
        "rent": Field(
            "number",
            Writer.price,
            "rent",
            ("monthly rent", "price", "rent per month"),
            (
                "The rent is {} a month.",
                "It costs {} a month.",
                "You pay {} monthly.",
                "You pay {} a month.",
                "Every month it is {}.",
                "The price is {} a month.",
                "It rents for {} a month.",
                "The monthly cost is {}.",
            ),
        ),
        "owner": Field(
            "string",
            Writer.person,
            "owner",
            ("landlord", "contact", "agent"),
            (
                "It belongs to {}.",
                "Call {} to see it.",
                "The landlord is {}.",
                "The owner is {}.",
                "{} is the landlord.",
                "Ask {} about it.",
                "{} owns it.",
                "It is the home of {}.",
            ),
        ),
        "balcony": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "balcony",
            ("has balcony",),
            (
                "It {}.",
                "The home {}.",
                "Note that it {}.",
                "This one {}.",
                "By the way, it {}.",
                "The place {}.",
                "And it {}.",
                "We know that it {}.",
            ),
            phrases("has a balcony", "has no balcony"),
        ),
    },
    (
        "For rent: a {kind} in {city} with {rooms} rooms and {area} square metres.",
        "{owner} rents out a {kind} in {city} for {rent} a month.",
        "This {kind} in {city} has {rooms} rooms and costs {rent} a month.",
        "A {kind} of {area} square metres in {city} is free now.",
        "In {city}, {owner} offers a {kind} with {rooms} rooms.",
        "The {kind} in {city} {balcony} and {rooms} rooms.",
        "{owner} has a {kind} in {city} with {area} square metres.",
        "A {kind} with {rooms} rooms in {city} rents for {rent} a month.",
        "{city}: {kind}, {rooms} rooms, {area} square metres, {rent} a month.",
        "{rooms} rooms, {area} square metres, {city}: a {kind} for {rent} a month.",
        "Looking for a {kind} in {city}? Ask {owner}.",
        "You can rent a {kind} of {owner} in {city} for {rent}.",
    ),
)
