"""Settings: read once from the environment, checked at start, never changed afterwards."""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, current_app
from limits import parse_many
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from wallet_app import secret_files

T = TypeVar("T")

ENVIRONMENTS = ("development", "staging", "production")
POOLERS = ("none", "transaction")
KEY_BYTES = 32


class ConfigurationError(Exception):
    """A setting is missing or wrong; the message is one sentence that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a process. Times are seconds, sizes bytes."""

    environment: str = "development"
    database_url: str | None = None
    migration_url: str | None = None
    db_pooler: str = "none"
    data_dir: Path = Path(".data")
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    connections_max: int = 1000
    pool_size: int = 10
    pool_seconds_max: int = 2
    group_commit: bool = True
    key_peppers: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    """Secrets that go into what is stored of API keys, by version; the highest is the one for new keys."""
    token_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Secrets that sign user tokens, by their ids; the first one signs new ones, all are believed."""
    bootstrap_key: str | None = field(default=None, repr=False)
    rate_limit: str = "120 per minute"
    rate_limit_key: str = "6000 per minute"
    rate_limit_operator: str = "600 per minute"
    rate_limit_storage: str = "memory://"
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: int = 0
    body_bytes_max: int = 64 * 1024
    hold_seconds_max: int = 30 * 24 * 3600
    """The longest that a new hold may last."""
    totp_key: bytes | None = field(default=None, repr=False)
    """What the operators' TOTP secrets are sealed with, and known browsers signed; derived, never used itself."""
    totp_key_version: int = 1
    totp_keys_before: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    """The keys that it has replaced, by version: what they sealed and signed is still read."""
    console_origin: str | None = None
    """Where the console's pages are, as a browser says it: https://host. None: wherever the request says."""
    given: frozenset[str] = frozenset()
    """The variables that were set, to tell where a value comes from."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Return the settings that the environment asks for, or raise ConfigurationError."""
        read = _Reader(os.environ if env is None else env)
        environment = read("WALLET_ENV", cls.environment, _one_of(ENVIRONMENTS))
        database_url = read("DATABASE_URL", None, _database_url)
        db_pooler = read("WALLET_DB_POOLER", cls.db_pooler, _one_of(POOLERS))
        # A migration holds a lock of its session, which a pooler would leave behind on some connection of its own.
        migration_default = database_url if db_pooler == "none" else None
        migration_url = read("DATABASE_MIGRATION_URL", migration_default, _database_url)
        totp_keys: dict[int, bytes] = read("WALLET_TOTP_KEY", {}, _keys)
        totp_key_version = max(totp_keys, default=1)
        settings = cls(
            environment=environment,
            database_url=database_url,
            migration_url=migration_url,
            db_pooler=db_pooler,
            data_dir=read("WALLET_DATA_DIR", cls.data_dir, Path),
            host=read("HOST", cls.host, str),
            port=read("PORT", cls.port, _integer(1, 65_535)),
            workers=read("WALLET_WORKERS", cls.workers, _integer(1, 64)),
            connections_max=read("WALLET_CONNECTIONS", cls.connections_max, _integer(1, 100_000)),
            pool_size=read("WALLET_POOL_SIZE", cls.pool_size, _integer(1, 200)),
            group_commit=read("WALLET_GROUP_COMMIT", cls.group_commit, _switch),
            key_peppers=read("WALLET_KEY_PEPPER", {}, _peppers),
            token_keys=read("WALLET_TOKEN_KEYS", {}, _token_keys),
            bootstrap_key=read("WALLET_BOOTSTRAP_API_KEY", None, str),
            rate_limit=read("WALLET_RATE_LIMIT", cls.rate_limit, _rate_limit, empty=""),
            rate_limit_key=read("WALLET_RATE_LIMIT_KEY", cls.rate_limit_key, _rate_limit, empty=""),
            rate_limit_operator=read("WALLET_RATE_LIMIT_OPERATOR", cls.rate_limit_operator, _rate_limit, empty=""),
            rate_limit_storage=read("WALLET_RATE_LIMIT_STORAGE", cls.rate_limit_storage, str),
            cors_origins=read("WALLET_CORS_ORIGINS", cls.cors_origins, _origins),
            trusted_proxies=read("WALLET_TRUSTED_PROXIES", cls.trusted_proxies, _integer(0, 10)),
            hold_seconds_max=read("WALLET_HOLD_SECONDS_MAX", cls.hold_seconds_max, _integer(1, cls.hold_seconds_max)),
            totp_key=totp_keys.pop(totp_key_version, None),
            totp_key_version=totp_key_version,
            totp_keys_before=totp_keys,
            console_origin=read("WALLET_CONSOLE_ORIGIN", cls.console_origin, _console_origin),
            given=read.given(),
        )
        if environment != "development":
            settings.require_secrets()
        return settings.with_tls() if environment == "production" else settings

    def require_secrets(self) -> None:
        """Raise ConfigurationError for a setting that is missing and has no default outside of development."""
        if not self.key_peppers:
            raise ConfigurationError(
                f"WALLET_KEY_PEPPER is missing, and {self.environment} has no default for it: "
                "set it to at least 32 random characters (openssl rand -hex 32) and keep it, or no API key works."
            )
        if self.totp_key is None:
            raise ConfigurationError(
                f"WALLET_TOTP_KEY is missing, and {self.environment} has no default for it: set it to 32 random bytes "
                "(openssl rand -base64 32) and keep it, or no operator's authenticator app works."
            )
        if self.console_origin is None:
            raise ConfigurationError(
                f"WALLET_CONSOLE_ORIGIN is missing, and {self.environment} has no default for it: "
                "set it to where browsers open the console, like https://wallet.example.com."
            )
        if not self.token_keys:
            raise ConfigurationError(
                f"WALLET_TOKEN_KEYS is missing, and {self.environment} has no default for it: "
                "set it to at least 32 random characters (openssl rand -hex 32); they sign the tokens of users."
            )

    def with_development_secrets(self) -> Settings:
        """Return settings with the secrets of a development machine where none are given; they lie in its data folder.

        Raises ConfigurationError.
        """
        if self.environment != "development":
            return self
        found: dict[str, Any] = {}
        try:
            if not self.key_peppers:
                found["key_peppers"] = _peppers(self._development_secret("key-pepper"))
            if not self.token_keys:
                found["token_keys"] = _token_keys(self._development_secret("token-key"))
            if self.totp_key is None:
                found["totp_key"] = _key(self._development_secret("totp-key"))
            return replace(self, **found)
        except (OSError, ValueError) as problem:
            raise ConfigurationError(
                f"the secrets in {self.data_dir.absolute() / 'secrets'} cannot be used ({problem}): "
                "set WALLET_DATA_DIR to a folder that is ours, or set WALLET_KEY_PEPPER, WALLET_TOKEN_KEYS and "
                "WALLET_TOTP_KEY."
            ) from None

    def _development_secret(self, name: str) -> str:
        return secret_files.read_or_make(self.data_dir, name, lambda: secrets.token_hex(32))

    def with_tls(self) -> Settings:
        """Require TLS to the database wherever its URL does not say otherwise (`sslmode=...`)."""
        return replace(
            self, database_url=_require_tls(self.database_url), migration_url=_require_tls(self.migration_url)
        )


