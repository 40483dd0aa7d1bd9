"""The settings as people may read them: of a secret whether there is one, and never what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from wallet_app.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingView:
    """A setting: its variable, what it is for, its value in words, and where that comes from."""

    variable: str
    about: str
    value: str
    source: str


def _secrets(versions: Mapping[Any, bytes]) -> str:
    return f"set ({', '.join(map(str, versions))})" if versions else "not set"


def _secret(value: object) -> str:
    return "not set" if value is None else "set"


def _database(value: str | None) -> str:
    """Return where it is and who signs in, without the password and whatever stands behind the question mark."""
    if value is None:
        return "not set"
    url = make_url(value)
    sslmode = url.query.get("sslmode")
    port = f":{url.port}" if url.port else ""
    tail = f", sslmode {sslmode}" if sslmode else ""
    return f"{url.database} at {url.host or 'a local socket'}{port}, as {url.username or 'the system user'}{tail}"


def _storage(value: str) -> str:
    """Return the storage without its password."""
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        return "set"
    return f"{url.drivername}://" + (f"{url.host}:{url.port}" if url.port else url.host or "")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value in (None, "") else str(value)


_Show = Callable[[Any], str]
_TABLE: Mapping[str, tuple[str, str, _Show]] = MappingProxyType(
    {
        "environment": ("WALLET_ENV", "What the service is run for", _text),
        "database_url": ("DATABASE_URL", "The database", _database),
        "migration_url": ("DATABASE_MIGRATION_URL", "The database as migrations reach it", _database),
        "db_pooler": ("WALLET_DB_POOLER", "What stands between the service and the database", _text),
        "data_dir": ("WALLET_DATA_DIR", "Folder of the embedded database, and of development's secrets", _text),
        "host": ("HOST", "Address to listen at", _text),
        "port": ("PORT", "Port to listen at", _text),
        "workers": ("WALLET_WORKERS", "Processes", _text),
        "connections_max": ("WALLET_CONNECTIONS", "Clients that a process serves at once", _text),
        "pool_size": ("WALLET_POOL_SIZE", "Database connections of a process, for postings and for reads each", _text),
        "pool_seconds_max": ("", "Seconds to wait for a database connection", _text),
        "group_commit": ("WALLET_GROUP_COMMIT", "Concurrent requests share a COMMIT", _text),
        "key_peppers": ("WALLET_KEY_PEPPER", "What goes into what is stored of API keys, by version", _secrets),
        "token_keys": ("WALLET_TOKEN_KEYS", "What signs the tokens of users, by id; the first signs", _secrets),
        "bootstrap_key": ("WALLET_BOOTSTRAP_API_KEY", "An API key from outside", _secret),
        "rate_limit": ("WALLET_RATE_LIMIT", "Requests of an address that nobody is known by", _text),
        "rate_limit_key": ("WALLET_RATE_LIMIT_KEY", "Requests of an API key", _text),
        "rate_limit_operator": ("WALLET_RATE_LIMIT_OPERATOR", "Requests of an operator", _text),
        "rate_limit_storage": ("WALLET_RATE_LIMIT_STORAGE", "Where requests are counted", _storage),
        "cors_origins": ("WALLET_CORS_ORIGINS", "Origins whose pages may call the API", _text),
        "trusted_proxies": ("WALLET_TRUSTED_PROXIES", "Proxies in front of the service", _text),
        "body_bytes_max": ("", "Bytes that a request may have", _text),
        "hold_seconds_max": ("WALLET_HOLD_SECONDS_MAX", "Seconds that a new hold may last", _text),
        "totp_key": ("WALLET_TOTP_KEY", "What seals the operators' authenticator secrets", _secret),
        "totp_key_version": ("WALLET_TOTP_KEY", "The version of it that seals", _text),
        "totp_keys_before": ("WALLET_TOTP_KEY", "The versions before, which still are read", _secrets),
        "console_origin": ("WALLET_CONSOLE_ORIGIN", "Where browsers open the console", _text),
    }
)
"""Of each setting its variable, what it is for, and how its value is shown."""

_MADE = frozenset({"key_peppers", "token_keys", "totp_key", "totp_key_version"})
"""Secrets that a development machine makes for itself."""


def described(settings: Settings) -> list[SettingView]:
    """Return all settings, in their order."""
    return [
        SettingView(variable=variable, about=about, value=show(getattr(settings, name)), source=_source(settings, name))
        for name, (variable, about, show) in _TABLE.items()
    ]


def _source(settings: Settings, name: str) -> str:
    variable = _TABLE[name][0]
    if not variable:
        return "fixed"
    if variable in settings.given:
        return "environment"
    if name == "migration_url" and settings.migration_url is not None:
        return "as DATABASE_URL"
    return "made in the data folder" if name in _MADE and settings.environment == "development" else "default"
