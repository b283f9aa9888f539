"""Value pools and the `Writer` that draws from them: names, places, things, dates and amounts.

Owns which values may occur. Half of the names are composed from syllables, and numbers from random digits,
so that a model learns to copy what it reads rather than to remember a list. Does not know any task.
"""

import random
import re
from collections.abc import Sequence
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

_ONSETS: Final = _pool("b c d f g h j k l m n p r s t v w z br ch dr fl gr kl pr sh st th tr")
_VOWELS: Final = _pool("a e i o u ai ea ou")
_CODAS: Final = ("", "", "", "l", "n", "r", "s", "t", "x", "m", "k", "nd", "rt")


class Writer:
    """Draws words and values from one seeded source; the same seed gives the same draws in the same order."""

    def __init__(self, seed: int) -> None:
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

    def coined(self, low: int = 2, high: int = 3) -> str:
        """A lower-case word that nobody has seen, of `low` to `high` syllables."""
        return "".join(self.one(_ONSETS) + self.one(_VOWELS) + self.one(_CODAS) for _ in range(self.integer(low, high)))

    def first_name(self) -> str:
        """A given name, known or coined."""
        return self.one(FIRST_NAMES) if self.chance(0.5) else self.coined().capitalize()

    def person(self) -> str:
        """A given name and mostly a family name, each known or coined."""
        if self.chance(0.12):
            return self.first_name()
        last = self.one(LAST_NAMES) if self.chance(0.5) else self.coined().capitalize()
        return f"{self.first_name()} {last}"

    def city(self) -> str:
        """A city, known or coined."""
        return self.one(CITIES) if self.chance(0.6) else self.coined().capitalize()

    def company(self) -> str:
        """A company's name."""
        stem = self.one(LAST_NAMES) if self.chance(0.3) else self.coined().capitalize()
        return f"{stem} {self.one(('Ltd', 'Inc', 'Group', 'Works', 'Foods', 'Labs', 'Tools', 'Media'))}"

    def item(self) -> str:
        """A thing one can buy, sometimes with its colour."""
        return f"{self.one(COLOURS)} {self.one(ITEMS)}" if self.chance(0.5) else self.one(ITEMS)

    def title(self) -> str:
        """The title of a book or a talk: two or three capitalised words."""
        words = [self.coined().capitalize(), self.one((*PLACES, *ANIMALS)).capitalize()]
        return " ".join([self.one(ADJECTIVES).capitalize(), *words] if self.chance(0.3) else words)

    def event(self) -> str:
        """The name of an event."""
        return f"{self.city() if self.chance(0.4) else self.coined().capitalize()} {self.one(EVENTS)}"

    def digits(self, count: int) -> str:
        """`count` digits, the first of them not zero."""
        return str(self.integer(10 ** (count - 1), 10**count - 1))

    def code(self) -> str:
        """A reference such as `KX-4821`."""
        letters = "".join(self.one("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(2))
        return f"{letters}{self.one(('-', ''))}{self.digits(self.integer(2, 4))}"

    def date(self) -> str:
        """A date in ISO form."""
        return f"{self.integer(1990, 2039)}-{self.integer(1, 12):02d}-{self.integer(1, 28):02d}"

    def clock(self) -> str:
        """A time of day on a quarter of an hour."""
        return f"{self.integer(0, 23):02d}:{self.one(('00', '15', '30', '45'))}"

    def price(self) -> float:
        """An amount of money whose cents never end in zero, so that prose and JSON write it alike."""
        return float(f"{self.integer(1, 999)}.{self.integer(0, 9)}{self.integer(1, 9)}")


def grammatical(text: str) -> str:
    """The text with `a` turned into `an` where a vowel follows."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
