"""Loads lots, after the locks: those that are due or concern a command, and of the others as many as may be taken.

A wallet may have thousands of lots, and most commands take from one or two: so they are walked in the order of taking,
along an index, only until they make what the commands can need.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from wallet_app.money import AMOUNT_MAX
from wallet_app.parameters import INSTANT, UUIDS, WHOLE_NUMBER, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement
from wallet_app.service.books import Books
from wallet_app.service.commands import Command, OnLot, RevokeLot
from wallet_app.service.lots import STANDING, Lot, LotKey, standing_lot

DUE_MAX = 1_000
"""How many due lots of a wallet are settled in one unit of work; it keeps the wallet from everybody else so long."""


def questions(
    books: Books, commands: Sequence[Command], *, latest: dt.datetime | None, whole: Collection[int] | None
) -> list[Question]:
    """Return what loads the lots of the books' wallets that the commands need: nothing where there are none.

    The standing lots of wallets whose balance row tells all of them are added to the books at once. `latest` is up to
    when lots may be due; None: by the database's clock. Unless `whole` is None, all standing lots are loaded, and of
    these wallets all lots.
    """
    wallets = []
    for wallet in books.wallets.values():
        if wallet.lots or whole is not None:
            wallets.append(wallet.wallet_id)
        elif wallet.bonus:
            standing = standing_lot(wallet.wallet_id, wallet.bonus, wallet.updated_at)
            books.lots[wallet.wallet_id] = {STANDING: standing}
    named = [command.lot_id for command in commands if isinstance(command, OnLot)]
    keys = sorted(concerned(books))
    if not (wallets or named or keys):
        return []
    needs = _needs(books, commands, whole or ())
    # When a clock was set back, the latest entry tells the time: a wallet's may become another's, by a transfer.
    until = latest or max([wallet.updated_at for wallet in books.wallets.values()], default=None)
    return [
        _LOAD_LOTS(
            wallets,
            [min(needs[wallet_id], AMOUNT_MAX) for wallet_id in wallets],
            until,
            [wallet_id for wallet_id, _ in keys],
            [seq for _, (seq, _) in keys],
            [part for _, (_, part) in keys],
            named,
            # With a clock of the caller's, it is not known yet what is due.
            AMOUNT_MAX if latest else DUE_MAX + 1,
        )
    ]


def add(books: Books, lots: Iterable[Lot]) -> None:
    """Add what was loaded to the books; the same lot may have been found in several ways."""
    for lot in lots:
        if lot.wallet_id in books.wallets:
            books.lots.setdefault(lot.wallet_id, {})[lot.key] = lot
    books.unsettled = {
        wallet_id
        for wallet_id, kept in books.lots.items()
        if len(kept) > DUE_MAX and len(books.due_lots(wallet_id)) > DUE_MAX
    }


def question_of(keys: Collection[tuple[int, LotKey]]) -> Question:
    """Return what loads just these lots."""
    wallet_ids, seqs = [wallet_id for wallet_id, _ in keys], [seq for _, (seq, _) in keys]
    return _LOAD_LOTS([], [], None, wallet_ids, seqs, [part for _, (_, part) in keys], [], 0)


def concerned(books: Books) -> set[tuple[int, LotKey]]:
    """Return the lots that the originals moved, and those that something of a loaded hold is of."""
    if not (books.movements or books.holds):
        return set()
    moved = {
        (one.wallet_id, (one.lot_seq, one.lot_part)) for movements in books.movements.values() for one in movements
    }
    held = {
        (wallet_id, key) for wallet_id, holds in books.holds.items() for hold in holds.values() for key, _ in hold.lots
    }
    return moved | held


def _needs(books: Books, commands: Sequence[Command], whole: Collection[int]) -> Counter[int]:
    """Return how much may be taken from each wallet's lots."""
    needs = Counter(dict.fromkeys(whole, AMOUNT_MAX))
    for command in commands:
        for wallet_id, amount in command.takes():
            needs[wallet_id] += amount
        if isinstance(command, RevokeLot):
            needs[command.wallet_id] = AMOUNT_MAX
    # Taking back may take what was paid first, and has to know what that is: what is in no lot.
    for original in books.originals.values():
        needs.update({entry.wallet_id: AMOUNT_MAX for entry in original.entries if entry.amount > 0})
    return needs


