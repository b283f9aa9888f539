"""Value pools and the `Writer` that draws from them: names, places, things, dates and amounts.

Owns which values may occur, and which of them are held out from training. Most of the names are composed from
syllables, and numbers from random digits, so that a model learns to copy what it reads rather than to remember a
list. Does not know any task.
"""

import random
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

_Item = TypeVar("_Item")


def _pool(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES: Final = _pool(
    "Ada Alan Alice Amara Amir Anna Ben Bruno Carla Carlos Chen Clara Daniel David Diego Elena Emma Erik Eva Farid "
    "Fatima Felix Grace Hana Hans Hugo Ibrahim Ines Ivan Jack James Jane John Jonas Julia Kai Karen Kofi Laura Leo "
    "Lina Linus Lucas Lucy Maria Mark Marta Mary Max Maya Mei Mia Milan Nadia Nina Noah Nora Olga Oliver Omar Oscar "
    "Paul Peter Priya Ravi Rosa Ruth Sam Sara Sofia Sven Tara Thomas Tim Tom Uma Vera Victor Wei Yuki Zoe"
)
LAST_NAMES: Final = _pool(
    "Adams Ahmed Baker Bauer Becker Brown Carter Chen Clark Costa Cruz Davis Diaz Evans Fischer Garcia Gomez Green "
    "Gupta Haddad Hall Hansen Harris Hopper Hughes Ito Ivanov Jackson Johnson Jones Kim Klein Kumar Lee Lopez "
    "Lovelace Martin Mbeki Meyer Miller Moore Mori Nguyen Novak Okafor Olsen Park Patel Perez Petrov Popov Reed "
    "Rossi Sato Schmidt Silva Singh Smith Stone Suzuki Tanaka Taylor Turing Walker Wang Weber White Wilson Wolf "
    "Wood Wright Yilmaz Young Zhang"
)
CITIES: Final = _pool(
    "Amsterdam Athens Berlin Bogota Boston Cairo Chicago Copenhagen Dakar Delhi Denver Dublin Geneva Hamburg Hanoi "
    "Helsinki Istanbul Jakarta Kyiv Kyoto Lagos Lima Lisbon London Lyon Madrid Melbourne Milan Montreal Moscow "
    "Mumbai Munich Nairobi Naples Osaka Oslo Paris Porto Prague Quito Riga Rome Seattle Seoul Seville Sofia "
    "Stockholm Sydney Tallinn Tokyo Toronto Tunis Turin Vienna Vilnius Warsaw Zagreb Zurich"
)
JOBS: Final = _pool(
    "engineer doctor teacher nurse lawyer baker pilot farmer painter chemist driver editor designer architect "
    "singer writer plumber carpenter chef scientist musician librarian translator gardener dentist"
)
ITEMS: Final = _pool(
    "lamp chair desk mug book pen bottle keyboard monitor camera phone table sofa mirror clock blanket pillow "
    "backpack bicycle helmet jacket shirt hat kettle toaster radio guitar piano drum basket candle carpet printer "
    "laptop tablet charger cable wallet umbrella suitcase ladder hammer"
)
COLOURS: Final = _pool("red blue green yellow black white orange purple brown grey pink silver")
ANIMALS: Final = _pool(
    "cat dog fox owl bear wolf horse rabbit mouse duck goose sheep goat frog turtle squirrel hedgehog deer"
)
ADJECTIVES: Final = _pool(
    "small quiet brave happy clever lazy gentle curious tired proud kind shy young strong funny busy"
)
FRUITS: Final = _pool("apple pear plum cherry banana orange lemon grape peach mango melon fig")
CONDITIONS: Final = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "stormy", "clear")
CURRENCIES: Final = ("USD", "EUR", "GBP", "JPY", "CHF", "SEK")
MONTHS: Final = _pool("January February March April May June July August September October November December")
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PLACES: Final = ("forest", "village", "castle", "garden", "valley", "harbour", "mountain", "library", "mill", "meadow")
EVENTS: Final = ("Conference", "Workshop", "Meeting", "Concert", "Festival", "Seminar", "Summit", "Fair", "Lecture")
PRIORITIES: Final = ("low", "medium", "high", "urgent")
HOMES: Final = ("flat", "house", "studio", "cottage", "loft")
UNITS: Final = ("volts", "watts", "grams", "litres", "bar", "lux")
LEVELS: Final = ("easy", "moderate", "hard")
GENRES: Final = ("crime", "history", "travel", "poetry", "science", "fantasy")
SKILLS: Final = ("Python", "Java", "Rust", "SQL", "Excel", "welding", "Spanish", "German", "French", "sewing", "sales")
SYMPTOMS: Final = ("cough", "headache", "nausea", "dizziness", "rash", "back pain", "sore throat", "weakness")
COMPONENTS: Final = _pool(
    "parser scheduler cache router login search editor installer importer logger renderer updater viewer"
)
FOODS: Final = _pool("rice pasta beans tofu cheese butter bread onion garlic tomato pepper carrot potato spinach")
_DISHES: Final = ("Soup", "Stew", "Salad", "Curry", "Pie", "Bowl", "Bake", "Noodles")
_TEAMS: Final = ("United", "Rovers", "City", "Tigers", "Wolves", "Stars", "Athletic", "Hawks")

