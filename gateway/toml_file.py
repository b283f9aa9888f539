"""A TOML file whose mistakes are told with their lines."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TABLE = re.compile(r"\s*\[\[?(?P<name>[^\]]+)\]")
_KEY = re.compile(r"""\s*(?P<name>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_SYNTAX = re.compile(r"(?P<problem>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)


class ConfigError(Exception):
    """A configuration that cannot be used: one line for each mistake."""


class TomlFile:
    """What a file holds, and where.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.data: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: the configuration is not UTF-8 text") from error
        except tomllib.TOMLDecodeError as error:
            found = _SYNTAX.fullmatch(str(error))
            assert found is not None
            line = found["line"] or len(text.splitlines())
            raise ConfigError(f"{path}:{line}: this is not TOML: {found['problem']}") from error
        self._lines = _lines(text)

    def place(self, keys: Sequence[str]) -> str:
        """`file:line` of a key, or of the nearest table around it."""
        for length in range(len(keys), 0, -1):
            line = self._lines.get(tuple(keys[:length]))
            if line is not None:
                return f"{self.path}:{line}"
        return str(self.path)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each key and table. Reads line by line: what stands inside a long string may be taken for a key."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if (header := _TABLE.match(line)) is not None:
            table = _parts(header["name"])
            lines.setdefault(table, number)
        elif (key := _KEY.match(line)) is not None:
            lines.setdefault((*table, *_parts(key["name"])), number)
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
