"""The query parameters that narrow a list of entries or transactions, and `at`: schemas, and how they are read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flask import request
from pydantic_core import PydanticCustomError

from wallet_app import text
from wallet_app.fields import invalid
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import ENTRY_TYPES, RANGE_DAYS_MAX, Command, Filters

T = TypeVar("T")

_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT_CHARACTERS_MAX = 60
_AMOUNT = re.compile(r"[0-9]{1,16}")
_KEY = re.compile(text.KEY_PATTERN.removeprefix("^").removesuffix("$"))
_VALUE_CHARACTERS_MAX = 500


def _kinds(parent: type[Command]) -> Iterator[str]:
    for child in parent.__subclasses__():
        if isinstance(kind := getattr(child, "kind", None), str):
            yield kind
        yield from _kinds(child)


KINDS = tuple(sorted(set(_kinds(Command))))
"""Every kind that a transaction can have."""


def _parameter(name: str, description: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "example": example,
        "schema": schema,
    }


_INSTANT_SCHEMA = {"type": "string", "format": "date-time"}
_DAY_SCHEMA = {"type": "string", "format": "date"}
_AMOUNT_SCHEMA = {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX}

TYPE = _parameter("type", "Only entries of this type", {"type": "string", "enum": list(ENTRY_TYPES)}, "SPEND")
KIND = _parameter("kind", "Only transactions of this kind", {"type": "string", "enum": list(KINDS)}, "TRANSFER")
OF_WALLET: dict[str, Any] = _parameter(
    "walletId",
    "Only transactions of this wallet: with an entry in it, or under a reference of it",
    {"type": "integer", "format": "int64", "minimum": 1, "maximum": 2**63 - 1},
    3,
)
COMMON = (
    _parameter(
        "from",
        "Only what was created at this instant or later; RFC 3339, with a zone",
        _INSTANT_SCHEMA,
        "2026-01-01T00:00:00Z",
    ),
    _parameter(
        "to",
        "Only what was created before this instant; RFC 3339, with a zone",
        _INSTANT_SCHEMA,
        "2026-02-01T00:00:00Z",
    ),
    _parameter("amountMin", "Only with an entry of at least this size, whichever its sign", _AMOUNT_SCHEMA, 10),
    _parameter("amountMax", "Only with an entry of at most this size, whichever its sign", _AMOUNT_SCHEMA, 500),
    _parameter(
        "reference",
        "Only under this referenceId, the service's own included. Of one wallet: its own transaction first, then those "
        "of others that came in under it",
        {"type": "string", "pattern": text.REFERENCE_PATTERN},
        "spend-1001",
    ),
    _parameter(
        "actor",
        "Only what this actor posted. Over all wallets: in at most "
        f"{RANGE_DAYS_MAX} days, by `from` and `to`, or with `reference`",
        {"type": "string", "pattern": text.NAME_PATTERN},
        "key:k3f6m2q7zt5a",
    ),
    _parameter(
        "metadataKey",
        "Only with this key in its metadata. Over all wallets: in at most "
        f"{RANGE_DAYS_MAX} days, by `from` and `to`, or with `reference`",
        {"type": "string", "pattern": text.KEY_PATTERN},
        "order",
    ),
    _parameter(
        "metadataValue",
        "With `metadataKey`: only with this value there; numbers, true and false as they were written in JSON, so "
        "100.0 is not 100. null is found by the key alone",
        {"type": "string", "maxLength": _VALUE_CHARACTERS_MAX, "pattern": text.VALUE_PATTERN},
        "1001",
    ),
)
COMMON_NAMES = tuple(parameter["name"] for parameter in COMMON)
AT = _parameter(
    "at",
    "The balance as it was at this instant, which is not in the future; RFC 3339, with a zone",
    _INSTANT_SCHEMA,
    "2026-01-31T12:00:00Z",
)
REPORT_AT = _parameter(
    "at",
    "From the beginning to this instant, which is included and not in the future; RFC 3339, with a zone",
    _INSTANT_SCHEMA,
    "2026-03-31T15:00:00Z",
)
REPORT_FROM = _parameter(
    "from", "Beginning with this instant; RFC 3339, with a zone", _INSTANT_SCHEMA, "2026-01-01T00:00:00Z"
)
REPORT_TO = _parameter(
    "to",
    "Up to this instant, which is not included and not in the future; RFC 3339, with a zone",
    _INSTANT_SCHEMA,
    "2026-02-01T00:00:00Z",
)
FROM_DAY = _parameter("from", "Only this day and later ones (UTC)", _DAY_SCHEMA, "2026-01-01")
TO_DAY = _parameter("to", "Only days before this one (UTC)", _DAY_SCHEMA, "2026-02-01")
RATES_AT = _parameter(
    "at", "The rates at this instant instead of now; RFC 3339, with a zone", _INSTANT_SCHEMA, "2026-01-31T12:00:00Z"
)


def filters_of_entries() -> Filters:
    """Return what the caller asks for; raise ValidationFailedError or BadFilterError."""
    return _filters(_choice("type", ENTRY_TYPES))


def filters_of_transactions() -> Filters:
    """Return what the caller asks for; raise ValidationFailedError or BadFilterError."""
    return _filters(_choice("kind", KINDS))


def at() -> dt.datetime | None:
    """Return the instant that the caller asks about, if any: the microsecond that it falls into."""
    return _read("at", _floor)


def period() -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return from when (included) until when (not) the caller asks, where they say so."""
    return _read("from", _ceiling), _read("to", _ceiling)


