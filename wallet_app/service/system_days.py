"""Reads: a SYSTEM wallet by day: what came in, what went out, and its balance at the end; and one day's entries.

Nobody writes a list of a SYSTEM wallet's entries: each stands with the user wallet that it moved. Its days are in the
daily totals, and what is not in these yet is added here, in the same snapshot. From the wallet's own side, a user's
credit goes out, and a user's debit comes in.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from wallet_app.db import reads, snapshot
from wallet_app.errors import NoSystemWalletError
from wallet_app.service.books import Entry
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.permits import Permit
from wallet_app.service.queries import WalletView, entry_of, get_wallet
from wallet_app.service.references import first_id
from wallet_app.service.totals_at import ENTRIES, standing

DAYS_MAX = 366
"""How many days are read at once."""

ROWS_MAX = 2_000
"""How many transactions a page of a day's entries looks at."""


class SystemDay(NamedTuple):
    """A day (UTC) on which something was moved against a SYSTEM wallet, and its balance at the end of it.

    `incoming` and `outgoing` are in the smallest unit, both without a sign.
    """

    day: dt.date
    entries: int
    incoming: int
    outgoing: int
    closing: int

    @property
    def opening(self) -> int:
        """The balance before it."""
        return self.closing - self.incoming + self.outgoing


class TypeOfDay(NamedTuple):
    """The same of the entries of one type."""

    entry_type: str
    entries: int
    incoming: int
    outgoing: int


@dataclass(frozen=True, slots=True)
class SystemDays:
    """Days of a SYSTEM wallet, newest first, and the day that older ones lie before; None if there are none.

    With `late_since`, what came after that instant is in none of them: the daily totals are behind. `is_right`: the
    newest day's closing is the wallet's balance; None where that cannot be told.
    """

    wallet: WalletView
    days: Sequence[SystemDay]
    following: dt.date | None
    late_since: dt.datetime | None
    is_right: bool | None


def list_system_days(
    wallet_id: int,
    *,
    since: dt.date | None = None,
    before: dt.date | None = None,
    limit: int,
    permit: Permit | None = None,
) -> SystemDays:
    """Return up to `limit` days of a SYSTEM wallet, newest first, from `since` on, before `before`.

    Days on which nothing moved are left out. Raises WalletNotFoundError, AssetNotAllowedError, NoSystemWalletError.
    """
    wallet = _system_wallet(wallet_id, permit)
    limit = min(limit, DAYS_MAX)
    with snapshot() as connection:
        stands = standing(connection, ENTRIES)
        values = {
            "wallet_id": wallet_id,
            "since": since or dt.date.min,
            "before": before or dt.date.max,
            "position": stands.position,
            # Late, a part of a day would be taken for the whole.
            "until": _ID_MAX if stands.is_whole else stands.position,
            "rows": limit + 1,
        }
        rows = connection.execute(_DAYS, values).all()
        balance = int(connection.execute(_BALANCE, values).scalar_one())
    days = [SystemDay(row.day, row.entries, int(row.incoming), int(row.outgoing), int(row.closing)) for row in rows]
    is_right = days[0].closing == balance if days and before is None and stands.is_whole else None
    following = days[limit - 1].day if len(days) > limit else None
    late_since = None if stands.is_whole else stands.reaches_to
    return SystemDays(wallet, days[:limit], following, late_since, is_right)


@dataclass(frozen=True, slots=True)
class DayEntry:
    """An entry against a SYSTEM wallet, with whose wallet it moved, and what its transaction tells about it."""

    entry: Entry
    transaction_id: uuid.UUID
    kind: str
    reference: str
    user_id: int
    user_name: str


@dataclass(frozen=True, slots=True)
class DayEntries:
    """Entries of a day, newest first, and the transaction that further ones lie below; None if there are none."""

    entries: Sequence[DayEntry]
    following: uuid.UUID | None


@reads
def list_types_of_day(connection: Connection, wallet_id: int, day: dt.date) -> Sequence[TypeOfDay]:
    """Return what the daily totals have of a SYSTEM wallet's day, by entry type, the most entries first."""
    rows = connection.execute(_TYPES, {"wallet_id": wallet_id, "day": day})
    return [TypeOfDay(row.entry_type, row.entries, int(row.incoming), int(row.outgoing)) for row in rows]