def init_app(app: Flask, settings: Settings) -> Settings:
    """Give the application its settings, and return them; so does `current_settings()`."""
    if settings.database_url is None:
        raise ConfigurationError(
            "There is no database: start the embedded one with `make run`, "
            "or set DATABASE_URL to a PostgreSQL 15 to 18."
        )
    settings = settings.with_development_secrets()
    app.extensions["wallet_settings"] = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes_max
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    return settings


def environment_with(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings, for a process that serves beside it."""
    return {**os.environ, **changes}


def current_settings() -> Settings:
    """Return the settings of the application that is current."""
    settings: Settings = current_app.extensions["wallet_settings"]
    return settings


class _Reader:
    """Reads one variable at a time and turns every fault into a sentence that names the variable."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._given: set[str] = set()

    def given(self) -> frozenset[str]:
        """Return the names that were read and are set."""
        return frozenset(self._given)

    def __call__(self, name: str, default: T, parse: Callable[[str], T], *, empty: T | None = None) -> T:
        value = self._env.get(name)
        if value is None:
            return default
        self._given.add(name)
        if not value.strip():
            return default if empty is None else empty
        try:
            return parse(value.strip())
        except ValueError as exc:
            raise ConfigurationError(f"{name} {exc}.") from None


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {value[:40]!r}")
        return value

    return parse


def _switch(value: str) -> bool:
    if value not in {"on", "off"}:
        raise ValueError(f"must be on or off, not {value[:40]!r}")
    return value == "on"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value[:9]) <= high and len(value) <= 9):
            raise ValueError(f"must be a whole number from {low} to {high}, not {value[:40]!r}")
        return int(value)

    return parse


