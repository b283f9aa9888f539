"""Options of the gateway's HTTP side and of its log."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogFormats(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


CorsOrigin = Annotated[
    list[str],
    typer.Option(metavar="ORIGIN", help="Site whose pages may use this server, https://example.com; repeatable."),
]
TlsCertificate = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate and its chain, PEM.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key, PEM, not encrypted.")]
MaxBodyBytes = Annotated[int, typer.Option(help="Largest body of a request.")]
MaxConnections = Annotated[int, typer.Option(help="Most connections at once; more are closed.")]
LogFormat = Annotated[LogFormats, typer.Option(help="Log lines for people or for machines.")]
