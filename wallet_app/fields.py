"""The fields of what callers send: types that check themselves, and the refusal that names what is wrong.

Whoever reads from outside (a request's body, an item of a batch, a row of a file) takes its fields from here, so that
the same value is accepted, or refused in the same words, everywhere.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection
from fractions import Fraction
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from wallet_app import text
from wallet_app.errors import InvalidError, NotFoundError, UserNotFoundError, WalletNotFoundError
from wallet_app.money import AMOUNT_MAX, AMOUNT_PATTERN, RATE_PATTERN, digits_pattern, parse_amount, parse_rate
from wallet_app.service import (
    HOLD_SECONDS_MAX,
    NOT_FOR_NEW_KEYS,
    RESERVED_CLIENTS,
    SCOPES,
    SYSTEM_REFERENCE,
    TOKEN_SCOPES,
    TOKEN_SECONDS_MAX,
)

ID_MAX = 2**63 - 1
KEY_SECONDS_MAX = 3650 * 24 * 60 * 60
_KEY_LISTS_MAX = 100
"""Assets, and networks, that a key is limited to."""
_CLIENT_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_CLIENT = re.compile(_CLIENT_PATTERN.removeprefix("^").removesuffix("$"))
_NETWORK_PATTERN = "^[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}$"
_NETWORK = re.compile(_NETWORK_PATTERN.removeprefix("^").removesuffix("$"))
_RATE_LIMIT_PATTERN = "^[1-9][0-9]{0,8} per (?:second|minute|hour|day)$"
_RATE_LIMIT = re.compile(_RATE_LIMIT_PATTERN.removeprefix("^").removesuffix("$"))
_ERRORS_MAX = 20
DETAILS = ("note", "metadata", "occurredAt", "ifVersion")
"""The fields of what is said of any command beside what it asks for."""
_ID_DIGITS_MAX = 100
_ASSET_CODE_PATTERN = "^[A-Z][A-Z0-9_]{1,31}$"
_ASSET_CODE = re.compile(_ASSET_CODE_PATTERN.removeprefix("^").removesuffix("$"))
_UUID = re.compile(text.UUID_PATTERN.removeprefix("^").removesuffix("$"))
_HOLD_SECONDS_PATTERN = digits_pattern(HOLD_SECONDS_MAX)
_HOLD_SECONDS = re.compile(_HOLD_SECONDS_PATTERN.removeprefix("^").removesuffix("$"))
_ID_DIGITS = re.compile(rf"[0-9]{{1,{_ID_DIGITS_MAX}}}")


class ValidationFailedError(InvalidError):
    """One or more fields are wrong; `errors` has a JSON pointer for each."""

    code = "validation_error"
    title = "Validation error"

    def __init__(self, errors: list[dict[str, str]]) -> None:
        first = errors[0]
        where = first["pointer"].removeprefix("/") or "body"
        super().__init__(f"{where}: {first['detail']}.", errors=errors)


def invalid(pointer: str, code: str, detail: str) -> ValidationFailedError:
    """Return the refusal of a single field."""
    return ValidationFailedError([{"pointer": pointer, "code": code, "detail": detail}])


def refusal(fault: ValidationError, *, tag: str | None = None) -> ValidationFailedError:
    """Return pydantic's findings in our words. `tag` names the field by which a union was told apart, if it was."""
    found = sorted(fault.errors(include_url=False), key=_place)
    return ValidationFailedError([_error(error, tag) for error in found[:_ERRORS_MAX]])


def _place(error: Any) -> int:
    """Return where the error stands among others: what the request is about, then its details, then what is unknown.

    pydantic goes by where a field is declared, and the details are declared for all commands in one place.
    """
    if error["type"] == "extra_forbidden":
        return 2
    return 1 if error["loc"] and error["loc"][-1] in DETAILS else 0


