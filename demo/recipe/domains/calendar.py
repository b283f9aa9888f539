"""Calendar entries.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

CALENDAR: Final = Domain(
    "calendar",
    {
        "title": Field(
            "string",
            Writer.event,
            "title",
            ("event", "name", "subject"),
            (
                "It is the {}.",
                "The event is the {}.",
                "Come to the {}.",
                "The title is {}.",
                "We plan the {}.",
                "Everybody goes to the {}.",
                "They call it the {}.",
                "The name of it is {}.",
            ),
        ),
        "date": Field(
            "string",
            Writer.date,
            "date",
            ("day", "when"),
            (
                "It is on {}.",
                "Keep {} free.",
                "The day is {}.",
                "The date is {}.",
                "We meet on {}.",
                "It happens on {}.",
                "It takes place on {}.",
                "The event is on {}.",
            ),
        ),
        "time": Field(
            "string",
            Writer.clock,
            "time",
            ("start", "starts at", "hour"),
            (
                "It starts at {}.",
                "We begin at {}.",
                "Be there at {}.",
                "The start is at {}.",
                "At {} sharp.",
                "The time is {}.",
                "Doors open at {}.",
                "It opens at {}.",
            ),
        ),
        "place": Field(
            "string",
            Writer.city,
            "place",
            ("city", "location", "where"),
            (
                "It is in {}.",
                "We meet in {}.",
                "The place is {}.",
                "Come to {}.",
                "The city is {}.",
                "Travel to {} for it.",
                "It takes place in {}.",
                "The event is in {}.",
            ),
        ),
        "guests": Field(
            "integer",
            lambda writer: writer.integer(5, 900),
            "guests",
            ("attendees", "seats", "people"),
            (
                "{} guests will come.",
                "We expect {} people.",
                "There are {} seats.",
                "The number of guests is {}.",
                "We have room for {}.",
                "{} people will be there.",
                "{} people said yes.",
                "{} people are invited.",
            ),
        ),
        "host": Field(
            "string",
            Writer.person,
            "host",
            ("organiser", "organised by", "contact"),
            (
                "The host is {}.",
                "{} invites you.",
                "Ask {} for details.",
                "It is hosted by {}.",
                "{} is the host.",
                "Your contact is {}.",
                "{} organises it.",
                "You meet {} there.",
            ),
        ),
        "online": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "online",
            ("is online", "virtual"),
            (
                "The event {}.",
                "It {}.",
                "This one {}.",
                "By the way, it {}.",
                "The meeting {}.",
                "As far as we know it {}.",
                "And it {}.",
                "We know that it {}.",
            ),
            phrases("is online", "is not online"),
        ),
    },
    (
        "The {title} takes place in {place} on {date} at {time}.",
        "The {title} starts on {date} at {time}.",
        "Join the {title} in {place} on {date}.",
        "{guests} guests will come to the {title} in {place} on {date}.",
        "On {date} at {time}, {place} hosts the {title}.",
        "{host} invites you to the {title} on {date}.",
        "We expect {guests} people at the {title} on {date}.",
        "Save the date: {title}, {date}, {time}, {place}.",
        "{host} hosts the {title} in {place} at {time}.",
        "There will be a {title} on {date} in {place}.",
        "{title}: {date}, {place}, with {host}.",
        "At {time} on {date}, {host} opens the {title} in {place}.",
        "Do not miss the {title} with {host} on {date}.",
        "See you at the {title} in {place}, {date}, {time}.",
    ),
)
