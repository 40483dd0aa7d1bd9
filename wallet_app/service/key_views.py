"""Reads of the API keys: what each may do, whose it is, and whether it is live. No secret is in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import reads
from wallet_app.errors import KeyNotFoundError
from wallet_app.service.queries import PAGE_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """What a key allows. None is no limit; `networks` are like 10.0.0.0/8, `rate_limit` like '600 per minute'."""

    scopes: Sequence[str]
    amount_max: int | None = None
    assets: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    rate_limit: str | None = None
    expires_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as its administrators see it. `last_used_at` is right to within about a minute."""

    key_id: str
    client: str
    settings: KeySettings
    created_at: dt.datetime
    created_by: str
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None
    is_live: bool


@reads
def get_key(connection: Connection, key_id: str) -> KeyView:
    """Return the key, also one that is revoked. Raises KeyNotFoundError."""
    return view_of(get_row(connection, key_id))


@reads
def list_key_page(
    connection: Connection, *, client: str | None, with_revoked: bool, after_id: str | None, limit: int
) -> Sequence[KeyView]:
    """Return up to `limit` + 1 keys in order of their ids, of this client if one is given.

    Without those that are revoked or expired unless asked for. The one too many tells that there is a next page.
    """
    values = {"client": client, "all": with_revoked, "after_id": after_id or "", "limit": min(limit, PAGE_MAX) + 1}
    return [view_of(row) for row in connection.execute(_PAGE, values)]


@reads
def list_keys(connection: Connection, *, with_revoked: bool = False) -> list[KeyView]:
    """Return the keys by client and age, without those that are revoked or expired unless asked for."""
    rows = connection.execute(_LIST).all()
    return [view_of(row) for row in rows if with_revoked or row.is_live]


def get_row(connection: Connection, key_id: str) -> Row[Any]:
    """Return the key's row with its client's name and `is_live`. Raises KeyNotFoundError."""
    row = find_row(connection, key_id)
    if row is None:
        raise KeyNotFoundError(key_id)
    return row


def find_row(connection: Connection, key_id: str) -> Row[Any] | None:
    """Return the key's row as `get_row` does, or None."""
    return connection.execute(_FIND, {"key_id": key_id}).first()


def view_of(row: Row[Any]) -> KeyView:
    """Return what administrators see of a row."""
    return KeyView(
        key_id=row.key_id,
        client=row.client,
        settings=KeySettings(
            scopes=row.scopes,
            amount_max=row.amount_max,
            assets=row.assets,
            networks=[str(one) for one in row.networks] if row.networks else None,
            rate_limit=row.rate_limit,
            expires_at=row.expires_at,
        ),
        created_at=row.created_at,
        created_by=row.created_by,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        is_live=row.is_live,
    )


IS_LIVE = """
api_keys.revoked_at IS NULL AND clients.revoked_at IS NULL
    AND (api_keys.expires_at IS NULL OR api_keys.expires_at > clock_timestamp())
"""
"""Holds for a row of `api_keys`, joined to `clients`, that authenticates."""

_KEYS = f"""
SELECT api_keys.*, clients.name AS client, {IS_LIVE} AS is_live
  FROM api_keys
  JOIN clients ON clients.id = api_keys.client_id
"""  # noqa: S608 - constants

_FIND = text(f"{_KEYS} WHERE api_keys.key_id = :key_id")

_LIST = text(f"{_KEYS} ORDER BY clients.name, api_keys.created_at, api_keys.key_id")

_PAGE = text(f"""
{_KEYS}
 WHERE api_keys.key_id > :after_id
   AND (CAST(:client AS text) IS NULL OR clients.name = :client)
   AND (:all OR ({IS_LIVE}))
 ORDER BY api_keys.key_id LIMIT :limit
""")
