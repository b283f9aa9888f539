"""The functions that tool examples offer, and how people ask for them.

Data only but for its types; how a call is made of it is in `tools.py`. The last quarter of each function's wishes is
held out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from outrider.demo.recipe import words
from outrider.demo.recipe.words import Writer


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: its JSON schema, and how its value is drawn."""

    schema: dict[str, Any]
    draw: Callable[[Writer], Any]


@dataclass(frozen=True, slots=True)
class Function:
    """One function; a wish mentions the arguments in its braces, and only those are passed."""

    names: tuple[str, ...]
    description: str
    parameters: Mapping[str, Parameter]
    required: tuple[str, ...]
    wishes: tuple[str, ...]
    result: Callable[[Writer, Mapping[str, Any]], tuple[dict[str, Any], str]] | None = None


def _string(draw: Callable[[Writer], str]) -> Parameter:
    return Parameter({"type": "string"}, draw)


def _choice(*items: str) -> Parameter:
    return Parameter({"type": "string", "enum": list(items)}, lambda writer: writer.one(items))


def _integer(low: int, high: int) -> Parameter:
    return Parameter({"type": "integer"}, lambda writer: writer.integer(low, high))


_NUMBER: Final = Parameter({"type": "number"}, Writer.price)
_PERSON, _CITY, _DATE, _CLOCK = (_string(draw) for draw in (Writer.person, Writer.city, Writer.date, Writer.clock))
_CURRENCY: Final = _string(lambda writer: writer.one(words.CURRENCIES))

