"""What may be said of any command beside what it asks for: a note, metadata, when it happened, on which version.

None of it is compared when a reference comes again: a caller may word a retry differently, and date it anew.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from wallet_app import text
from wallet_app.fields import DETAILS, Note, Outside
from wallet_app.money import AMOUNT_MAX, digits_pattern

METADATA_BYTES_MAX = 2048
METADATA_KEYS_MAX = 50
METADATA_TEXT_MAX = 500

EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""What is dated before was not dated, but came from an empty field or another unit of time."""

AHEAD_MAX = dt.timedelta(minutes=5)
"""How far a caller's clock may be ahead of ours: what has not happened yet moves nothing."""

_KEY = re.compile(text.KEY_PATTERN.removeprefix("^").removesuffix("$"))
_OCCURRED_PATTERN = (
    r"^20[0-9]{2}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
    r"02-(?:0[1-9]|[12][0-9]))T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
_OCCURRED = re.compile(_OCCURRED_PATTERN.removeprefix("^").removesuffix("$"))
_VERSION_PATTERN = f"^0$|{digits_pattern(AMOUNT_MAX)}"
_VERSION = re.compile(_VERSION_PATTERN.replace("^", "").replace("$", ""))


def read_metadata(value: object) -> str | None:
    """Return the metadata as the text that is kept, its keys sorted; None for nothing. Raises ValueError.

    Flat, because what is nested is looked for in vain; and each number one that every client reads exactly.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - it is a value from outside
    if len(value) > METADATA_KEYS_MAX:
        raise ValueError(f"must have at most {METADATA_KEYS_MAX} keys")
    for key, one in value.items():
        if not _KEY.fullmatch(key) or text.is_refused(key):
            raise ValueError(
                "must have keys of 1 to 64 characters, with no blanks at their ends, no control characters and no "
                "lone surrogates"
            )
        _require_plain(one)
    kept = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if len(kept.encode()) > METADATA_BYTES_MAX:
        raise PydanticCustomError("too_large", f"must have at most {METADATA_BYTES_MAX} bytes as JSON without blanks")
    return kept if value else None


def _require_plain(value: object) -> None:
    if isinstance(value, str):
        if len(value) > METADATA_TEXT_MAX or text.is_refused(value):
            raise ValueError(
                f"must have texts of at most {METADATA_TEXT_MAX} characters, without control characters or lone "
                "surrogates"
            )
    elif isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) > AMOUNT_MAX:
            raise ValueError(f"must have numbers from -{AMOUNT_MAX} to {AMOUNT_MAX}; send larger ones as texts")
    elif value is not None:
        raise ValueError("must be flat: its values are texts, numbers, true, false or null")


def read_occurred_at(value: object) -> dt.datetime | None:
    """Return the instant; None for none. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str) or not _OCCURRED.fullmatch(value):
        raise ValueError(
            "must be an instant like 2026-01-31T12:00:00Z or 2026-01-31T14:00:00.25+02:00, to the microsecond at most, "
            "in the years 2000 to 2099"
        )
    try:
        instant = dt.datetime.fromisoformat(value)
    except ValueError:  # The 29th of a February that has none: no pattern can say it.
        raise PydanticCustomError("out_of_range", "must be a day of the calendar") from None
    if instant < EARLIEST:
        raise PydanticCustomError("out_of_range", f"must not be before {EARLIEST:%Y-%m-%dT%H:%M:%SZ}")
    if instant > dt.datetime.now(dt.UTC) + AHEAD_MAX:
        raise PydanticCustomError("out_of_range", "must not be more than 5 minutes in the future")
    return instant


def read_version(value: object) -> int:
    """Return a wallet's version: 0 before its first entry. Raises ValueError."""
    if isinstance(value, str) and _VERSION.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= AMOUNT_MAX:
        raise ValueError(f"must be a wallet's version: a whole number from 0 to {AMOUNT_MAX}")
    return value


METADATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "maxProperties": METADATA_KEYS_MAX,
    "propertyNames": {"pattern": text.KEY_PATTERN},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "pattern": text.VALUE_PATTERN, "maxLength": METADATA_TEXT_MAX},
            {"type": "number", "minimum": -AMOUNT_MAX, "maximum": AMOUNT_MAX},
            {"type": "boolean"},
            {"type": "null"},
        ]
    },
}
Metadata = Annotated[
    str | None,
    PlainValidator(read_metadata),
    WithJsonSchema(
        {
            "anyOf": [METADATA_SCHEMA, {"type": "null"}],
            "description": "For programs: a flat object, kept with the transaction and told again with it. At most "
            f"{METADATA_BYTES_MAX} bytes as JSON without blanks.",
        }
    ),
]
"""The text that is kept."""

OccurredAt = Annotated[
    dt.datetime | None,
    PlainValidator(read_occurred_at),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": _OCCURRED_PATTERN}, {"type": "null"}],
            "description": "When it happened in the caller's world, if not now: RFC 3339, to the microsecond at most, "
            "from the year 2000 to 5 minutes from now. It changes nothing of what is decided.",
        }
    ),
]


IfVersion = Annotated[
    int | None,
    PlainValidator(read_version),
    WithJsonSchema(
        {
            "description": "Only if the wallet under which the reference counts still has this version, as If-Match "
            "says it for a command of its own. A string of digits is accepted too.",
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX},
                {"type": "string", "pattern": _VERSION_PATTERN},
            ],
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""


class WithDetails(Outside):
    """What every command takes, as a request and as a record."""

    note: Note = None
    metadata: Metadata = None
    occurred_at: OccurredAt = None

    def details(self) -> dict[str, Any]:
        """Return it as the arguments of the command."""
        return {"note": self.note, "metadata": self.metadata, "occurred_at": self.occurred_at}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # To be read: what a command is about comes first.
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name in DETAILS:
            if name in properties:
                properties[name] = properties.pop(name)
        return schema