def _error(error: Any, tag: str | None) -> dict[str, str]:
    # A union puts the tag's value in front of where the fault is; to the caller it is no part of the path.
    pointer = "".join(f"/{printable(str(part))}" for part in error["loc"][0 if tag is None else 1 :])
    kind = str(error["type"])
    if kind == "extra_forbidden":
        return {"pointer": pointer, "code": "unknown_field", "detail": "is not a field of this request"}
    if kind == "missing":
        return {"pointer": pointer, "code": "missing", "detail": "is required"}
    if kind == "union_tag_not_found":
        return {"pointer": f"/{tag}", "code": "missing", "detail": "is required"}
    if kind == "union_tag_invalid":
        known = error["ctx"]["expected_tags"].replace("'", "")
        return {"pointer": f"/{tag}", "code": "invalid", "detail": f"must be one of {known}"}
    if kind == "string_unicode":
        return {"pointer": pointer, "code": "invalid", "detail": "must not have a lone surrogate in a field's name"}
    if kind == "value_error":
        return {"pointer": pointer, "code": "invalid", "detail": str(error["ctx"]["error"])}
    if kind in {"too_short", "too_long"}:
        words = {"too_short": "at least {min_length} item", "too_long": "at most {max_length} items"}[kind]
        return {"pointer": pointer, "code": "invalid", "detail": "must have " + words.format(**error["ctx"])}
    if kind in {"model_type", "model_attributes_type"}:
        return {"pointer": pointer, "code": "invalid", "detail": "must be a JSON object"}
    code = kind if kind in {"reserved", "too_large", "out_of_range"} else "invalid"
    return {"pointer": pointer, "code": code, "detail": str(error["msg"])[:1].lower() + str(error["msg"])[1:]}


def printable(name: str) -> str:
    """Return a name from outside as part of a JSON pointer: escaped, of bounded length, and encodable."""
    escaped = name.replace("~", "~0").replace("/", "~1")
    return escaped[:100].encode("utf-8", "replace").decode()


def read_wallet_id(value: object) -> int:
    """Return the id; ValueError for what is no positive integer, WalletNotFoundError for one that no wallet can have.

    A string of digits is an id too: that is how it stands in a path and in a file's row.
    """
    return _read_id(value, WalletNotFoundError)


def read_user_id(value: object) -> int:
    """Return the id; ValueError for what is no positive integer, UserNotFoundError for one that no user can have."""
    return _read_id(value, UserNotFoundError)


def read_asset_code(value: object) -> str:
    """Return what can be an asset's code, or raise ValueError."""
    if not isinstance(value, str) or not _ASSET_CODE.fullmatch(value):
        raise ValueError("must be an asset's code, like GOLD: 2 to 32 capitals, digits and underscores")
    return value


def _read_id(value: object, not_found: Callable[[int], NotFoundError]) -> int:
    if isinstance(value, str) and _ID_DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or value < 1:
        raise ValueError("must be a whole number from 1")
    if value > ID_MAX:
        raise not_found(value)
    return value


def read_reference(value: object) -> str:
    """Return a caller's reference, or raise ValueError; `reserved` if it is one of the service's own."""
    reference = text.clean(value, low=3, high=200)
    if reference.startswith(SYSTEM_REFERENCE):
        raise PydanticCustomError("reserved", f"must not begin with {SYSTEM_REFERENCE}, which is the service's own")
    return reference


def read_client(value: object) -> str:
    """Return what can be the name of a client with keys, or raise ValueError."""
    if not isinstance(value, str) or not _CLIENT.fullmatch(value):
        raise ValueError("must be a client's name: 1 to 64 letters, digits, dots, dashes and underscores")
    if value in RESERVED_CLIENTS:
        raise PydanticCustomError("reserved", "must not be one of the service's own names")
    return value


def read_new_client(value: object) -> str:
    """Return what can be the name of a client that somebody is given a key for, or raise ValueError."""
    name = read_client(value)
    if name.casefold() in NOT_FOR_NEW_KEYS:
        raise PydanticCustomError("reserved", "must not be one of the service's own names, in any case")
    return name


