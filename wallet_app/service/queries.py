"""Reads: assets, wallets, balances, entries and transactions, as they stand; nothing here locks or writes.

`permit` is what who asks may do; None is the service itself, which may read everything. What is another's is not there.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import reads
from wallet_app.errors import (
    AssetNotFoundError,
    SystemEntriesError,
    TransactionNotFoundError,
    UserNotFoundError,
    WalletNotFoundError,
)
from wallet_app.service.books import Entry, PostedTransaction
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION, TRANSACTION_COLUMNS, posted_transaction
from wallet_app.service.permits import Permit, reaches

PAGE_MAX = 100


@dataclass(frozen=True, slots=True)
class AssetView:
    """A kind of credit; `scale` is the number of decimal places for display."""

    asset_type_id: int
    code: str
    name: str
    scale: int


@dataclass(frozen=True, slots=True)
class WalletView:
    """A wallet with its balance. `version` and `held` are 0 for a SYSTEM wallet, whose balance may be below zero."""

    wallet_id: int
    user_id: int
    user_name: str
    user_type: str
    asset_code: str
    asset_name: str
    asset_scale: int
    status: str
    balance: int
    held: int
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry with what its transaction tells about it. The note is None when there was none, or it was erased."""

    entry: Entry
    transaction_id: uuid.UUID
    reference: str
    kind: str
    actor: str
    note: str | None
    occurred_at: dt.datetime


@dataclass(frozen=True, slots=True)
class TransactionView:
    """A transaction with its note and, by wallet id, the code of the asset that each entry moved."""

    transaction: PostedTransaction
    note: str | None
    asset_codes: dict[int, str]


@reads
def get_wallet(connection: Connection, wallet_id: int, *, permit: Permit | None = None) -> WalletView:
    """Return the wallet with its balance; raise WalletNotFoundError or AssetNotAllowedError."""
    row = connection.execute(_WALLET, {"wallet_id": wallet_id}).first()
    if row is None or not reaches(permit, row.user_id):
        raise WalletNotFoundError(wallet_id)
    if permit is not None:
        permit.require_asset(row.asset_code)
    return _wallet_view(row)


@reads
def list_wallets(
    connection: Connection,
    *,
    user_id: int | None,
    asset_code: str | None,
    after_id: int | None,
    limit: int,
    permit: Permit | None = None,
) -> Sequence[WalletView]:
    """Return up to `limit` + 1 user wallets in order of their ids, of this user and asset where they are given.

    The one too many tells that there is a next page. There are none but those that the permit reaches. Raises
    AssetNotAllowedError, UserNotFoundError, also for a SYSTEM user, and AssetNotFoundError.
    """
    codes = _asset_codes(asset_code, permit)
    if permit is not None and permit.user_id is not None:
        if user_id is not None and not reaches(permit, user_id):
            raise UserNotFoundError(user_id)
        user_id = permit.user_id
    values = {"user_id": user_id, "asset_codes": codes, "after_id": after_id or 0}
    rows = connection.execute(
        _WALLETS[user_id is not None, codes is not None], {**values, "limit": min(limit, PAGE_MAX) + 1}
    ).all()
    if not rows:
        _require_owner_and_asset(connection, user_id, asset_code)
    return [_wallet_view(row) for row in rows]


@reads
def list_assets(
    connection: Connection, *, after_id: int | None, limit: int, permit: Permit | None = None
) -> Sequence[AssetView]:
    """Return up to `limit` + 1 assets that the permit allows, in the order in which they were made.

    The one too many tells that there is a next page.
    """
    values = {"after_id": after_id or 0, "asset_codes": _asset_codes(None, permit)}
    rows = connection.execute(_ASSETS, {**values, "limit": min(limit, PAGE_MAX) + 1})
    return [AssetView(*row) for row in rows]


