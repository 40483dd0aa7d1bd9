"""Path and query parameters: their schemas, and how they are read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from flask import request
from pydantic_core import PydanticCustomError

from wallet_app import text
from wallet_app.api import cursor as cursors
from wallet_app.errors import (
    HoldNotFoundError,
    KeyNotFoundError,
    LotNotFoundError,
    NotFoundError,
    TransactionNotFoundError,
)
from wallet_app.fields import (
    ASSET_CODE_SCHEMA,
    CLIENT_SCHEMA,
    ID_MAX,
    invalid,
    read_asset_code,
    read_client,
    read_user_id,
    read_wallet_id,
)
from wallet_app.service import HOLD_STATES, PAGE_MAX

T = TypeVar("T")

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

_KEY_ID = re.compile(r"[a-z2-7]{12}")

_ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": ID_MAX}


def flag_parameter(name: str, description: str) -> dict[str, Any]:
    """Return the document's words for a parameter of the query that is true or false, and false if it is not there."""
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
    }


WALLET_ID: dict[str, Any] = {
    "name": "walletId",
    "in": "path",
    "required": True,
    "description": "The wallet's id",
    "example": 3,
    "schema": _ID,
}
USER_ID: dict[str, Any] = {
    "name": "userId",
    "in": "path",
    "required": True,
    "description": "The user's id",
    "example": 2,
    "schema": _ID,
}
TRANSACTION_ID: dict[str, Any] = {
    "name": "transactionId",
    "in": "path",
    "required": True,
    "description": "The `transactionId` of a movement's answer",
    "example": "019a202e-4254-7c9c-bda5-498cff37d325",
    "schema": {"type": "string", "format": "uuid"},
}
HOLD_ID: dict[str, Any] = {
    "name": "holdId",
    "in": "path",
    "required": True,
    "description": "The `holdId` of a hold's answer",
    "example": "019a202e-4254-7c9c-bda5-498cff37d325",
    "schema": {"type": "string", "format": "uuid"},
}
IN_STATE: dict[str, Any] = {
    "name": "state",
    "in": "query",
    "required": False,
    "description": "Only holds in this state",
    "schema": {"type": "string", "enum": list(HOLD_STATES)},
}
LOT_ID: dict[str, Any] = {
    "name": "lotId",
    "in": "path",
    "required": True,
    "description": "The `lotId` of a lot",
    "example": "019a202e-4254-7c9c-bda5-498cff37d325",
    "schema": {"type": "string", "format": "uuid"},
}
LOT_STATES = ("open", "all")
LOT_STATE: dict[str, Any] = {
    "name": "state",
    "in": "query",
    "required": False,
    "description": "Those that have something left, in the order in which they are spent; or all, the newest first",
    "schema": {"type": "string", "enum": list(LOT_STATES), "default": LOT_STATES[0]},
}
KEY_ID: dict[str, Any] = {
    "name": "keyId",
    "in": "path",
    "required": True,
    "description": "The key's id: the third part of its text",
    "example": "k3f6m2q7zt5a",
    "schema": {"type": "string", "pattern": "^[a-z2-7]{12}$"},
}
LIMIT: dict[str, Any] = {
    "name": "limit",
    "in": "query",
    "required": False,
    "description": "How many items a page has",
    "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50},
}
OF_USER: dict[str, Any] = {
    "name": "userId",
    "in": "query",
    "required": False,
    "description": "Only this user's",
    "schema": _ID,
}
OF_ASSET: dict[str, Any] = {
    "name": "asset",
    "in": "query",
    "required": False,
    "description": "Only of the asset with this code",
    "schema": ASSET_CODE_SCHEMA,
}
ASSET_CODE: dict[str, Any] = {
    "name": "assetCode",
    "in": "path",
    "required": True,
    "description": "The asset's code",
    "example": "GOLD",
    "schema": ASSET_CODE_SCHEMA,
}
OF_CLIENT: dict[str, Any] = {
    "name": "client",
    "in": "query",
    "required": False,
    "description": "Only this client's",
    "schema": CLIENT_SCHEMA,
}
WITH_REVOKED = flag_parameter("withRevoked", "Those that are revoked or expired too")
DRY_RUN = flag_parameter(
    "dryRun",
    "Whether to answer what would happen, and do nothing: the same status and body, with `dryRun` true and without the "
    "ids of what is not made",
)
EXTERNAL_ID: dict[str, Any] = {
    "name": "externalId",
    "in": "query",
    "required": True,
    "description": "The user's id in the caller's world",
    "example": "demo:John",
    "schema": {"type": "string", "pattern": text.NAME_PATTERN},
}


