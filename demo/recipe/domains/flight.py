"""Flights and who is on board.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

FLIGHT: Final = Domain(
    "flight",
    {
        "flight": Field(
            "string",
            Writer.code,
            "flight number",
            ("flight", "number", "code"),
            (
                "The flight is {}.",
                "It is flight {}.",
                "Take flight {}.",
                "The number is {}.",
                "Look for flight {}.",
                "You fly with {}.",
                "The ticket says {}.",
                "The plane is {}.",
            ),
        ),
        "origin": Field(
            "string",
            Writer.city,
            "origin",
            ("from", "departure", "departs from"),
            (
                "It leaves from {}.",
                "It starts in {}.",
                "Departure is in {}.",
                "The trip starts in {}.",
                "From {} it goes.",
                "They leave {}.",
                "You board in {}.",
                "The plane leaves from {}.",
            ),
        ),
        "destination": Field(
            "string",
            Writer.city,
            "destination",
            ("to", "arrival", "arrives in"),
            (
                "It goes to {}.",
                "It lands in {}.",
                "Arrival is in {}.",
                "The trip ends in {}.",
                "You arrive in {}.",
                "They fly to {}.",
                "You get off in {}.",
                "The plane flies to {}.",
            ),
        ),
        "date": Field(
            "string",
            Writer.date,
            "date",
            ("day", "departure date"),
            (
                "It is on {}.",
                "The day is {}.",
                "It leaves on {}.",
                "The date is {}.",
                "They fly on {}.",
                "The flight is on {}.",
                "You travel on {}.",
                "The trip is on {}.",
            ),
        ),
        "passenger": Field(
            "string",
            Writer.person,
            "passenger",
            ("traveller", "name", "booked by"),
            (
                "The passenger is {}.",
                "{} will be on board.",
                "Booked for {}.",
                "The traveller is {}.",
                "It is for {}.",
                "{} has a ticket.",
                "{} takes this trip.",
                "On board is {}.",
            ),
        ),
        "seat": Field(
            "string",
            Writer.seat,
            "seat",
            ("seat number", "place"),
            (
                "The seat is {}.",
                "Seat {}.",
                "You sit in {}.",
                "The place is {}.",
                "You have seat {}.",
                "On seat {}.",
                "Please sit in {}.",
                "Your seat will be {}.",
            ),
        ),
        "delayed": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "delayed",
            ("is delayed", "late"),
            (
                "The flight {}.",
                "It {}.",
                "Today it {}.",
                "This flight {}.",
                "As far as we know it {}.",
                "At the moment it {}.",
                "According to the airport it {}.",
                "We know that it {}.",
            ),
            phrases("is delayed", "is on time"),
        ),
    },
    (
        "Flight {flight} goes from {origin} to {destination} on {date}.",
        "{passenger} flies from {origin} to {destination} on {date} with flight {flight}.",
        "On {date}, {passenger} takes flight {flight} to {destination}.",
        "Flight {flight} from {origin} to {destination} {delayed}.",
        "{passenger} booked {flight} from {origin} to {destination}.",
        "Please book a seat for {passenger} from {origin} to {destination} on {date}.",
        "{flight} leaves {origin} on {date} and lands in {destination}.",
        "{passenger} sits in seat {seat} on flight {flight}.",
        "{passenger} travels to {destination}, departure in {origin}, with {flight}.",
        "From {origin}, flight {flight} brings {passenger} to {destination}.",
        "To {destination} from {origin} on {date}: {passenger}, seat {seat}.",
        "On flight {flight} to {destination} there is {passenger}.",
    ),
)
