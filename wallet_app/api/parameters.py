"""Path and query parameters: their schemas, and how they are read."""

from __future__ import annotations

import re
import uuid
from typing import Any

from flask import request

from wallet_app.errors import TransactionNotFoundError
from wallet_app.fields import ID_MAX, invalid, read_wallet_id
from wallet_app.service import PAGE_MAX

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

WALLET_ID: dict[str, Any] = {
    "name": "walletId",
    "in": "path",
    "required": True,
    "description": "The wallet's id",
    "example": 3,
    "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": ID_MAX},
}
TRANSACTION_ID: dict[str, Any] = {
    "name": "transactionId",
    "in": "path",
    "required": True,
    "description": "The `transactionId` of a movement's answer",
    "example": "019a202e-4254-7c9c-bda5-498cff37d325",
    "schema": {"type": "string", "format": "uuid"},
}
LIMIT: dict[str, Any] = {
    "name": "limit",
    "in": "query",
    "required": False,
    "description": "How many entries a page has",
    "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50},
}


def wallet_id(value: str) -> int:
    """Return the id; 422 for what is no positive integer, WalletNotFoundError for one that no wallet can have."""
    try:
        return read_wallet_id(value)
    except ValueError as exc:
        raise invalid("/walletId", "invalid", str(exc)) from None


def transaction_id(value: str) -> uuid.UUID:
    """Return the id; what is no UUID is the id of no transaction."""
    if not _UUID.fullmatch(value):
        raise TransactionNotFoundError(value[:100].encode("utf-8", "replace").decode())
    return uuid.UUID(value)


def limit() -> int:
    """Return how many items the caller wants on a page."""
    value = request.args.get("limit", str(LIMIT["schema"]["default"]))
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= PAGE_MAX:
        raise invalid("/limit", "invalid", f"must be a whole number from 1 to {PAGE_MAX}")
    return int(value)
