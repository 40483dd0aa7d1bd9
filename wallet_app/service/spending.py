"""What the kernel asks about limits and what was spent, and writes of it: statements, and how they fill the books.

Spending is kept by the hour, of wallets alone for which it is limited. Whether that is all of it, its largest `seq`
tells: if it is not the wallet's version, because the limit is new, or nothing was posted for long, then what can count
is counted anew from the ledger, once, and kept with the wallet's next entry. So a limit counts from its first moment
on what was spent before, exactly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wallet_app.parameters import INSTANT, INSTANTS, TEXTS, UUIDS, WHOLE_NUMBER, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement
from wallet_app.service.books import Books
from wallet_app.service.limits import HOUR, KEPT, LimitsOf, WalletLimits, by_hours, hour_of

_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)

ENTRIES_MAX = 50_000
"""How many of a wallet's last entries are looked at to count anew: somebody waits for its lock."""


class Kept(NamedTuple):
    """What is kept of an hour, and the last entry that is counted."""

    wallet_id: int
    hour: dt.datetime
    amount: int
    seq: int


class Recounted(NamedTuple):
    """What was spent within a quarter of an hour, by the ledger; None in its place where that is nothing at all.

    `is_cut` tells that there are more entries than were looked at.
    """

    wallet_id: int
    is_cut: bool
    quarter: dt.datetime | None
    amount: int | None


def add_limits(books: Books, rows: Iterable[tuple[int, Sequence[int | None] | None]]) -> None:
    """Add to the books what LIMITS_OF_WALLET found of the wallets, by their ids, as it holds now."""
    for wallet_id, figures in rows:
        if figures and wallet_id in books.wallets:
            base, more, until = WalletLimits._make(figures[:4]), WalletLimits._make(figures[4:8]), figures[8]
            is_raised = until is not None and _EPOCH + dt.timedelta(microseconds=until) > books.now(wallet_id)
            of_wallet = LimitsOf(base, base)
            books.limits[wallet_id] = of_wallet.raised_to(more) if is_raised else of_wallet


def limited(books: Books) -> list[int]:
    """Return the wallets of which it matters what they have spent lately."""
    if not books.limits:
        return []
    return [wallet_id for wallet_id, one in books.limits.items() if one.base.has_window and wallet_id in books.wallets]


def question(books: Books, wallet_ids: list[int]) -> Question:
    """Return what asks for all that is kept of the wallets and can count."""
    return _LOAD_BUCKETS(wallet_ids, books.clock() - KEPT)


def add(books: Books, wallet_ids: list[int], rows: Sequence[Kept]) -> list[int]:
    """Add what is kept to the books; return the wallets of which that is not all."""
    books.spent.update({wallet_id: {} for wallet_id in wallet_ids})
    seqs = dict.fromkeys(wallet_ids, 0)
    last: dict[int, dt.datetime] = {}
    for wallet_id, hour, amount, seq in rows:
        books.spent[wallet_id][hour] = int(amount)
        seqs[wallet_id] = max(seqs[wallet_id], seq)
        last[wallet_id] = max(hour, last.get(wallet_id, hour))
    stale = []
    for wallet_id in wallet_ids:
        wallet = books.wallets[wallet_id]
        zone = wallet.asset.time_zone
        # The last one tells whether the asset had another time zone then, whose hours began at other minutes.
        is_aligned = wallet_id not in last or hour_of(last[wallet_id], zone) == last[wallet_id]
        if seqs[wallet_id] != wallet.version or not is_aligned:
            stale.append(wallet_id)
    return stale


def recount(books: Books, wallet_ids: list[int]) -> Question:
    """Return what counts anew what the wallets spent."""
    versions = [books.wallets[wallet_id].version for wallet_id in wallet_ids]
    return _RECOUNT(wallet_ids, versions, books.clock() - KEPT - HOUR, ENTRIES_MAX)


