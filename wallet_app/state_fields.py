"""The fields of freezes, closings and switches, as `fields.py` has those of all others."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from wallet_app import text
from wallet_app.errors import SwitchNotFoundError
from wallet_app.fields import ID_MAX
from wallet_app.service import SIDES, Side

LEAP_DAY = "2[0-9](?:0[48]|[2468][048]|[13579][26])-02-29|2[048]00-02-29"
DAY = (
    "2[0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
UNTIL_PATTERN = (
    f"^(?:{DAY}|{LEAP_DAY})T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{{1,6}})?"
    "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""RFC 3339 with years from 2000 to 2999, so that every offset leaves an instant that there is."""
_UNTIL = re.compile(UNTIL_PATTERN.removeprefix("^").removesuffix("$"))
_ANY_DAY = re.compile(r"(2[0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))(?![0-9])")
_SWITCH_ID = re.compile(r"[0-9]{1,100}")


def read_until(value: object) -> dt.datetime | None:
    """Return the instant in UTC, None for a null or for an empty cell; raise ValueError."""
    if value is None:
        return None
    if not isinstance(value, str) or not _UNTIL.fullmatch(value):
        require_day(value)
        raise ValueError("must be an instant like 2026-12-31T23:59:59Z, with an offset, in the years 2000 to 2999")
    return dt.datetime.fromisoformat(value).astimezone(dt.UTC)


def require_day(value: object) -> None:
    """Raise ValueError for what begins with a day that does not exist, like 2027-02-29."""
    found = _ANY_DAY.match(value) if isinstance(value, str) else None
    if found is None:
        return
    try:
        dt.date.fromisoformat(found[1])
    except ValueError:
        raise ValueError(f"must be a day that exists: {found[1]} does not") from None


def read_side(value: object) -> Side:
    """Return the side, or raise ValueError."""
    if value == "debits" or value == "credits" or value == "both":
        return value
    raise ValueError(f"must be one of {', '.join(SIDES)}")


def read_reason(value: object) -> str:
    """Return the reason, or raise ValueError."""
    return text.clean(value, low=1, high=500)


def read_switch_id(value: str) -> int:
    """Return the id; ValueError for what is no positive integer, SwitchNotFoundError for one that is too large."""
    if not _SWITCH_ID.fullmatch(value) or (number := int(value)) < 1:
        raise ValueError("must be a whole number from 1")
    if number > ID_MAX:
        raise SwitchNotFoundError(number)
    return number


SIDE_SCHEMA: dict[str, Any] = {"type": "string", "enum": list(SIDES)}
SideField = Annotated[
    Side,
    PlainValidator(read_side),
    WithJsonSchema({**SIDE_SCHEMA, "description": "What leaves the wallet, what comes into it, or both."}),
]
Until = Annotated[
    dt.datetime | None,
    PlainValidator(read_until),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": UNTIL_PATTERN}, {"type": "null"}],
            "description": "When it ends by itself, as RFC 3339 has it, in the years 2000 to 2999, and ahead. Absent "
            "or null: it does not.",
        }
    ),
]
REASON_SCHEMA: dict[str, Any] = {"type": "string", "pattern": text.REASON_PATTERN}