_SIMPLE: Final = _pool("b c d f g h j k l m n p r s t v w z")
_ONSETS: Final = _pool(
    "b c d f g h j k l m n p q r s t v w x y z bl br ch cl cr dr fl fr gl gr kl kn kr ph pl pr qu sch sh sk sl sm sn "
    "sp st str sw th tr tw wh zw"
)
_VOWELS: Final = _pool("a e i o u a e i o u ae ai au ea ee ei eo ia ie io oa oe oo ou ua ue ui y")
_CODAS: Final = _pool("b ck d f ff g k l ll lt m mp n nd ng nk nt p r rd rk rn rt s sh ss st t th tz v x z")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


# One value in this many is never drawn for training.
_HELD_OUT_EVERY: Final = 6


class Writer:
    """Draws words and values from one seeded source; the same seed gives the same draws in the same order.

    A writer of held-out text draws names, codes, dates and amounts that no writer of training text ever draws;
    tasks ask `held_out` which wordings they may use.
    """

    def __init__(self, seed: int, *, held_out: bool = False, pieces: Sequence[str] = ()) -> None:
        """`pieces` are what some coined words are made of: a model must have met every token to copy it."""
        self.held_out = held_out
        self._pieces = pieces
        self._random = random.Random(seed)  # noqa: S311 - made-up text, nothing secret

    def __repr__(self) -> str:
        return f"Writer(state={hash(self._random.getstate()):x})"

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self._random.randint(low, high)

    def one(self, items: Sequence[_Item]) -> _Item:
        """One of the items."""
        return self._random.choice(items)

    def some(self, items: Sequence[_Item], count: int) -> list[_Item]:
        """`count` different items in random order."""
        return self._random.sample(items, count)

    def weighted(self, items: Sequence[_Item], weights: Sequence[float]) -> _Item:
        """One of the items, drawn in proportion to its weight."""
        return self._random.choices(items, weights)[0]

    def own(self, draw: Callable[[], _Item]) -> _Item:
        """A value from `draw` that belongs to this writer's side of the split."""
        while True:
            value = draw()
            if (zlib.crc32(str(value).encode()) % _HELD_OUT_EVERY == 0) == self.held_out:
                return value

    def coined(self, low: int = 2, high: int = 3) -> str:
        """A lower-case word that nobody has seen, of `low` or `high` syllables; now and then of any letters."""
        if self._pieces and self.chance(0.3):
            return self.own(lambda: "".join(self.one(self._pieces) for _ in range(self.integer(1, 3))))
        if self.chance(0.1):
            return self.own(lambda: "".join(self.one(_LETTERS) for _ in range(self.integer(2 * low, 3 * high))))
        count = low if self.chance(0.7) else high
        return self.own(lambda: "".join(self._syllable() for _ in range(count)))

    def known(self, pool: Sequence[str]) -> str:
        """A word of a pool, or now and then a coined one in its place: what is read counts, not what is usual."""
        return self.coined() if self.chance(0.4) else self.one(pool)

    def several(self, pool: Sequence[str], most: int) -> list[str]:
        """One to `most` different words of a pool, or coined ones in their place."""
        return list(dict.fromkeys(self.known(pool) for _ in range(self.integer(1, most))))

    def first_name(self) -> str:
        """A given name, known or coined."""
        return self.own(lambda: self.one(FIRST_NAMES)) if self.chance(0.3) else self.coined().capitalize()

    def last_name(self) -> str:
        """A family name, known or coined."""
        return self.own(lambda: self.one(LAST_NAMES)) if self.chance(0.3) else self.coined().capitalize()

    def person(self) -> str:
        """A given name and mostly a family name."""
        return self.first_name() if self.chance(0.12) else f"{self.first_name()} {self.last_name()}"

    def city(self) -> str:
        """A city, known or coined."""
        return self.own(lambda: self.one(CITIES)) if self.chance(0.35) else self.coined().capitalize()

    def company(self) -> str:
        """A company's name."""
        return f"{self.last_name()} {self.one(('Ltd', 'Inc', 'Group', 'Works', 'Foods', 'Labs', 'Tools', 'Media'))}"

    def team(self) -> str:
        """The name of a sports team."""
        return f"{self.city()} {self.one(_TEAMS)}"

    def dish(self) -> str:
        """The name of something to eat."""
        return f"{self.one((self.coined(), self.one(FOODS))).capitalize()} {self.one(_DISHES)}"

    def thing(self) -> str:
        """A thing one can buy, as one word."""
        return self.coined() if self.chance(0.4) else self.own(lambda: self.one(ITEMS))

    def item(self) -> str:
        """A thing one can buy, sometimes with its colour."""
        return f"{self.one(COLOURS)} {self.thing()}" if self.chance(0.5) else self.thing()

    def title(self) -> str:
        """The title of a book or a talk: two or three capitalised words."""
        words = [self.coined().capitalize(), self.one((*PLACES, *ANIMALS)).capitalize()]
        return " ".join([self.one(ADJECTIVES).capitalize(), *words] if self.chance(0.3) else words)

    def event(self) -> str:
        """The name of an event."""
        return f"{self.city() if self.chance(0.4) else self.coined().capitalize()} {self.one(EVENTS)}"

    def version(self) -> str:
        """A version such as `2.14.0`."""
        return f"{self.integer(0, 9)}.{self.integer(0, 30)}.{self.integer(0, 9)}"

    def seat(self) -> str:
        """A seat such as `14C`."""
        return f"{self.integer(1, 60)}{self.one('ABCDEF')}"

    def digits(self, count: int) -> str:
        """`count` digits, the first of them not zero."""
        return str(self.integer(10 ** (count - 1), 10**count - 1))

    def code(self) -> str:
        """A reference such as `KX-4821`."""
        return self.own(
            lambda: (
                "".join(self.one("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(2))
                + self.one(("-", ""))
                + self.digits(self.integer(2, 4))
            )
        )

    def date(self) -> str:
        """A date in ISO form."""
        return self.own(lambda: f"{self.integer(1990, 2039)}-{self.integer(1, 12):02d}-{self.integer(1, 28):02d}")

    def clock(self) -> str:
        """A time of day on a quarter of an hour."""
        return f"{self.integer(0, 23):02d}:{self.one(('00', '15', '30', '45'))}"

    def price(self) -> float:
        """An amount of money whose cents never end in zero, so that prose and JSON write it alike."""
        return self.own(lambda: float(f"{self.integer(1, 999)}.{self.integer(0, 9)}{self.integer(1, 9)}"))

    def _syllable(self) -> str:
        coda = self.one(_CODAS) if self.chance(0.5) else ""
        return self.one(_SIMPLE if self.chance(0.6) else _ONSETS) + self.one(_VOWELS) + coda


def grammatical(text: str) -> str:
    """The text with `a` turned into `an` where a vowel follows."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
