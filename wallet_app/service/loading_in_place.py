"""Loads what was taken in place of used grants, for those of which something may come back; after the locks.

The ledger says it all: what the reversals of a grant's entry took of other credit, less what came back since. Where no
grant was reversed, that is one look at a primary key for each lot that something may come back to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from wallet_app.parameters import INSTANT, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement
from wallet_app.service.books import Books
from wallet_app.service.in_place import InPlace
from wallet_app.service.loading_lots import concerned
from wallet_app.service.lots import STANDING, LotKey


class _Row(NamedTuple):
    """What happened to an entry that made lots, in order of the entries `at`: something was taken, or came back.

    With `at` 0, the amount is what of the entry was paid (`place` 0), or is bonus for ever (1). What came back is
    negative. What was taken of what the entry brought for ever has `place` 0, too.
    """

    wallet_id: int
    seq: int
    at: int
    place: int
    lot_seq: int | None
    lot_part: int | None
    amount: int


def questions(books: Books, latest: dt.datetime | None, holding: Sequence[int], owing: Sequence[int]) -> list[Question]:
    """Return what loads it for the lots that commands concern; and of the wallets `holding`, for those of due holds.

    `latest` is up to when holds may be due; None: by the database's clock. Of the wallets `owing`, it is loaded for all
    that they owe for.
    """
    entries = sorted({(wallet_id, seq) for wallet_id, (seq, _) in concerned(books) if seq})
    holding = [wallet_id for wallet_id in holding if books.wallets[wallet_id].lots]
    if not (entries or holding or owing):
        return []
    until = latest or max([wallet.updated_at for wallet in books.wallets.values()])
    return [_LOAD([one[0] for one in entries], [one[1] for one in entries], holding, until, list(owing))]


def add(books: Books, rows: Sequence[_Row]) -> set[tuple[int, LotKey]]:
    """Add what was loaded to the books; return the lots that something may come back to because of it."""
    for key, of_entry in groupby(sorted(rows, key=lambda row: row[:4]), key=lambda row: row[:2]):
        paid, standing, *moved = of_entry
        kept = books.in_place[key] = InPlace(paid.amount, standing.amount)
        for _, together in groupby(moved, key=lambda row: row.at):
            _replay(kept, list(together))
    return {
        (wallet_id, lot)
        for (wallet_id, _), kept in books.in_place.items()
        for lot, _ in kept.taken
        # Of a standing lot perhaps no more is loaded than what is available.
        if lot is not None and (lot == STANDING or lot not in books.lots.get(wallet_id, {}))
    }


def _replay(kept: InPlace, rows: Sequence[_Row]) -> None:
    if rows[0].amount < 0:
        kept.give(-rows[0].amount)
    else:
        units = [row for row in rows if row.place]
        keys = [None if row.lot_seq is None or row.lot_part is None else (row.lot_seq, row.lot_part) for row in units]
        standing = sum([row.amount for row in rows if not row.place])
        kept.take(standing, [(key, row.amount) for key, row in zip(keys, units, strict=True)])


# Of a transaction that reverses the entry, its own entry that did so: the parts that moved are its entries, in order.
_TAKING = """
       SELECT CASE WHEN made.seq IS NOT NULL THEN made.seq ELSE made.entry_keys[2 * part.number] END AS seq,
              -part.moved AS amount
         -- By their index, whatever the statistics say (OFFSET 0 keeps it so): a join would read the whole ledger.
         FROM (SELECT * FROM transactions WHERE reverses = entry.transaction_id OFFSET 0) AS made
        CROSS JOIN LATERAL (
              SELECT CAST(value ->> 0 AS bigint) AS wallet_id, CAST(value ->> 1 AS bigint) AS seq,
                     CAST(value ->> 2 AS bigint) AS moved,
                     count(*) FILTER (WHERE CAST(value ->> 2 AS bigint) <> 0) OVER (ORDER BY place) AS number
                FROM jsonb_array_elements(made.result -> 'parts') WITH ORDINALITY AS parts (value, place)
              ) AS part
        WHERE part.wallet_id = entry.wallet_id AND part.seq = entry.seq AND part.moved < 0
"""

# What was taken in place of a lot may have been of lots that were taken back themselves: so it goes on from these.
_LOAD = Statement(
    "load_in_place",
    f"""