@reads
def list_entries(
    connection: Connection, wallet_id: int, *, before_seq: int | None, limit: int, permit: Permit | None = None
) -> Sequence[EntryView]:
    """Return up to `limit` + 1 entries of a user wallet, newest first, with seq below `before_seq`.

    The one too many tells that there is a next page. Raises WalletNotFoundError, AssetNotAllowedError or
    SystemEntriesError.
    """
    rows = connection.execute(
        _ENTRIES, {"wallet_id": wallet_id, "before_seq": before_seq, "limit": min(limit, PAGE_MAX) + 1}
    ).all()
    if not rows or not reaches(permit, rows[0].user_id):
        raise WalletNotFoundError(wallet_id)
    if permit is not None:
        permit.require_asset(rows[0].asset_code)
    if rows[0].user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return [_entry_view(row) for row in rows if row.seq is not None]


@reads
def get_transaction(
    connection: Connection, transaction_id: uuid.UUID, *, permit: Permit | None = None
) -> TransactionView:
    """Return the transaction with its entries; raise TransactionNotFoundError or AssetNotAllowedError."""
    rows = connection.execute(_TRANSACTION, {"transaction_id": transaction_id}).all()
    if not rows or not all(reaches(permit, row.user_id) and reaches(permit, row.anchor_user_id) for row in rows):
        raise TransactionNotFoundError(str(transaction_id))
    codes = {row.entry_wallet_id: row.asset_code for row in rows if row.entry_wallet_id is not None}
    if permit is not None:
        for code in codes.values():
            permit.require_asset(code)
    return TransactionView(posted_transaction(rows), rows[0].note, codes)


def _asset_codes(asked: str | None, permit: Permit | None) -> list[str] | None:
    """Return the assets to look for, None for any; raise AssetNotAllowedError for one that is not allowed."""
    if asked is not None:
        if permit is not None:
            permit.require_asset(asked)
        return [asked]
    return None if permit is None or permit.assets is None else sorted(permit.assets)


def _require_owner_and_asset(connection: Connection, user_id: int | None, asset_code: str | None) -> None:
    has = connection.execute(_HAS, {"user_id": user_id, "asset_code": asset_code}).one()
    if user_id is not None and not has.user:
        raise UserNotFoundError(user_id)
    if asset_code is not None and not has.asset:
        raise AssetNotFoundError(asset_code)


def _wallet_view(row: Row[Any]) -> WalletView:
    return WalletView(**{**row._mapping, "balance": int(row.balance)})


def _entry_view(row: Row[Any]) -> EntryView:
    return EntryView(
        entry=Entry(
            wallet_id=row.wallet_id,
            seq=row.seq,
            entry_type=row.entry_type,
            amount=row.amount,
            balance_after=row.balance_after,
            contra_wallet_id=row.contra_wallet_id,
            created_at=row.created_at,
            hash=row.hash,
        ),
        transaction_id=row.transaction_id,
        reference=row.reference_id,
        kind=row.kind,
        actor=row.actor,
        note=row.note,
        occurred_at=row.occurred_at,
    )


_WALLET_VIEW = """
SELECT wallets.id AS wallet_id, wallets.user_id, users.name AS user_name, users.user_type,
       asset_types.code AS asset_code, asset_types.name AS asset_name, asset_types.scale AS asset_scale,
       wallets.status, wallets.created_at,
       CAST(CASE users.user_type
            WHEN 'SYSTEM' THEN (SELECT coalesce(sum(balance), 0) FROM system_balances WHERE wallet_id = wallets.id)
            ELSE coalesce(wallet_balances.balance, last.balance_after, 0) END AS numeric(38, 0)) AS balance,
       coalesce(wallet_balances.held, 0) AS held,
       coalesce(wallet_balances.version, last.seq, 0) AS version,
       coalesce(wallet_balances.updated_at, last.created_at, wallets.created_at) AS updated_at
  FROM {wallets}
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN wallet_balances ON wallet_balances.wallet_id = wallets.id
  -- A lost balance row is made again by the next posting; until then its last entry tells what it will say.
  LEFT JOIN LATERAL (
       SELECT balance_after, seq, created_at FROM ledger_entries
        WHERE wallet_id = wallets.id AND wallet_balances.wallet_id IS NULL
        ORDER BY seq DESC LIMIT 1
       ) AS last ON true
"""

_WALLET = text(_WALLET_VIEW.format(wallets="wallets") + " WHERE wallets.id = :wallet_id")


