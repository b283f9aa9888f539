"""API keys: what each allows, how it is recognised, and the file that holds them. Of secrets only hashes are kept.

A secret has 256 random bits, so that a fast hash is enough: nobody can try them all.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from outrider.gateway.limits import Bound, Limits

NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # of keys and tenants: they appear in logs, headers and limits
Name = Annotated[str, Meta(pattern=f"^{NAME}$")]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class KeyFileError(Exception):
    """A key file that cannot be used, or a key that cannot be changed. The message is one clear line."""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key, or whoever may come without one."""

    id: Name
    sha256: Digest  # of the secret
    created: int = 0  # Unix seconds
    tenant: Name | None = None  # whose requests share cached prefixes, limits and a turn in the queue; the id when None
    models: tuple[str, ...] | None = None  # that it may use; all when None
    limits: Limits = Limits()
    priority: Annotated[int, Meta(ge=-1000, le=1000)] | None = (
        None  # the best that its requests may have: lower is first
    )
    max_context: Bound | None = None  # tokens, prompt and answer
    trace_content: bool = False  # whether prompts and answers may be written to traces
    revoked: bool = False
    previous_sha256: Digest | None = None  # of the secret before the last rotation
    previous_until: int = 0  # Unix seconds until which that one is good

    @property
    def tenant_name(self) -> str:
        """Whose key it is."""
        return self.id if self.tenant is None else self.tenant

    def may_use(self, model: str) -> bool:
        """Whether it is good for a model."""
        return self.models is None or model in self.models

    def priority_of(self, asked: int | None) -> int:
        """What a request's own wish comes to: it may stand back, but not before its key."""
        if self.priority is None:
            return asked or 0
        return self.priority if asked is None else max(self.priority, asked)

    def cache_salt(self, asked: str | None) -> str:
        """What a prompt's cached prefix is named by. A tenant's name has no slash, so no client can write another's."""
        return f"{self.tenant_name}/{asked or ''}"


class Anonymous(Key, frozen=True, kw_only=True):
    """Whoever comes while no key exists."""

    @property
    def tenant_name(self) -> str:
        """All are one."""
        return ""

    def cache_salt(self, asked: str | None) -> str:
        """As the client says."""
        return asked or ""


def digest(secret: str) -> str:
    """What is kept of a secret. Headers may hold bytes that are no text."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


ANONYMOUS = Anonymous(id="anonymous", sha256="0" * 64, trace_content=True)


class Keyring:
    """All keys by their hashes.

    The hash of a guess tells nothing of a key's, so looking it up gives nothing away; it is compared in constant time.
    """

    def __init__(self, keys: Iterable[Key] = (), api_key: str | None = None) -> None:
        self._keys = {key.sha256: key for key in keys}
        if api_key is not None:
            key = Key(id="api-key", tenant="default", sha256=digest(api_key), trace_content=True)
            self._keys[key.sha256] = key
        self._previous = {key.previous_sha256: key for key in self._keys.values() if key.previous_sha256 is not None}

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever made; revoked ones count."""
        return not self._keys

    def find(self, secret: str, wall: float) -> Key | None:
        """The key of a secret that is good at Unix time `wall`."""
        given = digest(secret)
        key = self._keys.get(given)
        if key is not None and not key.revoked and hmac.compare_digest(key.sha256, given):
            return key
        key = self._previous.get(given)
        if key is None or key.previous_sha256 is None or key.revoked or wall >= key.previous_until:
            return None
        return key if hmac.compare_digest(key.previous_sha256, given) else None


def new_secret() -> str:
    """A secret that nobody guesses."""
    return f"sk-{secrets.token_urlsafe(32)}"


def mask(secret: str) -> str:
    """So much of a secret as may be shown to who sent it."""
    return f"{secret[:5]}***{secret[-2:]}" if re.fullmatch(r"[\x21-\x7e]{16,}", secret) else "***"


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key]


def read_keys(path: Path) -> list[Key]:
    """The keys of a file; none of a file that is not there yet.

    Raises:
        KeyFileError: it cannot be read, or is no key file.
    """
    try:
        return _checked(msgspec.json.decode(path.read_bytes(), type=_KeyFile).keys)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyFileError(f"{path}: the key file cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise KeyFileError(f"{path}: this is no key file: {error}") from error


def change_keys(path: Path, change: Callable[[list[Key]], list[Key]]) -> None:
    """Replaces the keys of a file in one step, one change after the other; only its owner can read it.

    Raises:
        KeyFileError: it cannot be read or written, or `change` refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            content = msgspec.json.format(msgspec.json.encode(_KeyFile(change(read_keys(path)))), indent=2)
            beside = path.with_name(f"{path.name}.new")
            beside.unlink(missing_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(f"{path}: the key file cannot be written: {error.strerror}") from error


def _checked(keys: list[Key]) -> list[Key]:
    ids = [key.id for key in keys]
    twice = next((key_id for key_id in ids if ids.count(key_id) > 1), None)
    if twice is not None:
        raise ValueError(f"the key `{twice}` stands there twice")
    return keys