def days() -> tuple[dt.date | None, dt.date | None]:
    """Return from which day (included) to which (not) the caller asks, where they say so."""
    return _read("from", _day), _read("to", _day)


def _filters(kind: str | None) -> Filters:
    return Filters(
        kind=kind,
        created_from=_read("from", _ceiling),
        created_to=_read("to", _ceiling),
        amount_min=_read("amountMin", _amount),
        amount_max=_read("amountMax", _amount),
        reference=_read("reference", lambda value: text.clean(value, low=3, high=200)),
        actor=_read("actor", lambda value: text.clean(value, low=1, high=200)),
        metadata_key=_read("metadataKey", _metadata_key),
        metadata_value=_read("metadataValue", _metadata_value),
    )


def _read(name: str, read: Callable[[str], T]) -> T | None:
    value = request.args.get(name)
    if value is None:
        return None
    try:
        return read(value)
    except PydanticCustomError as exc:
        raise invalid(f"/{name}", exc.type, exc.message()) from None
    except ValueError as exc:
        raise invalid(f"/{name}", "invalid", str(exc)) from None


def _choice(name: str, known: tuple[str, ...]) -> str | None:
    value = request.args.get(name)
    if value is not None and value not in known:
        raise invalid(f"/{name}", "invalid", f"must be one of {', '.join(known)}")
    return value


def _amount(value: str) -> int:
    if not _AMOUNT.fullmatch(value) or int(value) > AMOUNT_MAX:
        raise ValueError(f"must be a whole number from 0 to {AMOUNT_MAX}")
    return int(value)


def _metadata_key(value: str) -> str:
    if not _KEY.fullmatch(value) or text.is_refused(value):
        raise ValueError("must have 1 to 64 characters, with no blanks at its ends and no control characters")
    return value


def _metadata_value(value: str) -> str:
    if len(value) > _VALUE_CHARACTERS_MAX or text.is_refused(value):
        raise ValueError(f"must have at most {_VALUE_CHARACTERS_MAX} characters and no control characters")
    return value


def _floor(value: str) -> dt.datetime:
    return _instant(value)[0]


def _ceiling(value: str) -> dt.datetime:
    """Return the first microsecond that is not before the instant: what was created is known to the microsecond."""
    found, has_rest = _instant(value)
    return found + dt.timedelta(microseconds=1) if has_rest and found < _LAST else found


def _day(value: str) -> dt.date:
    if not _DAY.fullmatch(value):
        raise ValueError("must be a day like 2026-01-31")
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a day that exists, like 2026-01-31") from None


_LAST = dt.datetime.max.replace(tzinfo=dt.UTC)


def _instant(value: str) -> tuple[dt.datetime, bool]:
    """Return the microsecond that the instant falls into, in UTC, and whether there is more of it; raise ValueError."""
    match = _INSTANT.fullmatch(value) if len(value) <= _INSTANT_CHARACTERS_MAX else None
    if match is None:
        raise ValueError("must be an instant as RFC 3339 has it, with a zone, like 2026-01-31T12:00:00Z; + is %2B here")
    date, minute, second, fraction, zone = match.groups()
    fraction = fraction or ""
    # A leap second is the last one of its minute here, as in the database.
    seconds = "59" if second == "60" else second
    try:
        local = dt.datetime.fromisoformat(f"{date}T{minute}:{seconds}.{fraction[:6]:0<6}{zone.upper()}")
        return local.astimezone(dt.UTC), bool(fraction[6:].strip("0"))
    except (ValueError, OverflowError):
        raise ValueError("must be an instant that exists, like 2026-01-31T12:00:00Z") from None
