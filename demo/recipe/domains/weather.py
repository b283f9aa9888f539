"""Weather reports.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

WEATHER: Final = Domain(
    "weather",
    {
        "city": Field(
            "string",
            Writer.city,
            "city",
            ("place", "location", "town"),
            (
                "This is for {}.",
                "The place is {}.",
                "We look at {}.",
                "The city is {}.",
                "It is about {}.",
                "This is how it is in {}.",
                "People in {} know it.",
                "We are in {}.",
            ),
        ),
        "temperature": Field(
            "integer",
            lambda writer: writer.integer(-20, 42),
            "temperature",
            ("degrees", "celsius", "temp"),
            (
                "It is {} degrees.",
                "We have {} degrees.",
                "It reached {} degrees.",
                "The temperature is {} degrees.",
                "There are {} degrees.",
                "It gets {} degrees.",
                "The air has {} degrees.",
                "You can expect {} degrees.",
            ),
        ),
        "condition": Field(
            "enum",
            lambda writer: writer.known(words.CONDITIONS),
            "condition",
            ("weather", "sky"),
            (
                "It is {}.",
                "The day is {}.",
                "It will be {}.",
                "The weather is {}.",
                "The sky is {}.",
                "Today is {}.",
                "Outside it is {}.",
                "The people say it is {}.",
            ),
            choices=words.CONDITIONS,
        ),
        "wind": Field(
            "integer",
            lambda writer: writer.integer(1, 120),
            "wind",
            ("wind speed", "wind in km/h"),
            (
                "The wind blows at {} km/h.",
                "Wind: {} km/h.",
                "Winds of {} km/h.",
                "The wind speed is {} km/h.",
                "There is a wind of {} km/h.",
                "It blows at {} km/h.",
                "The wind reaches {} km/h.",
                "Expect a wind of {} km/h.",
            ),
        ),
        "date": Field(
            "string",
            Writer.date,
            "date",
            ("day", "forecast date"),
            (
                "This is for {}.",
                "The day is {}.",
                "Valid on {}.",
                "The date is {}.",
                "It is the weather of {}.",
                "On {} that is.",
                "It was written on {}.",
                "That was on {}.",
            ),
        ),
        "rain": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "rain",
            ("rain expected", "will rain"),
            (
                "There {}.",
                "Later there {}.",
                "In the evening there {}.",
                "By the way, there {}.",
                "They say there {}.",
                "Tomorrow there {}.",
                "At night there {}.",
                "We know that there {}.",
            ),
            phrases("will be rain", "will be no rain"),
        ),
    },
    (
        "In {city} it is {condition} with {temperature} degrees.",
        "It is {condition} in {city}, {temperature} degrees, and the wind blows at {wind} km/h.",
        "Weather in {city}: {condition}, {temperature} degrees.",
        "{city} has {temperature} degrees and a wind of {wind} km/h.",
        "On {date} {city} is {condition}, with a wind of {wind} km/h.",
        "{city}, {date}: {condition}, {temperature} degrees.",
        "{temperature} degrees and {condition}: {city}.",
        "The weather of {city} on {date} is {condition}.",
        "There is a wind of {wind} km/h in {city}, and it is {condition}.",
        "Expect {temperature} degrees and a {condition} day in {city} on {date}.",
        "With {temperature} degrees, {city} is {condition}.",
        "People in {city} have {temperature} degrees and a {condition} day.",
    ),
)
