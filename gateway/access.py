"""Who may come in and how much: keys and limits as they hold now. A signal may replace both."""

import logging
import re
import socket
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from outrider.gateway.config import GatewayConfig
from outrider.gateway.errors import ApiError
from outrider.gateway.keys import ANONYMOUS, Key, KeyFileError, Keyring, mask, read_keys
from outrider.gateway.limiter import Lease, Limiter
from outrider.gateway.limits import Limits
from outrider.gateway.toml_file import ConfigError, TomlFile

if TYPE_CHECKING:
    from outrider.gateway.redis_meters import RedisMeters

logger = logging.getLogger("outrider.gateway")


class LimitTables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of the configuration file that may change while the gateway runs."""

    global_limits: Limits = Limits()
    tenant_limits: dict[str, Limits] = {}
    model_limits: dict[str, Limits] = {}


TABLES = LimitTables.__struct_fields__


def read_tables(path: Path | None) -> LimitTables:
    """The limits in a configuration file, if there is one.

    Raises:
        ConfigError: a mistake in one of them, with its place.
    """
    if path is None:
        return LimitTables()
    file = TomlFile(path)
    try:
        return msgspec.convert({name: file.data[name] for name in TABLES if name in file.data}, LimitTables)
    except msgspec.ValidationError as error:
        problem, _, inside = str(error).partition(" - at `$")
        found = re.search(r"`(?P<name>[^`]*)`", problem) if "unknown field" in problem else None
        # msgspec names no key of a mapping, so the one that fails is looked for.
        keys = _failing_path(file.data, inside.strip("`.").replace("[...]", ".*").split("."), found and found["name"])
        raise ConfigError(f"{file.place(keys)}: {'.'.join(keys)}: {_plain(problem)}") from error


def _plain(problem: str) -> str:
    if "unknown field" in problem:
        return f"there is no such limit: there are {', '.join(Limits.__struct_fields__)}"
    return problem[:1].lower() + problem[1:]


def _failing_path(data: dict[str, object], path: list[str], unknown: str | None) -> list[str]:
    """The keys that lead to a mistake, with the names that msgspec leaves out."""
    if "*" in path:
        place = path.index("*")
        table = data[path[0]]
        assert isinstance(table, dict)
        for name, entry in table.items():
            try:
                msgspec.convert(entry, Limits)
            except msgspec.ValidationError:
                path = [*path[:place], name, *path[place + 1 :]]
                break
    return path if unknown is None else [*path, unknown]


class Access:
    """Keys, limits, and the leases on them.

    Raises:
        ConfigError: the key file or the limits cannot be used, or anybody could come in who should not.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._keyring, self._tables = self._read()
        self.limiter = Limiter(_shared_meters(config.limits), config.limits_fallback)

    @property
    def needs_key(self) -> bool:
        """Whether nobody comes in without a key."""
        return not self._keyring.is_empty

    def reload(self) -> None:
        """Reads keys and limits anew; where that fails, those that hold stay. Requests that run keep what they have."""
        try:
            self._keyring, self._tables = self._read()
        except ConfigError as error:
            logger.error("keys and limits stay as they were: %s", error)
        else:
            logger.warning("keys and limits were read anew")

    def identify(self, authorization: list[str]) -> Key:
        """The key that comes with a request, by its Authorization headers.

        Raises:
            ApiError: 401, there is none, or it is not good; unknown and revoked ones are not told apart.
        """
        if self._keyring.is_empty:
            return ANONYMOUS
        scheme, _, secret = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise _unauthorised("Missing API key: send the header `Authorization: Bearer <key>`, once")
        key = self._keyring.find(secret, time.time())
        if key is None:
            raise _unauthorised(f"Incorrect API key: {mask(secret)}")
        return key

    def lease(self, key: Key, model: str) -> Lease:
        """What a request will hold of the limits that it has to pass; nothing yet."""
        return self.limiter.lease(self._scopes(key, model))

    def _scopes(self, key: Key, model: str) -> list[tuple[str, Limits]]:
        everybody, tables = self._tables.global_limits, self._tables
        if self._config.requests_per_minute is not None:
            everybody = msgspec.structs.replace(everybody, requests_per_minute=self._config.requests_per_minute)
        scopes = [("global", everybody)]
        if model in tables.model_limits:
            scopes.append((f"model:{model}", tables.model_limits[model]))
        if key.tenant_name in tables.tenant_limits:
            scopes.append((f"tenant:{key.tenant_name}", tables.tenant_limits[key.tenant_name]))
        scopes.append((f"key:{key.id}", key.limits))
        return scopes

    def _read(self) -> tuple[Keyring, LimitTables]:
        config = self._config
        try:
            keyring = Keyring(read_keys(config.keys) if config.keys is not None else (), config.api_key)
        except KeyFileError as error:
            raise ConfigError(str(error)) from error
        if keyring.is_empty and not config.allow_anonymous and not _is_loopback(config.host):
            raise ConfigError(
                f"anybody who reaches {config.host or 'this machine'} could send requests, since there is no key: "
                "make one with `outrider keys create` and name its file by --keys, listen on 127.0.0.1, "
                "or say --allow-anonymous"
            )
        return keyring, read_tables(config.config)


def _shared_meters(limits: str) -> "RedisMeters | None":
    if limits == "memory":
        return None
    try:
        from outrider.gateway.redis_meters import RedisMeters  # noqa: PLC0415, only those who use it pay for it

        return RedisMeters(limits)
    except ImportError as error:
        raise ConfigError(f"limits: {limits} needs the package redis: pip install 'outrider[redis]'") from error
    except ValueError as error:
        raise ConfigError(f"limits: {limits} is no address of a Redis: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]  # that is where we shall listen
        return ip_address(str(address[0]).partition("%")[0]).is_loopback
    except (OSError, UnicodeError):
        return True  # nobody can listen there: who tries says why


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
