"""`outrider audit`: what becomes of every keyword of a schema."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def audit(
    schema: Annotated[str, typer.Argument(metavar="FILE", help="A file with a JSON Schema, or - for standard input.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
    strict: Annotated[bool, typer.Option(help="Refuse what `strict: true` would refuse.")] = False,
) -> None:
    """Print which keywords of a schema are enforced, validated after generation, or refused.

    The exit status is 1 when the schema is refused, 2 when the file holds none.
    """
    import msgspec
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from outrider.structured.audit import audit as audit_schema
    from outrider.structured.errors import SchemaError

    try:
        audited = audit_schema(json.loads(sys.stdin.read() if schema == "-" else Path(schema).read_text("utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, (OSError, SchemaError)) else f"not JSON: {error}"
        print(f"{schema}: {problem}", file=sys.stderr)
        raise typer.Exit(2) from error
    if as_json:
        print(msgspec.json.encode({"route": audited.route, "findings": audited.findings}).decode())
    else:
        table = Table("pointer", "keyword", "verdict", "reason", box=box.SIMPLE)
        colours = {"enforced": "green", "validated": "yellow", "refused": "red"}
        for row in audited.findings:
            verdict = Text(row.verdict, colours[row.verdict])
            table.add_row(Text(row.pointer), Text(row.keyword), verdict, Text(row.reason))  # never read as markup
        console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
        console.print(table)
        console.print(f"route: {audited.route}")
    if audited.error(strict=strict) is not None:
        raise typer.Exit(1)
