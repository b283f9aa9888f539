"""`outrider audit` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from outrider.cli.main import app

VALIDATED = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}


def run(tmp_path: Path, schema: Any, *options: str) -> Any:
    path = tmp_path / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    return CliRunner().invoke(app, ["audit", str(path), *options])


def test_the_table_names_every_keyword_and_the_route(tmp_path: Path) -> None:
    """A row for each keyword, the route below."""
    result = run(tmp_path, VALIDATED)
    rows = [line.split()[:3] for line in result.output.splitlines() if line.strip().startswith("#")]

    assert [
        ["#", "type", "enforced"],
        ["#", "properties", "enforced"],
        ["#/properties/tags", "uniqueItems", "validated"],
        ["#/properties/tags", "type", "enforced"],
    ] == sorted(rows, key=lambda row: (row[0], row[1] != "uniqueItems", row[1] != "type"))
    assert result.output.endswith("route: validated\n")


@pytest.mark.parametrize(
    ("schema", "options", "status"),
    [
        ({"type": "integer"}, (), 0),
        (VALIDATED, (), 0),
        (VALIDATED, ("--strict",), 1),
        ({"$ref": "https://example.com/a"}, (), 1),
        ({"type": "objekt"}, (), 2),
        ("{", (), 2),
    ],
)
def test_the_exit_status_tells(tmp_path: Path, schema: Any, options: tuple[str, ...], status: int) -> None:
    """0 when the schema is served, 1 when it is refused, 2 when there is none."""
    assert status == run(tmp_path, schema, *options).exit_code


def test_json_has_the_same(tmp_path: Path) -> None:
    """For programs."""
    body = json.loads(run(tmp_path, VALIDATED, "--json").output)

    assert "validated" == body["route"]
    assert ["uniqueItems"] == [row["keyword"] for row in body["findings"] if row["verdict"] == "validated"]
