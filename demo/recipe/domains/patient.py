"""Patients and their visits.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, joined
from outrider.demo.recipe.words import Writer

PATIENT: Final = Domain(
    "patient",
    {
        "name": Field(
            "string",
            Writer.person,
            "patient",
            ("name", "patient name"),
            (
                "The patient is {}.",
                "This is about {}.",
                "We saw {}.",
                "The name is {}.",
                "It is about {}.",
                "{} is the patient.",
                "Today {} came in.",
                "We looked at {}.",
            ),
        ),
        "age": Field(
            "integer",
            lambda writer: writer.integer(1, 99),
            "age",
            ("years", "patient age"),
            (
                "The age is {}.",
                "The patient is {} years old.",
                "Aged {}.",
                "They are {} years old.",
                "In years: {}.",
                "At the age of {}.",
                "They have lived {} years.",
                "The patient is now {}.",
            ),
        ),
        "symptoms": Field(
            "strings",
            lambda writer: writer.several(words.SYMPTOMS, 3),
            "symptoms",
            ("complaints", "signs"),
            (
                "Symptoms: {}.",
                "There is {}.",
                "They report {}.",
                "They complain of {}.",
                "The signs are {}.",
                "We noted {}.",
                "They suffer from {}.",
                "The problem is {}.",
            ),
            joined,
        ),
        "temperature": Field(
            "number",
            lambda writer: float(f"{writer.integer(35, 40)}.{writer.integer(1, 9)}"),
            "temperature",
            ("body temperature", "fever"),
            (
                "The temperature is {}.",
                "We measured {} degrees.",
                "Fever: {}.",
                "It was {} degrees.",
                "The fever is {}.",
                "At {} degrees.",
                "The thermometer said {}.",
                "The body had {} degrees.",
            ),
        ),
        "doctor": Field(
            "string",
            Writer.person,
            "doctor",
            ("physician", "treated by", "seen by"),
            (
                "The doctor was {}.",
                "Treated by Dr. {}.",
                "Dr. {} was on duty.",
                "Dr. {} saw them.",
                "The physician is Dr. {}.",
                "Dr. {} treated them.",
                "Dr. {} took care of it.",
                "It was Dr. {} who helped.",
            ),
        ),
        "room": Field(
            "integer",
            lambda writer: writer.integer(100, 999),
            "room",
            ("room number", "ward"),
            (
                "The room is {}.",
                "Now in room {}.",
                "Moved to room {}.",
                "They are in room {}.",
                "Room {}.",
                "Look in room {}.",
                "They lie in room {}.",
                "You find them in room {}.",
            ),
        ),
        "admitted": Field(
            "string",
            Writer.date,
            "admission date",
            ("admitted", "admitted on", "date"),
            (
                "Admitted on {}.",
                "The visit was on {}.",
                "They came on {}.",
                "The date was {}.",
                "They have been here since {}.",
                "It was on {}.",
                "It began on {}.",
                "They arrived on {}.",
            ),
        ),
    },
    (
        "{name}, aged {age}, came in with {symptoms}.",
        "Patient {name} ({age}) reports {symptoms}.",
        "{name} was admitted on {admitted} with {symptoms}.",
        "Dr. {doctor} saw {name} in room {room}.",
        "{name} is {age} years old and has a temperature of {temperature}.",
        "On {admitted}, Dr. {doctor} treated {name} for {symptoms}.",
        "{name} lies in room {room} with {symptoms}.",
        "{name} ({age}) was seen by Dr. {doctor}.",
        "We admitted {name} on {admitted}, with {temperature} degrees.",
        "In room {room} lies {name}, {age}, with {symptoms}.",
        "Because of {symptoms}, {name} went to see Dr. {doctor}.",
        "Dr. {doctor} has {name}, {age}, in room {room}.",
    ),
)