FUNCTIONS: Final = (
    Function(
        ("get_weather", "weather", "current_weather"),
        "Get the weather of a city",
        {"city": _CITY, "unit": _choice("celsius", "fahrenheit")},
        ("city",),
        (
            "What is the weather in {city}?",
            "How is the weather in {city} in {unit}?",
            "Tell me the weather of {city}.",
            "Weather in {city}, please.",
            "Is it nice in {city} today?",
            "I need the weather for {city} in {unit}.",
            "What will the weather be in {city}?",
            "Please check the weather of {city} in {unit}.",
            "Get me the weather for {city}.",
            "Is it warm in {city} in {unit}?",
            "Look up the weather in {city}, in {unit}.",
            "Do I need a coat in {city}?",
            "Check the weather in {city}.",
            "How warm is it in {city} in {unit}?",
            "Show the weather of {city}.",
            "How cold is it in {city} in {unit}?",
        ),
        lambda writer, call: (
            {"temperature": (degrees := writer.integer(-9, 40))},
            f"It is {degrees} degrees in {call['city']}.",
        ),
    ),
    Function(
        ("book_flight", "reserve_flight"),
        "Book a flight",
        {"origin": _CITY, "destination": _CITY, "date": _DATE},
        ("origin", "destination"),
        (
            "Book a flight from {origin} to {destination}.",
            "Book a flight from {origin} to {destination} on {date}.",
            "I want to fly from {origin} to {destination} on {date}.",
            "Fly me to {destination} from {origin}.",
            "On {date} I need to get from {origin} to {destination} by plane.",
            "Get me a flight to {destination} on {date}, leaving from {origin}.",
            "Reserve a flight to {destination} from {origin}.",
            "We fly from {origin} to {destination} on {date}.",
            "Find a plane from {origin} to {destination}.",
            "Please book me a flight on {date} from {origin} to {destination}.",
            "I must get to {destination} from {origin} on {date}.",
            "A flight from {origin} to {destination}, please.",
            "Please reserve a flight between {origin} and {destination} on {date}.",
            "I must fly to {destination} from {origin} on {date}.",
            "Can you get me a plane to {destination} from {origin}?",
            "I need to travel from {origin} to {destination} on {date}.",
        ),
    ),
    Function(
        ("send_email", "send_message", "write_email"),
        "Send a message to a person",
        {"recipient": _PERSON, "subject": _string(Writer.event)},
        ("recipient", "subject"),
        (
            "Send {recipient} an email about the {subject}.",
            "Write to {recipient} about the {subject}.",
            "Email {recipient}, subject {subject}.",
            "Tell {recipient} about the {subject} by email.",
            "Please send a message about the {subject} to {recipient}.",
            "I must write {recipient} an email on the {subject}.",
            "Mail {recipient} about the {subject}.",
            "{recipient} should get an email about the {subject}.",
            "Write an email on the {subject} to {recipient}.",
            "Please let {recipient} know of the {subject} by email.",
            "Send a message to {recipient}, subject {subject}.",
            "Can you email {recipient} about the {subject}?",
            "Let {recipient} know about the {subject}.",
            "Send an email with the subject {subject} to {recipient}.",
            "Please write {recipient} a message about the {subject}.",
            "An email to {recipient} about the {subject}, please.",
        ),
    ),
    Function(
        ("create_event", "add_event", "schedule_meeting"),
        "Put an event into the calendar",
        {"title": _string(Writer.event), "date": _DATE, "time": _CLOCK},
        ("title", "date"),
        (
            "Put the {title} into my calendar on {date}.",
            "Schedule the {title} for {date} at {time}.",
            "Add the {title} on {date} at {time}.",
            "The {title} is on {date} at {time}, note it.",
            "Create an event called {title} on {date}.",
            "Plan the {title} on {date}.",
            "Enter the {title} on {date} in my calendar.",
            "There is the {title} on {date} at {time}, add it.",
            "Note the {title} for {date}.",
            "Please plan the {title} for {date} at {time}.",
            "Create the event {title} for {date} at {time}.",
            "On {date} I have the {title}.",
            "On {date} at {time} is the {title}: add it to the calendar.",
            "Enter the {title} for {date}.",
            "Save the {title} for {date} at {time}.",
            "Can you schedule the {title} on {date}?",
        ),
    ),
    Function(
        ("convert_currency", "exchange", "convert_money"),
        "Convert an amount of money",
        {"amount": _NUMBER, "source": _CURRENCY, "target": _CURRENCY},
        ("amount", "source", "target"),
        (
            "Convert {amount} {source} to {target}.",
            "How much is {amount} {source} in {target}?",
            "What is {amount} {source} in {target}?",
            "Change {amount} {source} into {target}.",
            "I have {amount} {source}, what is that in {target}?",
            "Exchange {amount} {source} for {target}.",
            "What do {amount} {source} give in {target}?",
            "I want {amount} {source} in {target}.",
            "Tell me {amount} {source} in {target}.",
            "Please convert {amount} {source} into {target}.",
            "What would {amount} {source} be in {target}?",
            "For {amount} {source}, what do I get in {target}?",
            "Give me {amount} {source} in {target}.",
            "What do I get in {target} for {amount} {source}?",
            "Make {amount} {source} into {target}.",
            "Can you change {amount} {source} to {target}?",
        ),
        lambda writer, call: (
            {"result": (result := writer.price())},
            f"{call['amount']} {call['source']} are {result} {call['target']}.",
        ),
    ),
    Function(
        ("search_products", "find_products", "product_search"),
        "Search the shop",
        {"query": _string(Writer.item), "max_price": _integer(5, 900)},
        ("query",),
        (
            "Find a {query} in the shop.",
            "Search for a {query} under {max_price}.",
            "I want to buy a {query}.",
            "Show me a {query} for less than {max_price}.",
            "Do you sell a {query}?",
            "Look for a {query} up to {max_price}.",
            "Is there a {query} for less than {max_price}?",
            "Please find me a {query}.",
            "Look for a {query} in the shop.",
            "I look for a {query} under {max_price}.",
            "Which {query} can I buy?",
            "Search the shop for a {query} below {max_price}.",
            "I need a {query} below {max_price}.",
            "Is there a {query} in the shop?",
            "Can I buy a {query} here?",
            "Find me a {query} for at most {max_price}.",
        ),
    ),
    Function(
        ("set_timer", "start_timer"),
        "Start a timer",
        {"minutes": _integer(1, 180), "label": _string(Writer.thing)},
        ("minutes",),
        (
            "Set a timer for {minutes} minutes.",
            "Start a timer of {minutes} minutes called {label}.",
            "Wake me in {minutes} minutes.",
            "Timer, {minutes} minutes.",
            "Remind me of the {label} in {minutes} minutes.",
            "Ring in {minutes} minutes.",
            "Please start a timer for {minutes} minutes.",
            "I want a timer of {minutes} minutes.",
            "Tell me when {minutes} minutes are over.",
            "A timer called {label} for {minutes} minutes, please.",
            "Ring me in {minutes} minutes.",
            "In {minutes} minutes, remind me of the {label}.",
            "Count down {minutes} minutes.",
            "I need a timer for {minutes} minutes.",
            "Can you set a timer of {minutes} minutes?",
            "Let me know in {minutes} minutes.",
        ),
    ),
    Function(
        ("play_music", "play_song"),
        "Play music of an artist",
        {"artist": _PERSON, "volume": _integer(1, 100)},
        ("artist",),
        (
            "Play something by {artist}.",
            "Play {artist} at volume {volume}.",
            "I want to hear {artist}.",
            "Music by {artist}, please.",
            "Put on {artist} with volume {volume}.",
            "Let me listen to {artist}.",
            "Please play {artist}.",
            "I want to listen to {artist} at volume {volume}.",
            "Songs by {artist}, please.",
            "Play me something of {artist}.",
            "Can I hear {artist}?",
            "Turn on some music by {artist}, volume {volume}.",
            "Some songs of {artist}, please.",
            "Turn on {artist} at volume {volume}.",
            "Let me hear {artist} at volume {volume}.",
            "I want music of {artist}.",
        ),
    ),
    Function(
        ("get_order_status", "track_order", "order_status"),
        "Get the status of an order",
        {"order_id": _string(Writer.code)},
        ("order_id",),
        (
            "Where is my order {order_id}?",
            "What is the status of order {order_id}?",
            "Track {order_id}.",
            "Has order {order_id} been sent?",
            "Check order {order_id} for me.",
            "Is {order_id} on its way?",
            "I want to know where order {order_id} is.",
            "Please track order {order_id}.",
            "Tell me the status of {order_id}.",
            "When does order {order_id} arrive?",
            "Check on {order_id}, please.",
            "Can you look up order {order_id}?",
            "Any news about order {order_id}?",
            "Look up my order {order_id}.",
            "What about my order {order_id}?",
            "Find out where {order_id} is.",
        ),
        lambda writer, call: (
            {"status": (status := writer.one(("sent", "packed", "delivered", "delayed")))},
            f"Order {call['order_id']} is {status}.",
        ),
    ),
    Function(
        ("book_table", "reserve_table"),
        "Reserve a table in a restaurant",
        {"guests": _integer(2, 20), "date": _DATE, "time": _CLOCK},
        ("guests", "date"),
        (
            "Book a table for {guests} on {date}.",
            "Reserve a table for {guests} people on {date} at {time}.",
            "A table for {guests} on {date}, please.",
            "We are {guests} people and want to eat out on {date}.",
            "Dinner for {guests} on {date} at {time}.",
            "I need a table on {date} for {guests} people.",
            "Please reserve a table for {guests} on {date}.",
            "I want to book a table for {guests} people on {date} at {time}.",
            "We need a table for {guests} on {date}.",
            "On {date} at {time} we want to eat, {guests} people.",
            "Can you book a table for {guests} on {date}?",
            "Get me a table for {guests} on {date} at {time}.",
            "Get us a table at {time} on {date}, we are {guests}.",
            "Please book a table on {date} at {time} for {guests} guests.",
            "We want dinner on {date}, {guests} people.",
            "Find a table for {guests} guests on {date}.",
        ),
    ),
    Function(
        ("translate", "translate_word"),
        "Translate a word",
        {"text": _string(Writer.coined), "language": _choice("German", "French", "Spanish", "Italian")},
        ("text", "language"),
        (
            "Translate {text} into {language}.",
            "What is {text} in {language}?",
            "How do you say {text} in {language}?",
            "Say {text} in {language}.",
            "Give me the {language} word for {text}.",
            "I need {text} in {language}.",
            "Please translate {text} to {language}.",
            "I want {text} in {language}.",
            "Tell me {text} in {language}.",
            "How is {text} called in {language}?",
            "What would {text} be in {language}?",
            "Translate the word {text} into {language}, please.",
            "Put {text} into {language}.",
            "What does {text} mean in {language}?",
            "Can you translate {text} into {language}?",
            "Find the {language} word for {text}.",
        ),
    ),
    Function(
        ("turn_on_light", "switch_light"),
        "Switch a light",
        {"room": _choice("kitchen", "bedroom", "bathroom", "office"), "on": _choice("on", "off")},
        ("room", "on"),
        (
            "Turn {on} the light in the {room}.",
            "Switch {on} the {room} light.",
            "Light {on} in the {room}, please.",
            "Please turn the {room} light {on}.",
            "The light in the {room} should be {on}.",
            "I want the {room} light {on}.",
            "I want the light in the {room} {on}.",
            "Turn the light in the {room} {on}.",
            "Put the {room} light {on}.",
            "The {room} light should go {on}.",
            "Please switch the light {on} in the {room}.",
            "In the {room}, turn the light {on}.",
            "Make it light {on} in the {room}.",
            "Can you turn {on} the light of the {room}?",
            "Switch the light of the {room} {on}.",
            "Can you turn the {room} light {on}?",
        ),
    ),
)
