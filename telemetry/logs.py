"""One line per log record of the `outrider` loggers, for people or for machines.

Fields given as `extra=` become `key=value` or JSON members. Fields that would hold a client's text or a key are
withheld by name, as a net below the rule that nobody logs them. Knows nothing of what is logged.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_WITHHELD = frozenset({"api_key", "authorization", "completion", "content", "input", "messages", "prompt", "token"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_HANDLER = "outrider"


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Sends the `outrider` loggers to standard error, from `level` ("debug", "info", ...) upward; again replaces it.

    Raises:
        ValueError: No such level.
    """
    logger = logging.getLogger("outrider")
    logger.setLevel(level.upper())
    for handler in [handler for handler in logger.handlers if handler.name == _HANDLER]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.name = _HANDLER
    handler.setFormatter({"text": TextFormatter, "json": JsonFormatter}[log_format]())
    logger.addHandler(handler)
    logger.propagate = False  # else a root handler would write each line again


class TextFormatter(logging.Formatter):
    """`2026-11-21T08:09:10.123Z INFO outrider.gateway: ready port=8000`."""

    def format(self, record: logging.LogRecord) -> str:
        """Line breaks are escaped."""
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(self, record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        return line.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """One object with time, level, logger, message, and then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """A field named like one of the four is lost to it."""
        base = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(base | _fields(self, record) | base, default=str)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    fields |= dict.fromkeys(fields.keys() & _WITHHELD, "[withheld]")
    if record.exc_info:
        fields["exception"] = formatter.formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and not any(mark in text for mark in ' "=\r\n') else json.dumps(text, ensure_ascii=False)