def add_recounted(books: Books, wallet_ids: list[int], rows: Sequence[Recounted]) -> None:
    """Put what was counted anew into the books, to be kept, instead of what was kept."""
    quarters: dict[int, dict[dt.datetime, int]] = {wallet_id: {} for wallet_id in wallet_ids}
    cut = set()
    for wallet_id, is_cut, quarter, amount in rows:
        if quarter is not None and amount is not None:
            quarters[wallet_id][quarter] = int(amount)
        if is_cut:
            cut.add(wallet_id)
    for wallet_id, found in quarters.items():
        hours = by_hours(found, books.wallets[wallet_id].asset.time_zone, after=books.clock() - KEPT)
        if wallet_id in cut and hours:
            # Of its first hour not all was looked at.
            del hours[min(hours)]
        kept = dict.fromkeys(books.spent[wallet_id], 0)
        books.spent[wallet_id] = {**kept, **hours}
        books.changed_hours.update([(wallet_id, hour) for hour in books.spent[wallet_id]])


def upsert_buckets(books: Books) -> Question:
    """Return what keeps the hours that changed, counted up to each wallet's last entry."""
    rows = [
        (wallet_id, hour, str(books.spent[wallet_id][hour]), books.wallets[wallet_id].version)
        for wallet_id, hour in sorted(books.changed_hours)
    ]
    return _UPSERT_BUCKETS(*zip(*rows, strict=True))


def insert_raises(books: Books) -> Question:
    """Return what keeps to what limits were raised, each as its transaction says."""
    rows = [
        (
            one.wallet_id,
            books.wallets[one.wallet_id].asset.id,
            *new.figures,
            new.until,
            one.transaction_id,
            one.actor,
            one.created_at,
        )
        for one, new in books.new_limits
    ]
    return _INSERT_RAISES(*zip(*rows, strict=True))


def _coalesced(column: str) -> str:
    return f"coalesce(own.{column}, of_type.{column}, of_asset.{column})"


_COLUMNS = ("single_max", "balance_max", "day_max", "rolling_max")
_BASE = ", ".join(_coalesced(column) for column in _COLUMNS)
_RAISED = ", ".join(f"raised.{column}" for column in _COLUMNS)


def _last(where: str) -> str:
    # All of these first, by their index (OFFSET 0 keeps it so), then the last: else a planner without statistics might
    # walk back through all limits there are until it finds one.
    return f"SELECT * FROM (SELECT * FROM limits WHERE {where} OFFSET 0) AS all_of_it ORDER BY id DESC LIMIT 1"  # noqa: S608


_OF_ALL = "wallet_id IS NULL AND asset_type_id = wallets.asset_type_id"

LIMITS_OF_WALLET = f"""
            SELECT ARRAY[{_BASE}, {_RAISED}, CAST(extract(epoch FROM raised.until) * 1000000 AS bigint)]
              FROM (SELECT) AS one
              LEFT JOIN LATERAL ({_last("wallet_id = wallets.id AND level = 'raise'")}) AS raised ON true
              LEFT JOIN LATERAL ({_last("wallet_id = wallets.id AND level = 'wallet'")}) AS own ON true
              LEFT JOIN LATERAL (
                   {_last(f"{_OF_ALL} AND level = 'user_type' AND user_type = users.user_type")}
                   ) AS of_type ON true
              LEFT JOIN LATERAL ({_last(f"{_OF_ALL} AND level = 'asset'")}) AS of_asset ON users.user_type = 'USER'
             WHERE num_nonnulls({_BASE}) > 0
"""  # noqa: S608 - constants
"""Selects, for `wallets` and `users`, the limits, then those to which they are raised, and until when; null if none."""

_LOAD_BUCKETS = Statement(
    "load_spend_buckets",
    """
SELECT kept.wallet_id, kept.hour, kept.amount, kept.seq
  FROM unnest($1) AS asked (wallet_id)
 CROSS JOIN LATERAL (
       SELECT * FROM spend_buckets WHERE wallet_id = asked.wallet_id AND hour > $2 OFFSET 0
       ) AS kept
""",
    WHOLE_NUMBERS,
    INSTANT,
    row=Kept._make,
)

# How many entries came before the instant is found by halving: along seq the time never falls.
BEGUN = """
search (wallet_id, since, first, low, high) AS (
    SELECT wallet_id, since, greatest(version - entries_max, 0), greatest(version - entries_max, 0), version FROM asked
     UNION ALL
    SELECT search.wallet_id, since, first, CASE WHEN middle.is_before THEN middle.seq ELSE low END,
           CASE WHEN middle.is_before THEN high ELSE (low + high - 1) / 2 END
      FROM search
      LEFT JOIN LATERAL (
           SELECT seq, created_at < search.since AS is_before FROM ledger_entries
            WHERE wallet_id = search.wallet_id AND seq = (search.low + search.high + 1) / 2 OFFSET 0
           ) AS middle ON true
     WHERE low < high
), begun AS MATERIALIZED (
    SELECT wallet_id, low AS seq, low > 0 AND low = first AS is_cut FROM search WHERE low = high
)
"""
"""The last entry of each wallet of `asked` (wallet_id, version, since, entries_max) before the instant."""

