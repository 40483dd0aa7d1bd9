"""Reads for people: what happened to a lot, what a balance is made of by its ends, and what ends soon anywhere."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads

LOT_EVENTS_MAX = 200
CREDIT_PARTS_MAX = 50
EXPIRING_DAYS = (7, 30)
EXPIRING_WALLETS_MAX = 50
EXPIRING_LOTS_PAGE = 1_000
"""How many lots a walk looks at at once."""


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


class ExpiringLot(NamedTuple):
    """A lot of which something ends soon, with whose it is. `available` of `amount` does if it is not used before."""

    expires_at: dt.datetime
    wallet_id: int
    user_id: int
    user_name: str
    asset_code: str
    asset_scale: int
    kind: str
    available: int
    amount: int
    lot_id: uuid.UUID
    seq: int
    part: int


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


def walk_expiring_lots(asset_code: str | None, *, days: int) -> Iterator[ExpiringLot]:
    """Yield the lots of the asset, None for all assets, that end within so many days from now, the soonest end first.

    They are asked for a page at a time: each is as it stands when its page is read.
    """
    since, until = _window(days)
    after: ExpiringLot | None = None
    while page := _expiring_page(after, since=since, until=until):
        # What is of other assets is left out here: so each page looks at as many lots, however rare the asset is.
        yield from (lot for lot in page if asset_code is None or lot.asset_code == asset_code)
        after = page[-1]


@reads
def _window(connection: Connection, days: int) -> tuple[dt.datetime, dt.datetime]:
    now: dt.datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now, now + dt.timedelta(days=days)


@reads
def _expiring_page(
    connection: Connection, after: ExpiringLot | None, *, since: dt.datetime, until: dt.datetime
) -> Sequence[ExpiringLot]:
    """Return the lots behind `after` whose end is above `since` and at most `until`, EXPIRING_LOTS_PAGE of them."""
    # As if there were a lot behind all those that end at `since`.
    ends_at, wallet_id, seq, part = (
        (since, _ID_MAX, 0, 0) if after is None else (after.expires_at, after.wallet_id, after.seq, after.part)
    )
    values = {"ends_at": ends_at, "wallet_id": wallet_id, "seq": seq, "part": part, "until": until}
    return [ExpiringLot._make(row) for row in connection.execute(_EXPIRING_LOTS, values | {"rows": EXPIRING_LOTS_PAGE})]


_ID_MAX = 2**63 - 1

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

# Along the index of what will be due: what ends within the days, nothing else. For that the time is the statement's,
# which is one: `clock_timestamp()` would be asked anew at each lot that there is. A wallet's facts are looked up then
# (OFFSET 0), and not by reading all wallets.
_ENDS_BY = """lots.available > 0 AND lots.expires_at < '9999-01-01 00:00:00+00'
        AND lots.expires_at > statement_timestamp()
        AND lots.expires_at <= statement_timestamp() + make_interval(days => {days})"""

_WALLET_OF = """
 CROSS JOIN LATERAL (
       SELECT wallets.user_id, wallets.asset_type_id FROM wallets WHERE wallets.id = soon.wallet_id OFFSET 0
       ) AS wallet
  JOIN asset_types ON asset_types.id = wallet.asset_type_id
"""

_WITHIN_SOON = "FILTER (WHERE lots.expires_at <= statement_timestamp() + make_interval(days => :soon))"

_ASSETS = text(f"""
WITH soon AS MATERIALIZED (
     SELECT lots.wallet_id, sum(lots.available) AS amount, coalesce(sum(lots.available) {_WITHIN_SOON}, 0) AS sooner
       FROM lots
      WHERE {_ENDS_BY.format(days=":late")}
      GROUP BY lots.wallet_id
)
SELECT asset_types.code, asset_types.name, asset_types.scale, CAST(sum(soon.sooner) AS bigint),
       count(*) FILTER (WHERE soon.sooner > 0), CAST(sum(soon.amount) AS bigint), count(*)
  FROM soon {_WALLET_OF}
 GROUP BY asset_types.id
 ORDER BY asset_types.code
""")  # noqa: S608 - constants

_EXPIRING_WALLETS = text(f"""
WITH soon AS MATERIALIZED (
     SELECT lots.wallet_id, CAST(sum(lots.available) AS bigint) AS amount, count(*) AS lots,
            min(lots.expires_at) AS first_at
       FROM lots
      WHERE {_ENDS_BY.format(days=":days")}
      GROUP BY lots.wallet_id
), most AS MATERIALIZED (
     SELECT soon.*, wallet.user_id
       FROM soon {_WALLET_OF}
      WHERE asset_types.code = :code
      ORDER BY soon.amount DESC, soon.wallet_id
      LIMIT :rows
)
SELECT most.wallet_id, users.id, users.name, most.amount, most.lots, most.first_at
  FROM most
  JOIN users ON users.id = most.user_id
 ORDER BY most.amount DESC, most.wallet_id
""")  # noqa: S608 - constants

_EXPIRING_LOTS = text("""
SELECT lots.expires_at, lots.wallet_id, wallets.user_id, users.name, asset_types.code, asset_types.scale, lots.kind,
       lots.available, lots.amount, lots.lot_id, lots.seq, lots.part
  FROM (SELECT * FROM lots
         WHERE available > 0 AND expires_at < '9999-01-01 00:00:00+00' AND expires_at <= :until
           AND (expires_at, wallet_id, seq, part) > (:ends_at, :wallet_id, :seq, :part)
         ORDER BY expires_at, wallet_id, seq, part
         LIMIT :rows) AS lots
  JOIN wallets ON wallets.id = lots.wallet_id
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 ORDER BY lots.expires_at, lots.wallet_id, lots.seq, lots.part
""")