def _page(source: str, condition: str = "true") -> str:
    return f"""(
       SELECT * FROM {source}
        WHERE {condition} AND id > :after_id
          AND user_id <> ALL (ARRAY(SELECT id FROM users WHERE user_type = 'SYSTEM'))
        ORDER BY id LIMIT :limit
       ) AS wallets"""  # noqa: S608 - constants


# By index, whatever the statistics say (OFFSET 0 keeps it so): a user has few wallets, and they have an order at once.
_OF_USER = "(SELECT * FROM wallets WHERE user_id = :user_id OFFSET 0) AS owned"
_ASKED = "code = ANY (CAST(:asset_codes AS text[]))"
# A page of each asset, and the first of these: several assets have no common order in the index.
_OF_ASSETS = f"""(
       SELECT wallets.* FROM asset_types CROSS JOIN LATERAL {_page("wallets", "asset_type_id = asset_types.id")}
        WHERE {_ASKED}
       ) AS found"""  # noqa: S608 - constants
_IN_ASSETS = f"asset_type_id IN (SELECT id FROM asset_types WHERE {_ASKED})"  # noqa: S608 - constants

# A statement for each choice of filters, because one for all of them has no plan that is good for each.
_WALLETS = {
    choice: text(_WALLET_VIEW.format(wallets=page) + " ORDER BY wallets.id")
    for choice, page in {
        (False, False): _page("wallets"),
        (True, False): _page(_OF_USER),
        (False, True): _page(_OF_ASSETS),
        (True, True): _page(_OF_USER, _IN_ASSETS),
    }.items()
}
"""By whether a user is given, and assets."""

_HAS = text("""
SELECT EXISTS (SELECT FROM users WHERE id = CAST(:user_id AS bigint) AND user_type = 'USER') AS "user",
       EXISTS (SELECT FROM asset_types WHERE code = CAST(:asset_code AS text)) AS asset
""")

_ASSETS = text(f"""
SELECT id, code, name, scale FROM asset_types
 WHERE id > :after_id AND (CAST(:asset_codes AS text[]) IS NULL OR {_ASKED})
 ORDER BY id LIMIT :limit
""")  # noqa: S608 - constants

_ENTRIES = text("""
SELECT wallets.id AS wallet_id, wallets.user_id, users.user_type, asset_types.code AS asset_code,
       page.seq, page.transaction_id, page.entry_type, page.amount, page.balance_after, page.contra_wallet_id,
       page.created_at, page.hash,
       transactions.reference_id, transactions.kind, transactions.actor, transactions.occurred_at,
       transaction_details.note
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN LATERAL (
       -- Backwards along the primary key, whatever the statistics say: asked for one wallet's rows, the planner that
       -- expects few of them reads and sorts the whole history of a wallet that has many.
       SELECT * FROM (
              SELECT * FROM ledger_entries
               WHERE (wallet_id, seq) < (wallets.id, coalesce(CAST(:before_seq AS bigint), 9223372036854775807))
               ORDER BY wallet_id DESC, seq DESC LIMIT :limit
              ) AS newest
        WHERE newest.wallet_id = wallets.id
       ) AS page ON true
  LEFT JOIN transactions ON transactions.transaction_id = page.transaction_id
  LEFT JOIN transaction_details ON transaction_details.wallet_id = transactions.wallet_id
                               AND transaction_details.transaction_id = transactions.transaction_id
 WHERE wallets.id = :wallet_id
 ORDER BY page.seq DESC
""")

_TRANSACTION = text(f"""
SELECT {TRANSACTION_COLUMNS}, transaction_details.note, asset_types.code AS asset_code,
       anchors.user_id AS anchor_user_id, coalesce(wallets.user_id, anchors.user_id) AS user_id
  FROM transactions
  JOIN wallets AS anchors ON anchors.id = transactions.wallet_id
  {ENTRIES_OF_TRANSACTION}
  LEFT JOIN wallets ON wallets.id = entries.wallet_id
  LEFT JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN transaction_details ON transaction_details.wallet_id = transactions.wallet_id
                               AND transaction_details.transaction_id = transactions.transaction_id
 WHERE transactions.transaction_id = :transaction_id
""")  # noqa: S608 - constants
