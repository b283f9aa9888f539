"""Options that are text become what they mean. Raises InvalidOptionError, which names the option."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.validity import check_schema
from outrider.loadtest.weights import Weighted, parse_weighted


def parse_names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(number) for number in parse_names(text))
    except ValueError as error:
        raise InvalidOptionError(f"{option} {text}: give numbers separated by commas") from error


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers above 0 separated by commas."""
    numbers = parse_numbers(option, text)
    if not numbers or any(number < 1 or number != int(number) for number in numbers):
        raise InvalidOptionError(f"{option} {text}: give whole numbers above 0 separated by commas")
    return tuple(int(number) for number in numbers)


def parse_extra_body(text: str) -> dict[str, object]:
    """A JSON object."""
    try:
        extra_body = json.loads(text)
    except ValueError as error:
        raise InvalidOptionError(f"--extra-body {text}: not JSON ({error})") from error
    if not isinstance(extra_body, dict):
        raise InvalidOptionError(f"--extra-body {text}: give a JSON object")
    return extra_body


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` each."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidOptionError(f"{option} {text}: write NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def read_schema(path: Path) -> dict[str, Any] | bool:
    """A JSON schema from a file."""
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidOptionError(f"--json-schema {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidOptionError(f"--json-schema {path}: not JSON ({error})") from error
    if not isinstance(schema, dict | bool):
        raise InvalidOptionError(f"--json-schema {path}: a schema is an object, or true or false")
    check_schema(schema, f"--json-schema {path}")
    return schema


def read_keys(path: Path) -> Weighted:
    """A key a line, with `=WEIGHT` behind it where wanted."""
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"--api-keys {path}: {error}") from error
    return parse_weighted(f"--api-keys {path}:", ",".join(lines))
