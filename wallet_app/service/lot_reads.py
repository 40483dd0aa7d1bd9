"""Reads for people: what happened to a lot, what a balance is made of by its ends, and what ends soon anywhere."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads

LOT_EVENTS_MAX = 200
CREDIT_PARTS_MAX = 50
EXPIRING_DAYS = (7, 30)
EXPIRING_WALLETS_MAX = 50


class LotEvent(NamedTuple):
    """A movement of a lot with the transaction that it is of. `ends` is the lot's end since then, if that changed."""

    kind: str
    amount: int
    ends: dt.datetime | None
    created_at: dt.datetime
    transaction_id: uuid.UUID
    transaction_kind: str
    reference: str
    actor: str
    reason: str | None


class CreditPart(NamedTuple):
    """What of a wallet's credit is of one kind and ends at one instant; NO_END for never. `is_over`: it has ended."""

    kind: str
    expires_at: dt.datetime
    available: int
    held: int
    lots: int
    is_over: bool


class CreditParts(NamedTuple):
    """All parts that are in lots, the soonest end first; `paid` is the rest of the balance. Later ones may be cut."""

    parts: Sequence[CreditPart]
    paid: int
    is_cut: bool


class ExpiringAsset(NamedTuple):
    """How much of an asset ends within 7 and within 30 days if it is not used before, and of how many wallets."""

    code: str
    name: str
    scale: int
    within_7_days: int
    wallets_7_days: int
    within_30_days: int
    wallets_30_days: int


class ExpiringWallet(NamedTuple):
    """A wallet of which credit ends soon: how much, in how many lots, and the first of it when."""

    wallet_id: int
    user_id: int
    user_name: str
    amount: int
    lots: int
    first_at: dt.datetime


@reads
def list_lot_events(connection: Connection, lot_id: uuid.UUID) -> Sequence[LotEvent]:
    """Return what happened to the lot, the newest first, LOT_EVENTS_MAX at most."""
    return [LotEvent._make(row) for row in connection.execute(_EVENTS, {"lot_id": lot_id, "rows": LOT_EVENTS_MAX})]


@reads
def credit_parts(connection: Connection, wallet_id: int, *, balance: int) -> CreditParts:
    """Return what the wallet's balance is made of; `balance` is that of one without lots."""
    rows = connection.execute(_PARTS, {"wallet_id": wallet_id, "rows": CREDIT_PARTS_MAX + 1}).all()
    parts = [CreditPart._make(row[:6]) for row in rows[:CREDIT_PARTS_MAX]]
    paid = int(rows[0].balance - rows[0].in_lots) if rows else balance
    return CreditParts(parts, paid, len(rows) > CREDIT_PARTS_MAX)


@reads
def list_expiring_assets(connection: Connection) -> Sequence[ExpiringAsset]:
    """Return the assets of which something ends within 30 days, by code. What holds keep does not end."""
    soon, late = EXPIRING_DAYS
    return [ExpiringAsset._make(row) for row in connection.execute(_ASSETS, {"soon": soon, "late": late})]


@reads
def list_expiring_wallets(connection: Connection, asset_code: str, *, days: int) -> Sequence[ExpiringWallet]:
    """Return the wallets of which most ends within so many days, EXPIRING_WALLETS_MAX at most."""
    values = {"code": asset_code, "days": days, "rows": EXPIRING_WALLETS_MAX}
    return [ExpiringWallet._make(row) for row in connection.execute(_EXPIRING_WALLETS, values)]


_EVENTS = text("""
SELECT moved.kind, moved.amount, moved.expires_at, moved.created_at, moved.transaction_id, posted.kind,
       posted.reference_id, posted.actor, posted.request ->> 'reason'
  FROM lots
  JOIN lot_movements AS moved
    ON moved.wallet_id = lots.wallet_id AND moved.lot_seq = lots.seq AND moved.lot_part = lots.part
  JOIN transactions AS posted ON posted.transaction_id = moved.transaction_id
 WHERE lots.lot_id = :lot_id
 ORDER BY moved.seq DESC, moved.created_at DESC, moved.place DESC
 LIMIT :rows
""")

# The wallet's last entry tells the time when a clock was set back, as for a posting.
_PARTS = text("""
SELECT lots.kind, lots.expires_at, CAST(sum(lots.available) AS bigint), CAST(sum(lots.held) AS bigint), count(*),
       lots.expires_at <= greatest(max(balances.updated_at), clock_timestamp()),
       coalesce(max(balances.balance), 0) AS balance, sum(sum(lots.available)) OVER () AS in_lots
  FROM lots
  LEFT JOIN wallet_balances AS balances ON balances.wallet_id = lots.wallet_id
 WHERE lots.wallet_id = :wallet_id AND lots.available + lots.held > 0
 GROUP BY lots.kind, lots.expires_at
 ORDER BY lots.expires_at, lots.kind
 LIMIT :rows
""")

# Along the index of what will be due: all of it that ends within the days, and nothing else.
_SOON = """
  FROM lots
  JOIN wallets ON wallets.id = lots.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE lots.available > 0 AND lots.expires_at > clock_timestamp() AND lots.expires_at < '9999-01-01 00:00:00+00'
"""

_WITHIN_SOON = "lots.expires_at <= clock_timestamp() + make_interval(days => :soon)"

_ASSETS = text(f"""
SELECT asset_types.code, asset_types.name, asset_types.scale,
       CAST(coalesce(sum(lots.available) FILTER (WHERE {_WITHIN_SOON}), 0) AS bigint),
       count(DISTINCT lots.wallet_id) FILTER (WHERE {_WITHIN_SOON}),
       CAST(sum(lots.available) AS bigint), count(DISTINCT lots.wallet_id)
{_SOON}
   AND lots.expires_at <= clock_timestamp() + make_interval(days => :late)
 GROUP BY asset_types.id
 ORDER BY asset_types.code
""")

_EXPIRING_WALLETS = text(f"""
SELECT found.wallet_id, users.id, users.name, found.amount, found.lots, found.first_at
  FROM (SELECT lots.wallet_id, wallets.user_id, CAST(sum(lots.available) AS bigint) AS amount, count(*) AS lots,
               min(lots.expires_at) AS first_at
        {_SOON}
           AND asset_types.code = :code AND lots.expires_at <= clock_timestamp() + make_interval(days => :days)
         GROUP BY lots.wallet_id, wallets.user_id
         ORDER BY amount DESC, lots.wallet_id
         LIMIT :rows) AS found
  JOIN users ON users.id = found.user_id
 ORDER BY found.amount DESC, found.wallet_id
""")  # noqa: S608 - constants
