"""Loads what a batch of commands may look at, after the locks: the books of its wallets, and known references.

New statements, so that they see what was committed while the locks were waited for; the same number for any batch.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from uuid_utils import uuid7

from wallet_app.parameters import INSTANT, TEXTS, UUIDS, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement, ask
from wallet_app.service import loading_in_place, loading_lots, spending
from wallet_app.service.books import (
    NOT_FROZEN,
    Asset,
    Books,
    Entry,
    Frozen,
    Hold,
    PostedTransaction,
    ReversedEntry,
    Stop,
    WalletState,
)
from wallet_app.service.commands import Command, Movement, OnHold, PlaceHold, ReverseTransaction, RevokeLot
from wallet_app.service.loading_lots import LOT_MOVEMENT_COLUMNS
from wallet_app.service.locks import LockedBalance
from wallet_app.service.lots import LotMovement
from wallet_app.service.spending import LIMITS_OF_WALLET

Clock = Callable[[], dt.datetime]


class MissingBalancesError(Exception):
    """User wallets have no balance row; `heal` makes them, then the batch can be posted. Nothing was written."""

    def __init__(self, wallet_ids: Sequence[int]) -> None:
        super().__init__(wallet_ids)
        self.wallet_ids = wallet_ids


class _WalletRow(NamedTuple):
    """A row of _LOAD_WALLETS: the clock, and a wallet, or None in all other places if there is none."""

    now: dt.datetime
    wallet_id: int
    user_id: int
    status: str
    user_type: str
    has_balance: bool
    asset_id: int
    asset_code: str
    asset_name: str
    asset_scale: int
    time_zone: str
    bonus_days: int | None
    paid_days: int | None
    debits_frozen_until: dt.datetime | None
    credits_frozen_until: dt.datetime | None
    state_transaction_id: uuid.UUID | None
    stops: list[str] | None
    """The switches that stop something there now: `asset debits`. None, at once, where no switch is set at all."""
    limits: list[int | None] | None
    """The figures of its limits, those to which they are raised, and until when. None, at once, where are no limits."""


class TransactionRow(NamedTuple):
    """A row of TRANSACTION_COLUMNS, and what a reader wants to know besides. The entry's are None if there is none."""

    wallet_id: int
    reference_id: str
    transaction_id: uuid.UUID
    kind: str
    client: str
    actor: str
    request_id: str | None
    request: dict[str, Any] | None
    result: dict[str, Any] | None
    reverses: uuid.UUID | None
    details_hash: bytes | None
    digest: bytes
    occurred_at: dt.datetime
    created_at: dt.datetime
    entry_wallet_id: Any
    entry_seq: Any
    entry_type: Any
    amount: Any
    balance_after: Any
    contra_wallet_id: Any
    entry_created_at: Any
    hash: Any
    note: str | None = None
    metadata: dict[str, Any] | None = None
    asset_code: str | None = None
    user_id: int | None = None
    """Whose the entry is; of a transaction without one, whose the anchor is."""
    reversed: int | None = None
    owed: int | None = None
    owed_since: dt.datetime | None = None
    """What became of the entry, if it was reversed."""
    anchor_user_id: int | None = None
    anchor_asset_code: str | None = None
    expired: int | None = None
    """What has expired of the lots that the entry granted, whether that was booked yet or not."""


