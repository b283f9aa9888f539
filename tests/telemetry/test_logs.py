"""One line per record."""

import json
import logging
from collections.abc import Iterator

import pytest

from outrider.telemetry.logs import configure_logging

LOG = logging.getLogger("outrider.gateway.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    logger = logging.getLogger("outrider")
    before = (logger.level, logger.handlers[:], logger.propagate)
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
    logger.propagate = before[2]


def test_text_is_one_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A value with a blank is quoted, so that a line can be split again."""
    configure_logging("info", "text")
    LOG.info("listening on %s", "::1", extra={"port": 8000, "note": 'two "words"', "nothing": ""})

    line = capsys.readouterr().err
    moment, rest = line.split(" ", 1)

    assert moment.endswith("Z")
    assert rest == ('INFO outrider.gateway.test: listening on ::1 port=8000 note="two \\"words\\"" nothing=""\n')


def test_json_is_one_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine reads the level and the trace without a pattern."""
    configure_logging("info", "json")
    LOG.warning("slow\nstep", extra={"trace_id": "ab", "seconds": 1.5, "engine": {"id": 3}, "level": 9})

    line = capsys.readouterr().err
    found = json.loads(line)

    assert line.count("\n") == 1
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "outrider.gateway.test",
        "message": "slow\nstep",
        "trace_id": "ab",
        "seconds": 1.5,
        "engine": {"id": 3},
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_stays_on_its_line(log_format, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback of forty lines would be forty records to whoever collects them."""
    configure_logging("info", log_format)
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        LOG.exception("a step\r\nfailed")

    line = capsys.readouterr().err

    assert line.count("\n") == 1
    assert "RuntimeError: first" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_content_and_keys_are_withheld(log_format, capsys: pytest.CaptureFixture[str]) -> None:
    """A careless field does not put a client's words on a disk."""
    configure_logging("info", log_format)
    LOG.info("request", extra={"prompt": "my diary", "api_key": "sk-1", "authorization": "Bearer 2", "tokens": 3})

    line = capsys.readouterr().err

    assert "diary" not in line
    assert "sk-1" not in line
    assert "Bearer" not in line
    assert line.count("[withheld]") == 3


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is written twice, and the last level holds."""
    configure_logging("debug", "text")
    configure_logging("warning", "json")
    LOG.info("unheard")
    LOG.error("heard")

    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["heard"]


def test_a_level_that_does_not_exist_is_refused() -> None:
    """A typing error in a configuration is not a silent default."""
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud", "text")