WITH RECURSIVE named (wallet_id, seq) AS (
       SELECT wallet_id, seq FROM unnest($1, $2) AS asked (wallet_id, seq)
        UNION
       SELECT asked.wallet_id, due.lots[place]
         FROM unnest($3) AS asked (wallet_id)
        CROSS JOIN LATERAL (
              SELECT holds.lots FROM holds
               WHERE wallet_id = asked.wallet_id AND ended_at IS NULL
                 AND expires_at <= greatest($4, clock_timestamp()) OFFSET 0
              ) AS due
        CROSS JOIN LATERAL generate_series(1, cardinality(due.lots), 3) AS place
        UNION
       SELECT asked.wallet_id, owing.seq
         FROM unnest($5) AS asked (wallet_id)
        CROSS JOIN LATERAL (
              SELECT seq FROM reversed_entries WHERE wallet_id = asked.wallet_id AND owed > 0 OFFSET 0
              ) AS owing
), entry (wallet_id, seq, transaction_id, amount) AS (
       SELECT became.wallet_id, became.seq, became.transaction_id, became.amount
         FROM named
        CROSS JOIN LATERAL (
              SELECT * FROM reversed_entries WHERE wallet_id = named.wallet_id AND seq = named.seq OFFSET 0
              ) AS became
        UNION
       SELECT became.wallet_id, became.seq, became.transaction_id, became.amount
         FROM entry
        CROSS JOIN LATERAL ({_TAKING}) AS taking
        CROSS JOIN LATERAL (
              SELECT lot_seq FROM lot_movements
               WHERE wallet_id = entry.wallet_id AND seq = taking.seq AND kind = 'consume' OFFSET 0
              ) AS other
        CROSS JOIN LATERAL (
              SELECT * FROM reversed_entries WHERE wallet_id = entry.wallet_id AND seq = other.lot_seq OFFSET 0
              ) AS became
)
SELECT entry.wallet_id, entry.seq, CAST(0 AS bigint) AS at, besides.place, CAST(NULL AS bigint) AS lot_seq,
       CAST(NULL AS integer) AS lot_part, CAST(besides.amount AS bigint) AS amount
  FROM entry
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum(amount) FILTER (WHERE lot_seq = 0), 0) AS standing
         FROM lot_movements
        WHERE wallet_id = entry.wallet_id AND seq = entry.seq AND kind = 'grant'
       ) AS made
 CROSS JOIN LATERAL (
       VALUES (0, entry.amount - made.amount), (1, made.standing)
       ) AS besides (place, amount)
 UNION ALL
SELECT entry.wallet_id, entry.seq, taking.seq, CASE WHEN moved.kind = 'revoke' THEN 0 ELSE moved.place END,
       moved.lot_seq, moved.lot_part, moved.amount
  FROM entry
 CROSS JOIN LATERAL ({_TAKING}) AS taking
 CROSS JOIN LATERAL (
       SELECT * FROM lot_movements
        WHERE wallet_id = entry.wallet_id AND seq = taking.seq AND lot_seq <> entry.seq AND kind <> 'extend' OFFSET 0
       ) AS moved
 UNION ALL
SELECT entry.wallet_id, entry.seq, taking.seq, 2147483647, NULL, NULL, taking.amount - coalesce(moved.amount, 0)
  FROM entry
 CROSS JOIN LATERAL ({_TAKING}) AS taking
 CROSS JOIN LATERAL (
       SELECT CAST(sum(amount) AS bigint) AS amount FROM lot_movements
        WHERE wallet_id = entry.wallet_id AND seq = taking.seq AND kind <> 'extend'
       ) AS moved
 UNION ALL
SELECT entry.wallet_id, entry.seq, came.seq, 0, NULL, NULL, -CAST(sum(came.amount) AS bigint)
  FROM entry
 CROSS JOIN LATERAL (
       SELECT seq, amount FROM lot_movements
        WHERE wallet_id = entry.wallet_id AND lot_seq = entry.seq AND kind = 'revoke' OFFSET 0
       ) AS came
 CROSS JOIN LATERAL (
       SELECT FROM ledger_entries WHERE wallet_id = entry.wallet_id AND seq = came.seq AND amount > 0 OFFSET 0
       ) AS coming
 GROUP BY entry.wallet_id, entry.seq, came.seq
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANT,
    WHOLE_NUMBERS,
    row=_Row._make,
)
