"""The domains of the extraction task: their fields, how values are drawn, and the sentences that mention them.

Owns what can be extracted. How a user asks for it, and what the answer looks like, is in `extraction.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from outrider.demo import words
from outrider.demo.words import Writer

Value = str | int | float | bool | list[str]


def _joined(value: Value) -> str:
    assert isinstance(value, list)
    return ", ".join(value[:-1]) + f" and {value[-1]}"


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a domain: its JSON type, its draw, other names for its key, and how prose says it."""

    type: str
    draw: Callable[[Writer], Value]
    aliases: tuple[str, ...] = ()
    spoken: Callable[[Value], str] = str


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of thing to extract; every sentence mentions the fields that stand in its braces."""

    name: str
    fields: Mapping[str, Field]
    sentences: tuple[str, ...]


DOMAINS: Final = (
    Domain(
        "person",
        {
            "name": Field("string", Writer.person, ("full_name", "person", "who")),
            "age": Field("integer", lambda writer: writer.integer(18, 99), ("years", "age_years")),
            "city": Field("string", Writer.city, ("town", "location", "lives_in", "place")),
            "job": Field("string", lambda writer: writer.one(words.JOBS), ("occupation", "profession", "role")),
        },
        (
            "{name} is {age} years old and lives in {city}.",
            "{name} is {age} years old.",
            "{name} lives in {city} and is {age} years old.",
            "{name}, {age}, lives in {city}.",
            "{name} ({age}) works as a {job} in {city}.",
            "{name} is a {job} from {city}.",
            "My neighbour {name} is {age} and works as a {job}.",
            "In {city} I met {name}, who is {age} years old and works as a {job}.",
            "The {job} {name} moved to {city} at the age of {age}.",
            "At {age}, {name} is the youngest {job} in {city}.",
        ),
    ),
    Domain(
        "order",
        {
            "customer": Field("string", Writer.person, ("name", "buyer", "client")),
            "item": Field("string", Writer.item, ("product", "article", "goods")),
            "quantity": Field("integer", lambda writer: writer.integer(2, 99), ("count", "amount", "qty")),
            "price": Field("number", Writer.price, ("unit_price", "cost")),
            "city": Field("string", Writer.city, ("ship_to", "destination", "address")),
        },
        (
            "{customer} ordered {quantity} pieces of the {item} for {price} each.",
            "{customer} ordered {quantity} of the {item}, to be sent to {city}.",
            "Please send {quantity} of your {item} to {customer} in {city}.",
            "Order from {customer}: {quantity} x {item} at {price}.",
            "We sold one {item} to {customer} for {price}.",
            "{customer} from {city} bought {quantity} of the {item} at {price} each.",
            "{customer} would like to buy {quantity} of the {item}.",
        ),
    ),
    Domain(
        "invoice",
        {
            "number": Field("string", Writer.code, ("invoice", "invoice_number", "id")),
            "vendor": Field("string", Writer.company, ("seller", "company", "supplier")),
            "total": Field("number", Writer.price, ("amount", "sum", "total_amount")),
            "currency": Field("string", lambda writer: writer.one(words.CURRENCIES), ("currency_code",)),
            "due": Field("string", Writer.date, ("due_date", "pay_by", "date")),
            "paid": Field(
                "boolean",
                lambda writer: writer.chance(0.5),
                ("is_paid", "settled"),
                lambda paid: "is paid" if paid else "is not paid",
            ),
        },
        (
            "Invoice {number} from {vendor} over {total} {currency} is due on {due}.",
            "Invoice {number}: {vendor}, total {total} {currency}, due {due}.",
            "{vendor} sent invoice {number} for {total} {currency}.",
            "Please pay {total} {currency} to {vendor} by {due}, reference {number}.",
            "We owe {vendor} {total} {currency} until {due}.",
            "The invoice {number} of {vendor} must be paid by {due}.",
            "Invoice {number} from {vendor} over {total} {currency} {paid}.",
            "Invoice {number} from {vendor} {paid}.",
        ),
    ),
    Domain(
        "flight",
        {
            "flight": Field("string", Writer.code, ("number", "flight_number", "code")),
            "origin": Field("string", Writer.city, ("from", "departure", "departs_from")),
            "destination": Field("string", Writer.city, ("to", "arrival", "arrives_in")),
            "date": Field("string", Writer.date, ("day", "departure_date")),
            "passenger": Field("string", Writer.person, ("name", "traveller")),
        },
        (
            "Flight {flight} goes from {origin} to {destination} on {date}.",
            "{passenger} flies from {origin} to {destination} on {date} with flight {flight}.",
            "On {date}, {passenger} takes flight {flight} to {destination}.",
            "Flight {flight} from {origin} to {destination} was cancelled.",
            "{passenger} booked {flight} from {origin} to {destination}.",
            "Please book a seat for {passenger} from {origin} to {destination} on {date}.",
        ),
    ),
    Domain(
        "event",
        {
            "title": Field("string", Writer.event, ("name", "event", "what")),
            "date": Field("string", Writer.date, ("day", "when")),
            "time": Field("string", Writer.clock, ("start", "starts_at", "hour")),
            "place": Field("string", Writer.city, ("city", "location", "where")),
            "guests": Field("integer", lambda writer: writer.integer(5, 900), ("attendees", "seats", "people")),
        },
        (
            "The {title} takes place in {place} on {date} at {time}.",
            "The {title} starts on {date} at {time}.",
            "Join the {title} in {place} on {date}.",
            "{guests} guests will come to the {title} in {place} on {date}.",
            "On {date} at {time}, {place} hosts the {title} with {guests} guests.",
            "We expect {guests} people at the {title} on {date}.",
        ),
    ),
    Domain(
        "weather",
        {
            "city": Field("string", Writer.city, ("place", "location", "town")),
            "temperature": Field("integer", lambda writer: writer.integer(-20, 42), ("degrees", "celsius", "temp")),
            "condition": Field("string", lambda writer: writer.one(words.CONDITIONS), ("weather", "sky")),
            "wind": Field("integer", lambda writer: writer.integer(1, 120), ("wind_speed", "wind_kmh")),
        },
        (
            "In {city} it is {condition} with {temperature} degrees.",
            "It is {condition} in {city} today, {temperature} degrees, and the wind blows at {wind} km/h.",
            "Weather in {city}: {condition}, {temperature} degrees.",
            "{city} has {temperature} degrees and a wind of {wind} km/h.",
            "Today {city} is {condition}, with a wind of {wind} km/h.",
        ),
    ),
    Domain(
        "book",
        {
            "title": Field("string", Writer.title, ("name", "book")),
            "author": Field("string", Writer.person, ("writer", "by")),
            "year": Field("integer", lambda writer: writer.integer(1700, 2029), ("published", "date")),
            "pages": Field("integer", lambda writer: writer.integer(40, 999), ("length", "num_pages")),
        },
        (
            "{author} wrote {title} in {year}.",
            "{title} by {author} was published in {year} and has {pages} pages.",
            "The book {title} was written by {author} in {year}.",
            "I am reading {title} by {author}; it has {pages} pages.",
        ),
    ),
    Domain(
        "ticket",
        {
            "id": Field("integer", lambda writer: writer.integer(100, 99999), ("ticket", "number", "ticket_id")),
            "user": Field("string", Writer.person, ("name", "customer", "reporter")),
            "product": Field("string", Writer.item, ("item", "device")),
            "priority": Field("string", lambda writer: writer.one(words.PRIORITIES), ("urgency", "level")),
        },
        (
            "Ticket {id}: {user} reports a broken {product}, priority {priority}.",
            "{user} says that the {product} does not work; the priority is {priority}.",
            "Ticket {id} with priority {priority} was opened by {user} about a {product}.",
            "The {product} of {user} is broken, see ticket {id}.",
        ),
    ),
    Domain(
        "team",
        {
            "team": Field("string", Writer.event, ("name", "group", "title")),
            "members": Field(
                "array",
                lambda writer: [writer.first_name() for _ in range(writer.integer(2, 5))],
                ("people", "names", "participants"),
                _joined,
            ),
            "city": Field("string", Writer.city, ("place", "location", "town")),
        },
        (
            "{members} work for the {team} in {city}.",
            "The {team} is run by {members}.",
            "{members} meet in {city}.",
            "The people behind the {team} in {city} are {members}.",
        ),
    ),
)