LOT_COLUMNS = """
       lots.wallet_id, lots.seq, lots.part, lots.lot_id, lots.kind, lots.amount, lots.available, lots.held,
       lots.consumed, lots.expired, lots.revoked, lots.expires_at, lots.created_at, lots.changed_at
"""

LOT_MOVEMENT_COLUMNS = """
       lot_movements.wallet_id, lot_movements.seq, lot_movements.transaction_id, lot_movements.place,
       lot_movements.lot_seq, lot_movements.lot_part, lot_movements.kind, lot_movements.amount,
       lot_movements.expires_at, lot_movements.created_at
"""

# Each way to a lot goes by an index alone: it is the next one in the order of taking; it is due; it is the standing
# one; it is concerned; it is named; something of a hold that is due is of it. One instant decides what is due, and it
# comes after the one that the books go by: so what is due there is here.
_LOAD_LOTS = Statement(
    "load_lots",
    f"""
WITH RECURSIVE clock AS MATERIALIZED (SELECT greatest($3, clock_timestamp()) AS now),
asked AS MATERIALIZED (SELECT wallet_id, need FROM unnest($1, $2) AS wanted (wallet_id, need)),
taken AS (
       SELECT first.*, asked.need, first.available AS so_far
         FROM asked
        CROSS JOIN clock
        CROSS JOIN LATERAL (
              SELECT * FROM lots
               WHERE wallet_id = asked.wallet_id AND available > 0 AND expires_at > clock.now
               ORDER BY expires_at, kind, seq, part LIMIT 1
              ) AS first
        WHERE asked.need > 0
        UNION ALL
       SELECT next.*, taken.need, taken.so_far + next.available
         FROM taken
        CROSS JOIN LATERAL (
              SELECT * FROM lots
               WHERE wallet_id = taken.wallet_id AND available > 0
                 AND (expires_at, kind, seq, part) > (taken.expires_at, taken.kind, taken.seq, taken.part)
               ORDER BY expires_at, kind, seq, part LIMIT 1
              ) AS next
        WHERE taken.so_far < taken.need
)
SELECT {LOT_COLUMNS} FROM taken AS lots
 UNION ALL
SELECT {LOT_COLUMNS}
  FROM asked
 CROSS JOIN clock
 CROSS JOIN LATERAL (
       SELECT * FROM lots
        WHERE wallet_id = asked.wallet_id AND available > 0 AND expires_at <= clock.now
        ORDER BY expires_at, kind, seq, part LIMIT $8
       ) AS lots
 UNION ALL
SELECT {LOT_COLUMNS}
  FROM asked
 CROSS JOIN LATERAL (
       SELECT * FROM lots WHERE wallet_id = asked.wallet_id AND seq = 0 AND part = 0 OFFSET 0
       ) AS lots
 UNION ALL
SELECT {LOT_COLUMNS}
  FROM unnest($4, $5, $6) AS concerned (wallet_id, seq, part)
 CROSS JOIN LATERAL (
       SELECT * FROM lots
        WHERE wallet_id = concerned.wallet_id AND seq = concerned.seq AND part = concerned.part OFFSET 0
       ) AS lots
 UNION ALL
SELECT {LOT_COLUMNS}
  FROM unnest($7) AS named (lot_id)
 CROSS JOIN LATERAL (SELECT * FROM lots WHERE lot_id = named.lot_id OFFSET 0) AS lots
 UNION ALL
SELECT {LOT_COLUMNS}
  FROM asked
 CROSS JOIN clock
 CROSS JOIN LATERAL (
       SELECT holds.lots FROM holds
        WHERE wallet_id = asked.wallet_id AND ended_at IS NULL AND expires_at <= clock.now OFFSET 0
       ) AS due
 CROSS JOIN LATERAL generate_series(1, cardinality(due.lots), 3) AS place
 CROSS JOIN LATERAL (
       SELECT * FROM lots
        WHERE wallet_id = asked.wallet_id AND seq = due.lots[place] AND part = due.lots[place + 1] OFFSET 0
       ) AS lots
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANT,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    WHOLE_NUMBER,
    row=Lot._make,
)