# A capture is no spending, because its hold was; and what was reversed, released or has expired is none any more.
SPENT = """
spent AS (
    SELECT begun.wallet_id, entry.created_at, -entry.amount - coalesce(became.reversed, 0) AS amount
      FROM begun
     CROSS JOIN LATERAL (
           SELECT seq, transaction_id, created_at, amount FROM ledger_entries
            WHERE wallet_id = begun.wallet_id AND seq > begun.seq
              AND amount < 0 AND entry_type IN ('SPEND', 'TRANSFER', 'EXCHANGE') OFFSET 0
           ) AS entry
      LEFT JOIN LATERAL (
           SELECT transaction_id FROM ledger_entries
            WHERE wallet_id = begun.wallet_id AND seq = entry.seq - 1 AND entry_type = 'RELEASE' OFFSET 0
           ) AS back ON back.transaction_id = entry.transaction_id
      LEFT JOIN LATERAL (
           SELECT reversed FROM reversed_entries WHERE wallet_id = begun.wallet_id AND seq = entry.seq OFFSET 0
           ) AS became ON true
     WHERE back.transaction_id IS NULL
     UNION ALL
    SELECT begun.wallet_id, hold.created_at,
           hold.amount - hold.released - hold.expired - coalesce(CASE WHEN hold.captured > 0 THEN (
               SELECT sum(became.reversed)
                 FROM unnest(hold.changes) AS change (seq)
                CROSS JOIN LATERAL (
                      SELECT transaction_id FROM ledger_entries
                       WHERE wallet_id = begun.wallet_id AND seq = change.seq OFFSET 0
                      ) AS back
                CROSS JOIN LATERAL (
                      SELECT reversed FROM reversed_entries
                       WHERE wallet_id = begun.wallet_id AND seq = change.seq + 1
                         AND transaction_id = back.transaction_id OFFSET 0
                      ) AS became) END, 0)
      FROM begun
     CROSS JOIN LATERAL (
           SELECT * FROM holds WHERE wallet_id = begun.wallet_id AND seq > begun.seq OFFSET 0
           ) AS hold
)
"""
"""What the wallets of `begun` spent after that entry: wallet_id, created_at, amount."""

_RECOUNT = Statement(
    "recount_spending",
    f"""
WITH RECURSIVE asked AS (
    SELECT wallet_id, version, CAST($3 AS timestamptz) AS since, CAST($4 AS bigint) AS entries_max
      FROM unnest($1, $2) AS asked (wallet_id, version)
), {BEGUN}, {SPENT}
SELECT begun.wallet_id, begun.is_cut, quarters.quarter, quarters.amount
  FROM begun
  LEFT JOIN (
       SELECT wallet_id, date_bin('15 minutes', created_at, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS quarter,
              sum(amount) AS amount
         FROM spent GROUP BY 1, 2
       ) AS quarters USING (wallet_id)
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANT,
    WHOLE_NUMBER,
    row=Recounted._make,
)

_UPSERT_BUCKETS = Statement(
    "upsert_spend_buckets",
    """
INSERT INTO spend_buckets (wallet_id, hour, amount, seq)
SELECT wallet_id, hour, CAST(amount AS numeric), seq
  FROM unnest($1, $2, $3, $4) AS spent (wallet_id, hour, amount, seq)
ON CONFLICT (wallet_id, hour) DO UPDATE SET amount = excluded.amount, seq = excluded.seq
""",
    WHOLE_NUMBERS,
    INSTANTS,
    TEXTS,
    WHOLE_NUMBERS,
)

_INSERT_RAISES = Statement(
    "insert_limit_raises",
    """
INSERT INTO limits (level, wallet_id, asset_type_id, single_max, balance_max, day_max, rolling_max, until,
                    transaction_id, set_by, set_at)
SELECT 'raise', * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
""",
    *[WHOLE_NUMBERS] * 6,
    INSTANTS,
    UUIDS,
    TEXTS,
    INSTANTS,
)