def questions(wallet_ids: list[int], commands: Sequence[Command], clock: Clock | None = None) -> tuple[Question, ...]:
    """Return what is to be asked for the commands' books, after the locks."""
    pairs = sorted({(command.wallet_id, command.reference) for command in commands})
    always = _LOAD_WALLETS(wallet_ids), _LOAD_TRANSACTIONS([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    others = _others(commands)
    if not others:
        return always
    return (
        *always,
        *([_LOAD_RATES(wallet_ids)] if _use_rates(others) else []),
        *([_LOAD_ORIGINALS(*originals), _LOAD_MOVEMENTS(*originals)] if any(originals := _originals(others)) else []),
        *_questions_of_holds(wallet_ids, others, clock),
    )


def load_books(
    connection: Connection,
    locked: Sequence[LockedBalance],
    commands: Sequence[Command],
    answers: Sequence[list[Any]],
    clock: Clock | None = None,
    *,
    whole: Collection[int] | None = None,
) -> tuple[Books, frozenset[int]]:
    """Return the books of the locked wallets, and the ids of those that are busy: they exist, but are not locked.

    `answers` are those to `questions` about the commands, asked while the caller held the locks on the balance rows
    `locked`. Raises MissingBalancesError. For a preview, `whole` are the wallets of which all lots are loaded that have
    anything, and no standing lot is left out.
    """
    rows, transactions, *more = answers
    others = _others(commands)
    rates = _rates(more.pop(0)) if _use_rates(others) else {}
    originals: list[_OriginalRow] = []
    movements: list[LotMovement] = []
    if any(_originals(others)):
        originals, movements, *more = more
    now: dt.datetime = rows[0].now
    wallets: list[_WalletRow] = [row for row in rows if row.wallet_id is not None]
    states, busy = _wallet_states(wallets, locked, _assets(connection, wallets))
    books = Books(
        wallets=states,
        system_wallets=frozenset([row.wallet_id for row in wallets if row.user_type == "SYSTEM"]),
        transactions=_known_transactions(transactions),
        clock=clock or (lambda: now),
        new_id=_new_id,
        new_salt=lambda: os.urandom(16),
        rates=rates,
        stops={row.wallet_id: tuple([Stop(*one.split()) for one in row.stops]) for row in wallets if row.stops},
    )
    spending.add_limits(books, [(row.wallet_id, row.limits) for row in wallets if row.limits])
    _add_originals(books, originals, movements)
    if more:
        _add_holds(books, *more)
    holding = [] if more else [row[0] for row in locked if row[2]]
    owing = [row[0] for row in locked if row[6]]
    limited = spending.limited(books)
    lots = loading_lots.questions(books, commands, latest=None if clock is None else _LATEST, whole=whole)
    if holding or owing or lots or limited:
        # Only now it is known that they hold or owe something, have lots, or that what they spend is limited: one more
        # round trip for them, and none for all others.
        asked = [_LOAD_HOLDS(holding, _until(clock), [], [], [])] if holding else []
        asked += [_LOAD_DEBTS(owing)] if owing else []
        # For a preview, what a debt's repayment takes is to be known by later chunks, too.
        concerned = loading_in_place.questions(books, _until(clock), holding, owing if whole is not None else [])
        found = ask(connection, *asked, *lots, *concerned, *([spending.question(books, limited)] if limited else []))
        if limited and (stale := spending.add(books, limited, found.pop())):
            (rows,) = ask(connection, spending.recount(books, stale))
            spending.add_recounted(books, stale, rows)
        in_place = found.pop() if concerned else []
        loading_lots.add(books, found.pop() if lots else [])
        if missing := loading_in_place.add(books, in_place):
            loading_lots.add(books, ask(connection, loading_lots.question_of(missing))[0])
        _add_reversed(books, found.pop() if owing else [])
        _add_holds(books, *found)
    return books, busy


def _others(commands: Sequence[Command]) -> list[Command]:
    """Return the commands that may name more than a wallet; a movement, which most are, does not."""
    return [command for command in commands if not isinstance(command, Movement)]


def _originals(commands: Sequence[Command]) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Return the transactions that the commands want to reverse, and the lots whose grants they do."""
    transactions = dict.fromkeys([one.transaction_id for one in commands if isinstance(one, ReverseTransaction)])
    lots = dict.fromkeys([one.lot_id for one in commands if isinstance(one, RevokeLot)])
    return list(transactions), list(lots)


def _add_originals(books: Books, rows: Sequence[_OriginalRow], movements: Sequence[LotMovement]) -> None:
    for movement in movements:
        key = movement.wallet_id, movement.seq
        books.movements[key] = (*books.movements.get(key, ()), movement)
    found: dict[uuid.UUID, list[TransactionRow]] = {}
    for row, _ in rows:
        found.setdefault(row.transaction_id, []).append(row)
    books.originals.update({key: posted_transaction(group) for key, group in found.items()})
    _add_reversed(books, [bound for _, bound in rows if bound is not None])


def _add_reversed(books: Books, rows: Iterable[ReversedEntry]) -> None:
    books.reversed.update({(row.wallet_id, row.seq): row for row in rows})


def _use_rates(commands: Sequence[Command]) -> bool:
    return any(command.uses_rates for command in commands)


def _questions_of_holds(wallet_ids: list[int], commands: Sequence[Command], clock: Clock | None) -> list[Question]:
    """Return what loads holds, the due ones of all wallets with them: none for commands that name none."""
    placing = [command for command in commands if isinstance(command, PlaceHold)]
    named = [command.hold_id for command in commands if isinstance(command, OnHold)]
    if not (placing or named):
        return []
    anchors, references = [command.wallet_id for command in placing], [command.reference for command in placing]
    found = _LOAD_HOLDS(wallet_ids, _until(clock), anchors, references, named)
    return [found, _COUNT_OPEN_HOLDS(sorted(set(anchors)))] if placing else [found]


def _until(clock: Clock | None) -> dt.datetime | None:
    """Return up to when holds may be due: by the database's clock, or, with another one, whatever is open."""
    return None if clock is None else _LATEST


_LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


def _add_holds(books: Books, holds: Sequence[Hold] = (), counts: Sequence[tuple[int, int]] = ()) -> None:
    for hold in holds:
        books.holds.setdefault(hold.wallet_id, {})[hold.seq] = hold
    books.open_holds.update(dict(counts))


def hold_of(columns: Sequence[Any]) -> Hold:
    """Return the hold that a row of HOLD_COLUMNS is."""
    numbers = columns[12]
    lots = [((seq, part), amount) for seq, part, amount in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)]
    return Hold._make((*columns[:11], tuple(columns[11]), tuple(lots)))


def _wallet_states(
    rows: Iterable[_WalletRow], locked: Sequence[LockedBalance], assets: Mapping[int, Asset]
) -> tuple[dict[int, WalletState], frozenset[int]]:
    """Return the states of the locked wallets, and the user wallets that are not locked; raise MissingBalancesError."""
    balances = {row[0]: row for row in locked}
    states, busy, missing = {}, set(), []
    for _, wallet_id, user_id, status, user_type, has_balance, asset_id, *_, debits, credits_, changed_by, _, _ in rows:
        if (row := balances.get(wallet_id)) is not None:
            _, balance, held, version, chain, updated_at, owed, bonus, lots = row
            asset, frozen = assets[asset_id], NOT_FROZEN if changed_by is None else Frozen(debits, credits_)
            states[wallet_id] = WalletState(
                *(wallet_id, user_id, asset, status, balance, held, version, chain, updated_at, owed, frozen),
                *(changed_by, bonus, lots),
            )
        elif user_type == "USER":
            busy.add(wallet_id)
            if not has_balance:
                missing.append(wallet_id)
    if missing:
        raise MissingBalancesError(sorted(missing))
    return states, frozenset(busy)


def _assets(connection: Connection, wallets: Iterable[_WalletRow]) -> dict[int, Asset]:
    """Return the assets of the wallets, as they are now; only their SYSTEM wallets, which stay, are remembered."""
    contra = _contra.setdefault(connection.engine, {})
    found = {row.asset_id: row for row in wallets}
    if unknown := [asset_id for asset_id in found if asset_id not in contra]:
        (rows,) = ask(connection, _LOAD_CONTRA(unknown))
        contra |= {asset_id: dict(zip(owners, wallet_ids, strict=True)) for asset_id, owners, wallet_ids in rows}
    return {
        asset_id: Asset(
            *(asset_id, row.asset_code, row.asset_name, row.asset_scale, contra[asset_id]),
            *(row.time_zone, row.bonus_days, row.paid_days),
        )
        for asset_id, row in found.items()
    }


_contra: WeakKeyDictionary[Engine, dict[int, Mapping[str, int]]] = WeakKeyDictionary()
"""The SYSTEM wallets of each asset, by their owner's name."""


def _rates(rows: Iterable[tuple[int, int, int | None, int | None]]) -> dict[tuple[int, int], Fraction]:
    """Return the rates that apply now. A row without one says that there is none any more."""
    return {
        (source, target): Fraction(numerator, denominator)
        for source, target, numerator, denominator in rows
        if numerator is not None
    }


def _known_transactions(rows: Iterable[TransactionRow]) -> dict[tuple[int, str], PostedTransaction]:
    """Return the transactions by (wallet, reference), with their entries."""
    found: dict[tuple[int, str], list[TransactionRow]] = {}
    for row in rows:
        found.setdefault((row.wallet_id, row.reference_id), []).append(row)
    return {key: posted_transaction(group) for key, group in found.items()}


def posted_transaction(rows: Sequence[TransactionRow]) -> PostedTransaction:
    """Return a transaction from its rows: one per entry, or one without an entry."""
    row = rows[0]
    entries = tuple(_entry(row) for row in rows if row.entry_wallet_id is not None)
    return PostedTransaction(
        transaction_id=row.transaction_id,
        wallet_id=row.wallet_id,
        reference=row.reference_id,
        kind=row.kind,
        client=row.client,
        actor=row.actor,
        request_id=row.request_id,
        requested=row.request if row.request is not None else {"amount": abs(entries[0].amount)},
        stored_request=row.request,
        result=row.result,
        reverses=row.reverses,
        details=None,
        details_hash=row.details_hash,
        digest=row.digest,
        occurred_at=row.occurred_at,
        created_at=row.created_at,
        entries=entries,
    )


def _entry(row: TransactionRow) -> Entry:
    return Entry(
        wallet_id=row.entry_wallet_id,
        seq=row.entry_seq,
        entry_type=row.entry_type,
        amount=row.amount,
        balance_after=row.balance_after,
        contra_wallet_id=row.contra_wallet_id,
        created_at=row.entry_created_at,
        hash=row.hash,
    )


def _new_id(instant: dt.datetime) -> uuid.UUID:
    return uuid.UUID(int=uuid7(nanoseconds=int(instant.timestamp() * 1_000_000) * 1000).int)


_LOAD_WALLETS = Statement(
    "load_wallets",
    f"""
SELECT clock.now, wallets.id, wallets.user_id, wallets.status, users.user_type,
       EXISTS (SELECT FROM wallet_balances WHERE wallet_id = wallets.id) AS has_balance,
       asset_types.id, asset_types.code, asset_types.name, asset_types.scale,
       asset_types.time_zone, asset_types.bonus_days, asset_types.paid_days,
       wallets.debits_frozen_until, wallets.credits_frozen_until, wallets.state_transaction_id,
       -- Asked for each wallet only where any switch is set: usually this is one look at an index with nothing in it.
       CASE WHEN (SELECT EXISTS (SELECT FROM stop_switches WHERE lifted_at IS NULL)) THEN (
            SELECT array_agg(concat_ws(' ', target, side)) FROM (
                   SELECT * FROM stop_switches WHERE lifted_at IS NULL AND target = 'everything'
                    UNION ALL
                   SELECT * FROM stop_switches
                    WHERE lifted_at IS NULL AND target = 'user' AND user_id = wallets.user_id
                    UNION ALL
                   SELECT * FROM stop_switches
                    WHERE lifted_at IS NULL AND target = 'asset' AND user_id IS NULL
                      AND asset_type_id = wallets.asset_type_id
                   ) AS switches
             WHERE until IS NULL OR until > clock.now) END AS stops,
       -- Likewise.
       CASE WHEN (SELECT EXISTS (SELECT FROM limits)) THEN ({LIMITS_OF_WALLET}) END AS limits
  FROM (SELECT clock_timestamp() AS now) AS clock
  LEFT JOIN (wallets JOIN users ON users.id = wallets.user_id
                     JOIN asset_types ON asset_types.id = wallets.asset_type_id) ON wallets.id = ANY ($1)
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    row=_WalletRow._make,
)

_LOAD_RATES = Statement(
    "load_rates",
    """
WITH assets AS MATERIALIZED (SELECT DISTINCT asset_type_id AS id FROM wallets WHERE id = ANY ($1))
SELECT source.id, target.id, rate.numerator, rate.denominator
  FROM assets AS source
 CROSS JOIN assets AS target
 CROSS JOIN LATERAL (
       SELECT numerator, denominator FROM exchange_rates
        WHERE from_asset_id = source.id AND to_asset_id = target.id AND valid_from <= clock_timestamp()
        ORDER BY valid_from DESC, id DESC LIMIT 1
       ) AS rate
""",
    WHOLE_NUMBERS,
)

_LOAD_CONTRA = Statement(
    "load_contra",
    """
SELECT wallets.asset_type_id, array_agg(users.name) AS owners, array_agg(wallets.id) AS wallet_ids
  FROM (SELECT id, name FROM users WHERE user_type = 'SYSTEM' OFFSET 0) AS users
 -- Per owner and by index (OFFSET 0 keeps it so), whatever the statistics say: without any, a join scans all wallets.
 CROSS JOIN LATERAL (SELECT id, asset_type_id FROM wallets WHERE user_id = users.id OFFSET 0) AS wallets
 WHERE wallets.asset_type_id = ANY ($1)
 GROUP BY wallets.asset_type_id
""",
    WHOLE_NUMBERS,
)

ENTRIES_OF_TRANSACTION = """
  LEFT JOIN LATERAL (
       SELECT entry.* FROM ledger_entries AS entry
        WHERE entry.wallet_id = transactions.wallet_id AND entry.seq = transactions.seq
        UNION ALL
       SELECT entry.* FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
       -- One look-up after the other (OFFSET 0 keeps it so): a join would bring them in any order.
        CROSS JOIN LATERAL (
              SELECT * FROM ledger_entries
               WHERE wallet_id = transactions.entry_keys[place] AND seq = transactions.entry_keys[place + 1] OFFSET 0
              ) AS entry
       ) AS entries ON true
"""
"""Joins `transactions` to its entries by their primary keys alone, in the order in which they were made."""

TRANSACTION_COLUMNS = """
       transactions.wallet_id, transactions.reference_id, transactions.transaction_id, transactions.kind,
       transactions.client, transactions.actor, transactions.request_id, transactions.request, transactions.result,
       transactions.reverses, transactions.details_hash, transactions.digest, transactions.occurred_at,
       transactions.created_at,
       entries.wallet_id AS entry_wallet_id, entries.seq AS entry_seq, entries.entry_type, entries.amount,
       entries.balance_after, entries.contra_wallet_id, entries.created_at AS entry_created_at, entries.hash
"""


_LOAD_TRANSACTIONS = Statement(
    "load_transactions",
    f"""
SELECT {TRANSACTION_COLUMNS}
  FROM unnest($1, $2) AS asked (wallet_id, reference_id)
  -- By the primary key, whatever the statistics say (OFFSET 0 keeps it so): a small ledger would be read whole.
 CROSS JOIN LATERAL (
       SELECT * FROM transactions
        WHERE wallet_id = asked.wallet_id AND reference_id = asked.reference_id OFFSET 0
       ) AS transactions
  {ENTRIES_OF_TRANSACTION}
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    TEXTS,
    row=lambda columns: TransactionRow(*columns),
)

REVERSED_COLUMNS = """
       reversed_entries.wallet_id, reversed_entries.seq, reversed_entries.transaction_id,
       reversed_entries.contra_wallet_id, reversed_entries.amount, reversed_entries.reversed, reversed_entries.owed,
       reversed_entries.owed_since
"""

_OriginalRow = tuple[TransactionRow, ReversedEntry | None]


def _original_of(columns: Sequence[Any]) -> _OriginalRow:
    row, bound = columns[:22], columns[22:]
    return TransactionRow(*row), None if bound[0] is None else ReversedEntry._make(bound)


# Named by themselves, or by a lot that they granted.
_ASKED_ORIGINALS = """
  FROM (SELECT transaction_id FROM unnest($1) AS named (transaction_id)
         UNION
        SELECT entry.transaction_id
          FROM unnest($2) AS named (lot_id)
         CROSS JOIN LATERAL (SELECT wallet_id, seq FROM lots WHERE lot_id = named.lot_id OFFSET 0) AS lot
         CROSS JOIN LATERAL (
               SELECT transaction_id FROM ledger_entries WHERE wallet_id = lot.wallet_id AND seq = lot.seq OFFSET 0
               ) AS entry
       ) AS asked
"""

_LOAD_ORIGINALS = Statement(
    "load_originals",
    f"""
SELECT {TRANSACTION_COLUMNS}, {REVERSED_COLUMNS}
  {_ASKED_ORIGINALS}
 CROSS JOIN LATERAL (
       SELECT * FROM transactions WHERE transaction_id = asked.transaction_id OFFSET 0
       ) AS transactions
  {ENTRIES_OF_TRANSACTION}
  LEFT JOIN LATERAL (
       SELECT * FROM reversed_entries WHERE wallet_id = entries.wallet_id AND seq = entries.seq OFFSET 0
       ) AS reversed_entries ON true
""",  # noqa: S608 - constants
    UUIDS,
    UUIDS,
    row=_original_of,
)

_LOAD_MOVEMENTS = Statement(
    "load_lot_movements",
    f"""
SELECT {LOT_MOVEMENT_COLUMNS}
  {_ASKED_ORIGINALS}
 CROSS JOIN LATERAL (
       SELECT * FROM transactions WHERE transaction_id = asked.transaction_id OFFSET 0
       ) AS transactions
 CROSS JOIN LATERAL (
       SELECT transactions.wallet_id, transactions.seq WHERE transactions.seq IS NOT NULL
        UNION ALL
       SELECT transactions.entry_keys[place], transactions.entry_keys[place + 1]
         FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
       ) AS entry (wallet_id, seq)
 CROSS JOIN LATERAL (
       SELECT * FROM lot_movements
        WHERE wallet_id = entry.wallet_id AND seq = entry.seq AND transaction_id = asked.transaction_id
        ORDER BY place OFFSET 0
       ) AS lot_movements
""",  # noqa: S608 - constants
    UUIDS,
    UUIDS,
    row=LotMovement._make,
)

_LOAD_DEBTS = Statement(
    "load_debts",
    f"""
SELECT {REVERSED_COLUMNS}
  FROM unnest($1) AS asked (wallet_id)
 CROSS JOIN LATERAL (
       SELECT * FROM reversed_entries WHERE wallet_id = asked.wallet_id AND owed > 0 OFFSET 0
       ) AS reversed_entries
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    row=ReversedEntry._make,
)

HOLD_COLUMNS = """
       holds.wallet_id, holds.seq, holds.hold_id, holds.amount, holds.captured, holds.released, holds.expired,
       holds.state, holds.expires_at, holds.created_at, holds.ended_at, holds.changes, holds.lots
"""

# Three ways to a hold, each by an index alone: it is due; it was placed under this reference; it is named.
_LOAD_HOLDS = Statement(
    "load_holds",
    f"""
SELECT {HOLD_COLUMNS}
  FROM unnest($1) AS asked (wallet_id)
 CROSS JOIN LATERAL (
       SELECT * FROM holds
        WHERE wallet_id = asked.wallet_id AND ended_at IS NULL
          -- When a clock was set back, the wallet's last entry tells the time.
          AND expires_at <= greatest($2, clock_timestamp(),
                                     (SELECT updated_at FROM wallet_balances WHERE wallet_id = asked.wallet_id))
       OFFSET 0
       ) AS holds
 UNION ALL
SELECT {HOLD_COLUMNS}
  FROM unnest($3, $4) AS asked (wallet_id, reference_id)
 CROSS JOIN LATERAL (
       SELECT wallet_id, seq FROM transactions
        WHERE wallet_id = asked.wallet_id AND reference_id = asked.reference_id AND kind = 'HOLD' OFFSET 0
       ) AS origin
  JOIN holds ON holds.wallet_id = origin.wallet_id AND holds.seq = origin.seq
 UNION ALL
SELECT {HOLD_COLUMNS}
  FROM unnest($5) AS asked (transaction_id)
 CROSS JOIN LATERAL (
       SELECT wallet_id, seq FROM transactions
        WHERE transaction_id = asked.transaction_id AND kind = 'HOLD' OFFSET 0
       ) AS origin
  JOIN holds ON holds.wallet_id = origin.wallet_id AND holds.seq = origin.seq
""",  # noqa: S608 - constants
    WHOLE_NUMBERS,
    INSTANT,
    WHOLE_NUMBERS,
    TEXTS,
    UUIDS,
    row=hold_of,
)

_COUNT_OPEN_HOLDS = Statement(
    "count_open_holds",
    """
SELECT asked.wallet_id, found.holds
  FROM unnest($1) AS asked (wallet_id)
 CROSS JOIN LATERAL (
       SELECT count(*) AS holds FROM holds WHERE wallet_id = asked.wallet_id AND ended_at IS NULL
       ) AS found
""",
    WHOLE_NUMBERS,
)
