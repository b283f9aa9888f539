"""`outrider keys`: makes, lists, revokes and rotates the keys of a key file."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outrider.cli import options

if TYPE_CHECKING:
    from outrider.gateway.keys import Key

keys = typer.Typer(no_args_is_help=True, help="Make, list, revoke and rotate API keys.")

KeyFile = Annotated[
    Path, typer.Option("--keys", envvar="OUTRIDER_KEYS", metavar="FILE", help="The key file, as the gateway's --keys.")
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's name in lists, logs and limits; no secret.")]
Limit = Annotated[int | None, typer.Option(min=1, max=10**9)]


@keys.command()
def create(
    key_id: KeyId,
    file: KeyFile,
    tenant: Annotated[
        str | None, typer.Option(help="Whose key it is: tenants share cached prefixes and a turn. By default its ID.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may use, repeatable; by default all.")
    ] = None,
    requests_per_minute: Limit = None,
    input_tokens_per_minute: Limit = None,
    output_tokens_per_minute: Limit = None,
    tokens_per_day: Limit = None,
    concurrency: Limit = None,
    max_context: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer together.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="The best that its requests may have: lower ones come first.")
    ] = None,
    trace_content: Annotated[
        bool, typer.Option("--trace-content", help="Allow its prompts and answers in traces.")
    ] = False,
) -> None:
    """Make a key. Its secret is printed once and kept nowhere."""
    import msgspec

    from outrider.gateway.keys import Key, KeyFileError, digest, new_secret

    secret = new_secret()
    limits = {
        "requests_per_minute": requests_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "concurrency": concurrency,
    }
    raw = {
        "id": key_id,
        "sha256": digest(secret),
        "created": int(time.time()),
        "tenant": tenant,
        "models": model or None,
        "limits": limits,
        "priority": priority,
        "max_context": max_context,
        "trace_content": trace_content,
    }
    try:
        key = msgspec.convert(raw, Key)
    except msgspec.ValidationError as error:
        options.fail(f"the key cannot be made: {error}; names have letters, digits, `.`, `_` and `-`")

    def add(existing: list[Key]) -> list[Key]:
        if any(one.id == key_id for one in existing):
            raise KeyFileError(f"there is a key `{key_id}` already: choose another ID, or `outrider keys rotate` it")
        return [*existing, key]

    _change(file, add)
    typer.echo(f"The secret of `{key_id}`, which is shown only now:", err=True)
    typer.echo(secret)


@keys.command(name="list")
def list_keys(file: KeyFile) -> None:
    """List the keys, without their secrets."""
    from outrider.gateway.keys import KeyFileError, read_keys

    try:
        found = read_keys(file)
    except KeyFileError as error:
        options.fail(str(error))
    for key in found:
        typer.echo(_told(key))
    if not found:
        typer.echo("There are no keys: make one with `outrider keys create ID`", err=True)


@keys.command()
def revoke(key_id: KeyId, file: KeyFile) -> None:
    """Let a key no longer in, its former secrets neither. The file keeps its entry."""
    import msgspec

    _change_one(file, key_id, lambda key: msgspec.structs.replace(key, revoked=True))
    typer.echo(f"`{key_id}` is revoked; gateways that run know it after SIGHUP", err=True)


@keys.command()
def rotate(
    key_id: KeyId,
    file: KeyFile,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=8760, help="How long the former secret stays good beside the new one.")
    ] = 0.0,
) -> None:
    """Give a key a new secret, which is printed once; all else stays as it is."""
    import msgspec

    from outrider.gateway.keys import KeyFileError, digest, new_secret

    secret = new_secret()

    def renew(key: "Key") -> "Key":
        if key.revoked:
            raise KeyFileError(f"the key `{key_id}` is revoked: make a new one")
        return msgspec.structs.replace(
            key,
            sha256=digest(secret),
            previous_sha256=key.sha256 if overlap_hours else None,
            previous_until=int(time.time() + overlap_hours * 3600) if overlap_hours else 0,
        )

    _change_one(file, key_id, renew)
    typer.echo(
        f"The new secret of `{key_id}`, which is shown only now; gateways that run know it after SIGHUP:", err=True
    )
    typer.echo(secret)


def _change_one(file: Path, key_id: str, change: "Callable[[Key], Key]") -> None:
    from outrider.gateway.keys import KeyFileError

    def among(existing: "list[Key]") -> "list[Key]":
        if not any(key.id == key_id for key in existing):
            raise KeyFileError(f"there is no key `{key_id}`: `outrider keys list` names them")
        return [change(key) if key.id == key_id else key for key in existing]

    _change(file, among)


def _change(file: Path, change: "Callable[[list[Key]], list[Key]]") -> None:
    from outrider.gateway.keys import KeyFileError, change_keys

    try:
        change_keys(file, change)
    except KeyFileError as error:
        options.fail(str(error))


def _told(key: "Key") -> str:
    """One line."""
    import msgspec

    made = datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d")
    settings = {
        "tenant": key.tenant_name,
        "models": ",".join(key.models) if key.models is not None else None,
        **msgspec.structs.asdict(key.limits),
        "max_context": key.max_context,
        "priority": key.priority,
        "trace_content": key.trace_content or None,
    }
    told = "  ".join(f"{name}={value}" for name, value in settings.items() if value is not None)
    return f"{key.id}  {'revoked' if key.revoked else 'good'}  since {made}  {told}"