def wallet_id(value: str) -> int:
    """Return the id; 422 for what is no positive integer, WalletNotFoundError for one that no wallet can have."""
    return _read("walletId", read_wallet_id, value)


def of_wallet() -> int | None:
    """Return the id of the wallet that the caller asks for, if any; raises as `wallet_id` does."""
    value = request.args.get("walletId")
    return None if value is None else wallet_id(value)


def user_id(value: str) -> int:
    """Return the id; 422 for what is no positive integer, UserNotFoundError for one that no user can have."""
    return _read("userId", read_user_id, value)


def of_user() -> int | None:
    """Return the id of the user that the caller asks for, if any; raises as `user_id` does."""
    value = request.args.get("userId")
    return None if value is None else user_id(value)


def of_asset() -> str | None:
    """Return the code of the asset that the caller asks for, if any."""
    value = request.args.get("asset")
    return None if value is None else _read("asset", read_asset_code, value)


def asset_code(value: str) -> str:
    """Return the code; 422 for what can be none."""
    return _read("assetCode", read_asset_code, value)


def of_client() -> str | None:
    """Return the name of the client that the caller asks for, if any."""
    value = request.args.get("client")
    return None if value is None else _read("client", read_client, value)


def with_revoked() -> bool:
    """Return whether the caller wants keys that do not work any more too."""
    return flag("withRevoked")


def dry_run() -> bool:
    """Return whether the caller wants to be told what would happen, and nothing to be done."""
    return bool(request.environ.get("QUERY_STRING")) and flag("dryRun")


def flag(name: str) -> bool:
    """Return whether the parameter of this name is true."""
    value = request.args.get(name, "false")
    if value not in {"true", "false"}:
        raise invalid(f"/{name}", "invalid", "must be true or false")
    return value == "true"


def external_id() -> str:
    """Return the external id that the caller asks for."""
    value = request.args.get("externalId")
    if value is None:
        raise invalid("/externalId", "missing", "is required")
    return _read("externalId", text.name, value)


def cursor(*filters: object) -> int | None:
    """Return the position at which the caller's page begins, if it is not the first; raise BadCursorError."""
    given = request.args.get("cursor")
    return None if given is None else cursors.read(given, *filters)


def places(count: int, *filters: object) -> tuple[int, ...] | None:
    """Return the `count` positions at which the caller's page begins, if it is not the first; raise BadCursorError."""
    given = request.args.get("cursor")
    return None if given is None else cursors.read_at(given, count, *filters)


def _read(name: str, read: Callable[[object], T], value: str) -> T:
    try:
        return read(value)
    except PydanticCustomError as exc:
        raise invalid(f"/{name}", exc.type, exc.message()) from None
    except ValueError as exc:
        raise invalid(f"/{name}", "invalid", str(exc)) from None


def transaction_id(value: str) -> uuid.UUID:
    """Return the id; what is no UUID is the id of no transaction."""
    return _uuid(value, TransactionNotFoundError)


def hold_id(value: str) -> uuid.UUID:
    """Return the id; what is no UUID is the id of no hold."""
    return _uuid(value, HoldNotFoundError)


def lot_id(value: str) -> uuid.UUID:
    """Return the id; what is no UUID is the id of no lot."""
    return _uuid(value, LotNotFoundError)


def lot_state() -> str:
    """Return which lots the caller asks for."""
    value = request.args.get("state", LOT_STATES[0])
    if value not in LOT_STATES:
        raise invalid("/state", "invalid", f"must be one of {', '.join(LOT_STATES)}")
    return value


def _uuid(value: str, not_found: Callable[[str], NotFoundError]) -> uuid.UUID:
    if not _UUID.fullmatch(value):
        raise not_found(value[:100].encode("utf-8", "replace").decode())
    return uuid.UUID(value)


def in_state() -> str | None:
    """Return the state of holds that the caller asks for, if any."""
    value = request.args.get("state")
    if value is not None and value not in HOLD_STATES:
        raise invalid("/state", "invalid", f"must be one of {', '.join(HOLD_STATES)}")
    return value


def key_id(value: str) -> str:
    """Return the id; what cannot be one is the id of no key."""
    if not _KEY_ID.fullmatch(value):
        raise KeyNotFoundError(value[:100].encode("utf-8", "replace").decode())
    return value


def limit() -> int:
    """Return how many items the caller wants on a page."""
    value = request.args.get("limit", str(LIMIT["schema"]["default"]))
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= PAGE_MAX:
        raise invalid("/limit", "invalid", f"must be a whole number from 1 to {PAGE_MAX}")
    return int(value)
