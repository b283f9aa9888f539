"""Every text that a format's automaton accepts is valid to an independent reader."""

import datetime
import ipaddress
import random
import re
import uuid
from collections.abc import Callable

import jsonschema_rs
import pytest

from outrider.structured.automaton import Automaton, build
from outrider.structured.formats import FORMATS
from outrider.structured.pattern import parse

NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
READERS: dict[str, Callable[[str], object]] = {
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "date-time": datetime.datetime.fromisoformat,
    "uuid": uuid.UUID,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "hostname": lambda text: len(text) <= 253 and NAME.fullmatch(text),
    "email": lambda text: len(text.split("@")[0]) <= 64 and NAME.fullmatch(text.split("@")[1]),
}
VALID = {
    "date": ["2024-02-29", "2000-02-29", "1999-12-31", "0004-02-29"],
    "time": ["00:00:00Z", "23:59:59.123456+05:30"],
    "date-time": ["2024-02-29T10:00:00Z"],
    "duration": ["P1Y2M3DT4H5M6S", "PT5M", "P3W", "P1D"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "ipv4": ["0.0.0.0", "255.255.255.255"],
    "ipv6": ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2::7:8", "fe80::1"],
    "hostname": ["localhost", "a-b.example.com"],
    "email": ["ada.lovelace@example.co.uk", "a@b.co"],
    "uri": ["https://example.com/a/b?c=d#e", "mailto:a@b.co", "urn:isbn:123", "http://example.com:80"],
    "uri-reference": ["", "a/b", "/a?b#c", "//example.com/a", "#a", "https://example.com/"],
    "uri-template": ["", "https://example.com/{a,b*}{?c:3}", "{+path}/x"],
    "json-pointer": ["", "/", "/a/0", "/a~0b~1c/é"],
    "relative-json-pointer": ["0", "1#", "2/a/b"],
    "idn-email": ["a@b.co"],
    "idn-hostname": ["example.com"],
    "iri": ["https://example.com/a"],
    "iri-reference": ["a/b"],
}
INVALID = {
    "date": ["2023-02-29", "1900-02-29", "0000-01-01", "2024-13-01", "2024-04-31", "2024-1-1"],
    "time": ["24:00:00Z", "10:00:00", "10:00:60Z", "10:00:00+24:00"],
    "date-time": ["2024-02-30T10:00:00Z", "2024-02-29 10:00:00Z", "2024-02-29T10:00:00"],
    "duration": ["P", "PT", "P1H", "P1Y1D", "1D"],
    "uuid": ["123e4567e89b12d3a456426614174000"],
    "ipv4": ["256.0.0.1", "01.2.3.4", "1.2.3"],
    "ipv6": [":", "1::2::3", "1:2:3:4:5:6:7", "12345::", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8"],
    "hostname": ["-a.com", "a-.com", "a..b", "xn--x", "a_b"],
    "email": ["a@", "@b.co", ".a@b.co", "a..b@c.co", "a@b"],
    "uri": ["//example.com", "http://exa mple.com", "http://example.com:abc/", "a", "http://a.b/%zz"],
    "uri-reference": ["a b", "\\\\a", "a:b c", "%zz", "1a:b"],
    "uri-template": ["{", "{a", "}", "{a b}"],
    "json-pointer": ["a", "/~", "/~2", "#/a"],
    "relative-json-pointer": ["/a", "-1", "01/a", "0##"],
    "idn-email": ["a@"],
    "idn-hostname": ["-a"],
    "iri": ["a"],
    "iri-reference": ["a b"],
}


@pytest.fixture(scope="module")
def automata() -> dict[str, Automaton]:
    return {name: build(parse(pattern)) for name, pattern in FORMATS.items()}


def walk(automaton: Automaton, generator: random.Random) -> str:
    """A text that the automaton accepts."""
    text, state = "", 0
    while state not in automaton.accepting or (automaton.transitions[state] and generator.random() < 0.8):
        state, ranges = generator.choice(list(automaton.transitions[state].items()))
        text += chr(generator.randint(*generator.choice(ranges)))
    return text


@pytest.mark.parametrize("name", FORMATS)
def test_known_texts(name: str, automata: dict[str, Automaton]) -> None:
    """Ordinary texts are accepted, and the usual mistakes are not."""
    assert [] == [text for text in VALID[name] if not automata[name].accepts(text)]
    assert [] == [text for text in INVALID[name] if automata[name].accepts(text)]


@pytest.mark.parametrize("name", FORMATS)
def test_every_text_is_valid(name: str, automata: dict[str, Automaton]) -> None:
    """Readers that know the standard take whatever the automaton lets through."""
    generator = random.Random(name)
    judge = jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True)
    for _ in range(300):
        text = walk(automata[name], generator)

        assert judge.is_valid(text), text
        if name in READERS:
            assert READERS[name](text) is not None, text
            assert READERS[name](text) is not False, text