def _scopes_of(known: Collection[str]) -> Callable[[object], list[str]]:
    def read(value: object) -> list[str]:
        if not isinstance(value, list) or not 1 <= len(value) <= len(known):
            raise ValueError(f"must be a list of 1 to {len(known)} scopes")
        if not all(isinstance(scope, str) and scope in known for scope in value) or len(set(value)) < len(value):
            raise ValueError(f"must have scopes of {', '.join(sorted(known))}, each once")
        return value

    return read


def _seconds_to(high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not 1 <= value <= high:
            raise ValueError(f"must be a whole number from 1 to {high}")
        return value

    return read


def _some(pattern: re.Pattern[str], words: str) -> Callable[[object], list[str]]:
    def read(value: object) -> list[str]:
        if not isinstance(value, list) or not 1 <= len(value) <= _KEY_LISTS_MAX:
            raise ValueError(f"must be a list of 1 to {_KEY_LISTS_MAX} {words}")
        if not all(isinstance(one, str) and pattern.fullmatch(one) for one in value) or len(set(value)) < len(value):
            raise ValueError(f"must have {words}, each once")
        return value

    return read


def _rate_limit(value: object) -> str:
    if not isinstance(value, str) or not _RATE_LIMIT.fullmatch(value):
        raise ValueError("must look like '600 per minute': a whole number, and second, minute, hour or day")
    return value


def read_uuid(value: object, whose: str) -> uuid.UUID:
    """Return the id, or raise ValueError; `whose` is a word for the message."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError(f"must be {whose} id, like 019a202e-4254-7c9c-bda5-498cff37d325")
    return uuid.UUID(value)


def _hold_id(value: object) -> uuid.UUID:
    return read_uuid(value, "a hold's")


def _hold_seconds(value: object) -> int:
    if isinstance(value, str) and _HOLD_SECONDS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 1 <= value <= HOLD_SECONDS_MAX:
        raise ValueError(f"must be a whole number from 1 to {HOLD_SECONDS_MAX}")
    return value


def _final(value: object) -> bool:
    found = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - it is a value from outside
    return found


def is_final(amount: int | None, final: bool | None) -> bool:
    """Return whether a capture ends its hold; raise ValidationFailedError for one of all that shall not."""
    if amount is None and final is False:
        raise invalid("/final", "invalid", "must not be false without an amount: then all is captured that is held")
    return amount is None or bool(final)


def _note(value: object) -> str | None:
    return None if value is None else text.clean(value, low=0, high=500) or None


def _id_schema(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "description": f"{description} A string of digits is accepted too.",
            "anyOf": [
                {"type": "integer", "format": "int64", "minimum": 1, "maximum": ID_MAX},
                {"type": "string", "pattern": "^[0-9]*[1-9][0-9]*$", "maxLength": _ID_DIGITS_MAX},
            ],
        }
    )


# An id that nobody can have is a NotFoundError and no ValueError, so it passes through pydantic as it is.
WalletId = Annotated[int, PlainValidator(read_wallet_id), _id_schema("The wallet's id.")]
UserId = Annotated[int, PlainValidator(read_user_id), _id_schema("The user's id.")]
ASSET_CODE_SCHEMA = {"type": "string", "pattern": _ASSET_CODE_PATTERN}
AssetCode = Annotated[
    str, PlainValidator(read_asset_code), WithJsonSchema({**ASSET_CODE_SCHEMA, "description": "The asset's code."})
]
Name = Annotated[
    str,
    PlainValidator(text.name),
    WithJsonSchema(
        {"type": "string", "pattern": text.NAME_PATTERN, "description": "For people. Trimmed, 1 to 200 characters."}
    ),
]
ExternalId = Annotated[
    str,
    PlainValidator(text.name),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": text.NAME_PATTERN,
            "description": "The user's id in the caller's world, once for each user. Trimmed, 1 to 200 characters; "
            "the same in each Unicode normal form.",
        }
    ),
]
_AMOUNT_FORMS = [
    {"type": "integer", "minimum": 1, "maximum": AMOUNT_MAX},
    {"type": "string", "pattern": AMOUNT_PATTERN},
]
Amount = Annotated[
    int,
    PlainValidator(parse_amount),
    WithJsonSchema(
        {
            "description": "In the asset's smallest unit. A string of digits is accepted too.",
            "anyOf": _AMOUNT_FORMS,
        }
    ),
]


class UpTo(NamedTuple):
    """Instead of an amount: as much as there is, `amount` at most."""

    amount: int


def _amount_or_up_to(value: object) -> int | UpTo:
    if not isinstance(value, dict):
        return parse_amount(value)
    if value.keys() != {"upTo"}:
        raise ValueError('must be an amount or {"upTo": amount}')
    return UpTo(parse_amount(value["upTo"]))


AmountOrUpTo = Annotated[
    int | UpTo,
    PlainValidator(_amount_or_up_to),
    WithJsonSchema(
        {
            "description": "In the asset's smallest unit. A string of digits is accepted too. With `upTo`, as much as "
            "there is, at least 1: the answer tells how much.",
            "anyOf": [
                *_AMOUNT_FORMS,
                {
                    "type": "object",
                    "properties": {"upTo": {"anyOf": _AMOUNT_FORMS}},
                    "required": ["upTo"],
                    "additionalProperties": False,
                },
            ],
        }
    ),
]
AmountIfGiven = Annotated[
    int | None,
    PlainValidator(parse_amount),
    WithJsonSchema(
        {
            "description": "In the asset's smallest unit; without it, all that is held. A string of digits is "
            "accepted too.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": AMOUNT_MAX},
                {"type": "string", "pattern": AMOUNT_PATTERN},
            ],
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""

FINAL_OR_AMOUNT: dict[str, Any] = {
    "anyOf": [
        {"required": ["amount"]},
        {"not": {"required": ["final"]}},
        {"properties": {"final": {"enum": [True, "true"]}}},
    ]
}
"""Of a capture, as a schema: who names no amount does not say that it is not final."""

HoldId = Annotated[
    uuid.UUID,
    PlainValidator(_hold_id),
    WithJsonSchema({"type": "string", "pattern": text.UUID_PATTERN, "description": "The hold's id."}),
]
HoldSeconds = Annotated[
    int,
    PlainValidator(_hold_seconds),
    WithJsonSchema(
        {
            "description": "Seconds until what is left of it is given back. A string of digits is accepted too; a "
            "service may be set to allow less than the largest number.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": HOLD_SECONDS_MAX},
                {"type": "string", "pattern": _HOLD_SECONDS_PATTERN},
            ],
        }
    ),
]
Final = Annotated[
    bool | None,
    PlainValidator(_final),
    WithJsonSchema(
        {
            "description": "Whether what is left after this is given back. Without an amount it is; with one, not "
            'unless this says so. The strings "true" and "false" are accepted too.',
            "anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["true", "false"]}],
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""

Rate = Annotated[
    Fraction | None,
    PlainValidator(parse_rate),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": RATE_PATTERN,
            "description": "How many smallest units one smallest unit makes, exactly: a decimal like 0.125, with up to "
            "9 digits on each side, or a fraction like 1/3.",
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""

_REFERENCE_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": text.REFERENCE_PATTERN,
        "not": {"pattern": f"^{text.TRIMMED}{SYSTEM_REFERENCE}"},
        "description": "The idempotency key: names this command of this wallet for ever. Trimmed, 3 to 200 characters.",
    }
)
Reference = Annotated[str, PlainValidator(read_reference), _REFERENCE_SCHEMA]
ReferenceIfGiven = Annotated[str | None, PlainValidator(read_reference), _REFERENCE_SCHEMA]
"""None stands for its absence; a caller's null is refused."""

Note = Annotated[
    str | None,
    PlainValidator(_note),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": text.NOTE_PATTERN}, {"type": "null"}],
            "description": "For people. Trimmed, at most 500 characters.",
        }
    ),
]


