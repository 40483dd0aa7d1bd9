"""The fields of grants that end and of lots; more of `fields`, which says what fields are."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from wallet_app import text
from wallet_app.fields import read_uuid
from wallet_app.service import GRACE_DAYS_MAX, ON_EXPIRED
from wallet_app.state_fields import DAY, LEAP_DAY, UNTIL_PATTERN, read_until, require_day

NEVER = "never"
_DAY_PATTERN = f"^(?:{DAY}|{LEAP_DAY})$"
_DAY = re.compile(_DAY_PATTERN.removeprefix("^").removesuffix("$"))
_DAYS_PATTERN = "^[1-9][0-9]{0,4}$"
_DAYS = re.compile(_DAYS_PATTERN.removeprefix("^").removesuffix("$"))


def read_expires_at(value: object) -> dt.datetime | dt.date | None:
    """Return the instant in UTC, the day at whose end it is, or None for never; raise ValueError."""
    if value is None or value == NEVER:
        return None
    return _read_end(value)


def _read_end(value: object) -> dt.datetime | dt.date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        return dt.date.fromisoformat(value)
    require_day(value)
    try:
        instant = read_until(value)
    except ValueError:
        instant = None
    if instant is None:
        raise ValueError(
            "must be an instant like 2026-12-31T23:59:59Z, with an offset, or a day like 2026-12-31, which ends in the "
            "asset's time zone; in the years 2000 to 2999"
        )
    return instant


def _lot_id(value: object) -> uuid.UUID:
    return read_uuid(value, "a lot's")


def _on_expired(value: object) -> str:
    if value not in ON_EXPIRED:
        raise ValueError(f"must be one of {', '.join(ON_EXPIRED)}")
    return str(value)


def _grace_days(value: object) -> int:
    if isinstance(value, str) and _DAYS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 1 <= value <= GRACE_DAYS_MAX:
        raise PydanticCustomError("invalid", f"must be a whole number from 1 to {GRACE_DAYS_MAX}")
    return value


_END_FORMS: list[dict[str, Any]] = [
    {"type": "string", "pattern": UNTIL_PATTERN},
    {"type": "string", "pattern": _DAY_PATTERN},
]
ExpiresAt = Annotated[
    dt.datetime | dt.date | None,
    PlainValidator(read_expires_at),
    WithJsonSchema(
        {
            "anyOf": [*_END_FORMS, {"type": "string", "enum": [NEVER]}, {"type": "null"}],
            "description": "Until when it can be spent: an instant as RFC 3339 has it, or a day, at whose end in the "
            "asset's time zone it is over; in the years 2000 to 2999, and ahead. Null or `never`: for ever. Absent: as "
            "the asset's `bonusDays` say.",
        }
    ),
]
"""Whether it was said at all tells the model's `model_fields_set`."""

LaterEnd = Annotated[
    dt.datetime | dt.date,
    PlainValidator(_read_end),
    WithJsonSchema(
        {
            "anyOf": _END_FORMS,
            "description": "Until when it can be spent from now on: an instant as RFC 3339 has it, or a day, at whose "
            "end in the asset's time zone it is over; in the years 2000 to 2999. Later than before.",
        }
    ),
]
LotId = Annotated[
    uuid.UUID,
    PlainValidator(_lot_id),
    WithJsonSchema({"type": "string", "pattern": text.UUID_PATTERN, "description": "The lot's id."}),
]
OnExpired = Annotated[
    str,
    PlainValidator(_on_expired),
    WithJsonSchema(
        {
            "type": "string",
            "enum": list(ON_EXPIRED),
            "default": ON_EXPIRED[0],
            "description": "What becomes of credit that is given back to a lot whose time is over by now: it expires "
            "at once, or is granted anew, for `graceDays`.",
        }
    ),
]
REGRANT_WITH_DAYS: dict[str, Any] = {
    "anyOf": [
        {"not": {"required": ["graceDays"]}, "properties": {"onExpired": {"not": {"const": "regrant"}}}},
        {"required": ["onExpired", "graceDays"], "properties": {"onExpired": {"const": "regrant"}}},
    ]
}
"""Of a reversal, as a schema: days go with "regrant" alone, and never fail there."""

GraceDays = Annotated[
    int | None,
    PlainValidator(_grace_days),
    WithJsonSchema(
        {
            "description": 'For how many days what is granted anew lives; with `onExpired` "regrant" alone. A string '
            "of digits is accepted too.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": GRACE_DAYS_MAX},
                {"type": "string", "pattern": _DAYS_PATTERN},
            ],
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""
