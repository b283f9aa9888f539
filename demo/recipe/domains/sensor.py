"""Sensors and what they measured.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, joined, phrases
from outrider.demo.recipe.words import Writer

SENSOR: Final = Domain(
    "sensor",
    {
        "sensor": Field(
            "string",
            Writer.code,
            "sensor",
            ("sensor id", "device", "id"),
            (
                "The sensor is {}.",
                "It comes from sensor {}.",
                "Device {}.",
                "Its name is {}.",
                "The device is {}.",
                "We use sensor {}.",
                "This was measured by {}.",
                "The value is from {}.",
            ),
        ),
        "value": Field(
            "number",
            Writer.price,
            "value",
            ("reading", "measurement", "measured"),
            (
                "It reads {}.",
                "The reading was {}.",
                "It measured {}.",
                "The value is {}.",
                "The measurement is {}.",
                "We read {}.",
                "The display shows {}.",
                "It gave {}.",
            ),
        ),
        "unit": Field(
            "enum",
            lambda writer: writer.known(words.UNITS),
            "unit",
            ("measured in", "units"),
            (
                "The unit is {}.",
                "Values are in {}.",
                "It counts in {}.",
                "It is measured in {}.",
                "The value is in {}.",
                "Read it in {}.",
                "We measure in {}.",
                "All values are {}.",
            ),
            choices=words.UNITS,
        ),
        "time": Field(
            "string",
            Writer.clock,
            "time",
            ("measured at", "clock", "hour"),
            (
                "It was taken at {}.",
                "The time was {}.",
                "We looked at {}.",
                "It was {} then.",
                "Measured at {}.",
                "At {} o'clock.",
                "The clock said {}.",
                "That was at {}.",
            ),
        ),
        "site": Field(
            "string",
            Writer.city,
            "site",
            ("location", "place", "station"),
            (
                "It stands in {}.",
                "The site is {}.",
                "The station is in {}.",
                "The location is {}.",
                "The sensor is in {}.",
                "It was put up in {}.",
                "You find it in {}.",
                "It works in {}.",
            ),
        ),
        "history": Field(
            "numbers",
            lambda writer: [writer.integer(1, 999) for _ in range(writer.integer(2, 4))],
            "history",
            ("earlier values", "previous readings", "samples"),
            (
                "Before that: {}.",
                "Earlier values were {}.",
                "The history is {}.",
                "The samples were {}.",
                "Older values are {}.",
                "It showed {} earlier.",
                "Past values: {}.",
                "In the past it gave {}.",
            ),
            joined,
        ),
        "alarm": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "alarm",
            ("is alarm", "alert"),
            (
                "The alarm {}.",
                "Its alarm {}.",
                "Now the alarm {}.",
                "This alarm {}.",
                "At the moment the alarm {}.",
                "As far as we know the alarm {}.",
                "By now its alarm {}.",
                "We know that the alarm {}.",
            ),
            phrases("is on", "is off"),
        ),
    },
    (
        "Sensor {sensor} in {site} reads {value} {unit}.",
        "Sensor {sensor} measured {value} {unit} at {time}.",
        "At {time}, sensor {sensor} in {site} showed {value} {unit}.",
        "{sensor} ({site}): {value} {unit}.",
        "The sensor {sensor} stands in {site} and its alarm {alarm}.",
        "Sensor {sensor} gave {history} and then {value}.",
        "{sensor} shows {value} {unit}.",
        "The device {sensor} in {site} gave {value}.",
        "We measured {value} {unit} in {site}.",
        "In {site} we read {value} {unit} from sensor {sensor}.",
        "{value} {unit} is what {sensor} showed at {time}.",
        "In {site} the device {sensor} reads {value} {unit} at {time}.",
    ),
)