@reads
def list_day_entries(
    connection: Connection, wallet_id: int, day: dt.date, *, below: uuid.UUID | None, limit: int
) -> DayEntries:
    """Return about `limit` entries against the SYSTEM wallet of that day (UTC), of transactions below the id.

    Looks at ROWS_MAX transactions, of all wallets: so a page may be short, or empty, and others still follow. The
    caller has seen that it is a SYSTEM wallet's.
    """
    begin = dt.datetime.combine(day, dt.time(), dt.UTC)
    end = begin + dt.timedelta(days=1)
    last = first_id(end, rounds_up=True) or _ID_MAX
    values = {
        "wallet_id": wallet_id,
        "since": begin,
        "until": end,
        "first": first_id(begin),
        "below": last if below is None else min(below, last),
        "skipped": ROWS_MAX - 1,
        "rows": limit + 1,
    }
    floor: uuid.UUID | None = connection.execute(_FLOOR, values).scalar()
    rows = connection.execute(_ENTRIES, values | {"first": floor or values["first"]}).all()
    whole, following = _whole_transactions(rows, limit)
    return DayEntries([_day_entry(row) for row in whole], following or floor)


def _whole_transactions(rows: Sequence[Row[Any]], limit: int) -> tuple[Sequence[Row[Any]], uuid.UUID | None]:
    """Return the rows of whole transactions, and the last of them if there are more; one is never torn apart."""
    if len(rows) <= limit:
        return rows, None
    cut = rows[-1].transaction_id
    whole = [row for row in rows if row.transaction_id != cut] or rows
    return whole, whole[-1].transaction_id


def _day_entry(row: Row[Any]) -> DayEntry:
    return DayEntry(entry_of(row), row.transaction_id, row.kind, row.reference_id, row.user_id, row.user_name)


def _system_wallet(wallet_id: int, permit: Permit | None) -> WalletView:
    wallet = get_wallet(wallet_id, permit=permit)
    if wallet.user_type != "SYSTEM":
        raise NoSystemWalletError(wallet_id)
    return wallet


_ID_MAX = uuid.UUID(int=2**128 - 1)

_BALANCE = text("SELECT coalesce(sum(balance), 0) FROM system_balances WHERE wallet_id = :wallet_id")

_DAYS = text(f"""
WITH parts AS (
    SELECT day, entries, debits AS incoming, credits AS outgoing
      FROM daily_totals WHERE contra_wallet_id = :wallet_id
     UNION ALL
    SELECT CAST(entries.created_at AT TIME ZONE 'UTC' AS date), 1,
           greatest(-entries.amount, 0), greatest(entries.amount, 0)
      FROM (SELECT * FROM transactions
             WHERE transaction_id > :position AND transaction_id <= :until ORDER BY transaction_id OFFSET 0
           ) AS transactions
      {ENTRIES_OF_TRANSACTION}
     WHERE entries.contra_wallet_id = :wallet_id
), days AS (
    SELECT day, sum(entries) AS entries, sum(incoming) AS incoming, sum(outgoing) AS outgoing FROM parts GROUP BY day
), in_order AS (
    SELECT *, sum(incoming - outgoing) OVER (ORDER BY day) AS closing FROM days
)
SELECT day, CAST(entries AS bigint) AS entries, incoming, outgoing, closing
  FROM in_order
 WHERE day >= :since AND day < :before
 ORDER BY day DESC LIMIT :rows
""")  # noqa: S608 - constants

_TYPES = text("""
SELECT entry_type, entries, debits AS incoming, credits AS outgoing
  FROM daily_totals WHERE contra_wallet_id = :wallet_id AND day = :day
 ORDER BY entries DESC, entry_type
""")

_FLOOR = text("""
SELECT transaction_id FROM transactions
 WHERE transaction_id >= :first AND transaction_id < :below
 ORDER BY transaction_id DESC OFFSET :skipped LIMIT 1
""")

_ENTRIES = text(f"""
SELECT transactions.transaction_id, transactions.kind, transactions.reference_id, entries.wallet_id, entries.seq,
       entries.entry_type, entries.amount, entries.balance_after, entries.contra_wallet_id, entries.created_at,
       entries.hash, users.id AS user_id, users.name AS user_name
  FROM (SELECT * FROM transactions
         WHERE transaction_id >= :first AND transaction_id < :below ORDER BY transaction_id DESC OFFSET 0
       ) AS transactions
  {ENTRIES_OF_TRANSACTION}
  JOIN wallets ON wallets.id = entries.wallet_id
  JOIN users ON users.id = wallets.user_id
 WHERE entries.contra_wallet_id = :wallet_id AND entries.created_at >= :since AND entries.created_at < :until
 ORDER BY transactions.transaction_id DESC, entries.wallet_id, entries.seq DESC LIMIT :rows
""")  # noqa: S608 - constants