TokenScopes = Annotated[
    list[str],
    PlainValidator(_scopes_of(TOKEN_SCOPES)),
    WithJsonSchema(
        {
            "description": "What it allows, on what is the user's: no more than the key that asks for it.",
            "type": "array",
            "items": {"type": "string", "enum": sorted(TOKEN_SCOPES)},
            "minItems": 1,
            "uniqueItems": True,
        }
    ),
]
TokenSeconds = Annotated[
    int,
    PlainValidator(_seconds_to(TOKEN_SECONDS_MAX)),
    WithJsonSchema(
        {"description": "Seconds until it ends.", "type": "integer", "minimum": 1, "maximum": TOKEN_SECONDS_MAX}
    ),
]


def _list_schema(description: str, items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "description": description,
            "type": "array",
            "items": items,
            "minItems": 1,
            "maxItems": _KEY_LISTS_MAX,
            "uniqueItems": True,
        }
    )


CLIENT_SCHEMA = {"type": "string", "pattern": _CLIENT_PATTERN, "not": {"enum": sorted(RESERVED_CLIENTS)}}
_NEW_CLIENT_SCHEMA = {**CLIENT_SCHEMA, "not": {"enum": sorted(NOT_FOR_NEW_KEYS)}}
ClientName = Annotated[
    str,
    PlainValidator(read_new_client),
    WithJsonSchema({**_NEW_CLIENT_SCHEMA, "description": "Whose key it is: a service. It is made if it is new."}),
]
KeyScopes = Annotated[
    list[str],
    PlainValidator(_scopes_of(SCOPES)),
    WithJsonSchema(
        {
            "description": "What it allows.",
            "type": "array",
            "items": {"type": "string", "enum": list(SCOPES)},
            "minItems": 1,
            "uniqueItems": True,
        }
    ),
]
# Of a key's limits, None stands for the absence; a null is refused, because it might lift one by mistake.
KeyAmount = Annotated[
    int | None,
    PlainValidator(parse_amount),
    WithJsonSchema(
        {
            "description": "The most that one command may move, in the asset's smallest unit. Absent: any amount.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": AMOUNT_MAX},
                {"type": "string", "pattern": AMOUNT_PATTERN},
            ],
        }
    ),
]
KeyAssets = Annotated[
    list[str] | None,
    PlainValidator(_some(_ASSET_CODE, "codes of assets like GOLD")),
    _list_schema("The assets that it has to do with. Absent: all.", ASSET_CODE_SCHEMA),
]
KeyNetworks = Annotated[
    list[str] | None,
    PlainValidator(_some(_NETWORK, "networks like 10.0.0.0/8 or 2001:db8::/32")),
    _list_schema(
        "From where it works, like `10.0.0.0/8`. Absent: from anywhere.",
        {"type": "string", "pattern": _NETWORK_PATTERN},
    ),
]
KeyRate = Annotated[
    str | None,
    PlainValidator(_rate_limit),
    WithJsonSchema(
        {
            "description": "How many requests, like `600 per minute`. Absent: as many as other keys.",
            "type": "string",
            "pattern": _RATE_LIMIT_PATTERN,
        }
    ),
]
KeySeconds = Annotated[
    int | None,
    PlainValidator(_seconds_to(KEY_SECONDS_MAX)),
    WithJsonSchema(
        {
            "description": "Seconds until it ends. Absent: it works until it is revoked.",
            "type": "integer",
            "minimum": 1,
            "maximum": KEY_SECONDS_MAX,
        }
    ),
]


class Outside(BaseModel):
    """What all have in common: camelCase outside, and no unknown fields."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)