def _database_url(value: str) -> str:
    # The value may hold a password, so no message repeats it.
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError("is not a database URL: it must look like postgresql://user:password@host:5432/name") from None
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(f"must be a postgresql:// URL, not {url.drivername}://")
    if not url.database:
        raise ValueError("names no database: it must end in /name")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _require_tls(url: str | None) -> str | None:
    if url is None:
        return None
    parsed: URL = make_url(url)
    if "sslmode" not in parsed.query:
        parsed = parsed.update_query_dict({"sslmode": "require"})
    return parsed.render_as_string(hide_password=False)


def _rate_limit(value: str) -> str:
    try:
        parse_many(value)
    except ValueError:
        raise ValueError(f"must look like '120 per minute', or be empty for none, not {value[:40]!r}") from None
    return value


def _keys(value: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for part in value.split(","):
        version, _, key = part.strip().rpartition(":")
        if not re.fullmatch(r"[1-9][0-9]{0,3}", version or "1") or int(version or "1") in found:
            raise ValueError("must look like KEY, or like 2:KEY,1:KEY with the versions in front")
        found[int(version or "1")] = _key(key)
    return found


def _key(value: str) -> bytes:
    # The value is a secret, so no message repeats it.
    for read in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True), base64.urlsafe_b64decode):
        try:
            key = read(value)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise ValueError(f"must be {KEY_BYTES} random bytes, as `openssl rand -base64 {KEY_BYTES}` prints them")


def _console_origin(value: str) -> str:
    url = urlsplit(value.rstrip("/"))
    is_origin = url.netloc and not (url.path or url.query or url.fragment or url.username)
    # Browsers keep the session's cookie over TLS alone, or from this very machine by its name.
    if not is_origin or (url.scheme != "https" and not (url.scheme == "http" and url.hostname == "localhost")):
        raise ValueError(f"must look like https://wallet.example.com, or http://localhost:8000, not {value[:60]!r}")
    return f"{url.scheme}://{url.netloc}".lower()


def _peppers(value: str) -> dict[int, bytes]:
    return {
        int(version): secret
        for version, secret in _named_secrets(
            value, r"[1-9][0-9]{0,3}", "must look like SECRET, or like 2:SECRET,1:SECRET with the versions in front"
        )
    }


def _token_keys(value: str) -> dict[str, bytes]:
    return dict(
        _named_secrets(
            value,
            "[A-Za-z0-9_-]{1,32}",
            "must look like SECRET, or like new:SECRET,old:SECRET with each key's id in front",
        )
    )


def _named_secrets(value: str, name_form: str, words: str) -> Iterator[tuple[str, bytes]]:
    # No message repeats any of it.
    seen = set()
    for part in value.split(","):
        name, _, secret = part.strip().rpartition(":")
        if not re.fullmatch(name_form, name or "1") or (name or "1") in seen:
            raise ValueError(words)
        if not re.fullmatch(r"[!-+\--9;-~]{32,200}", secret):
            raise ValueError("needs secrets of 32 to 200 printable characters without blanks, commas and colons")
        seen.add(name or "1")
        yield name or "1", secret.encode()


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
    for origin in origins:
        if not origin.startswith(("http://", "https://")) or "*" in origin:
            raise ValueError(
                f"must be a comma-separated list of origins like https://shop.example, not {origin[:60]!r}"
            )
    return origins
