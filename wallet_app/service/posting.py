"""The kernel: a batch of commands becomes ledger entries and balances in one unit of work.

Lock, load, decide, write: ledger, then balance, then what follows from them. This is the only module that makes
ledger rows or assigns balances. The number of statements is the same for any batch. It never commits: the caller's unit
of work does.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, text

from wallet_app.errors import WalletServiceError
from wallet_app.parameters import BYTES, INSTANTS, TEXTS, UUIDS, WHOLE_NUMBER, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement, ask, ask_last, forget_last
from wallet_app.service import loading, locks, spending
from wallet_app.service.books import Books, Details, Entry, Hold, PostedTransaction, Receipt, ReversedEntry
from wallet_app.service.chain import GENESIS, json_text
from wallet_app.service.commands import Command
from wallet_app.service.loading import Clock, MissingBalancesError
from wallet_app.service.lots import Lot, LotKey
from wallet_app.service.rules import decide

log = structlog.get_logger("wallet")


class BalanceRow(Protocol):
    """What a row of wallet_balances says."""

    @property
    def wallet_id(self) -> int: ...
    @property
    def balance(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def chain(self) -> bytes: ...
    @property
    def updated_at(self) -> dt.datetime: ...
    @property
    def owed(self) -> int: ...
    @property
    def bonus(self) -> int: ...
    @property
    def lots(self) -> int: ...


class Deferred(Enum):
    """Not decided: one of the command's wallets is held by another posting. Nothing happened; post it again."""

    DEFERRED = "deferred"


Outcome = Receipt | Exception
"""A receipt; a WalletServiceError, which is an answer; or another exception, which is a fault of ours."""


class BatchRefusedError(Exception):
    """The command at `index` of an atomic batch is not accepted, for the reason `error`. Nothing was written."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index, error)
        self.index = index
        self.error = error


def post(
    connection: Connection,
    commands: Sequence[Command],
    *,
    waits_for: Collection[int] | None = None,
    clock: Clock | None = None,
    is_atomic: bool = False,
) -> list[Outcome | Deferred]:
    """Post the commands in order and return their outcomes in the same order; a decline touches nothing but itself.

    Unless `is_atomic`: then BatchRefusedError is raised for the first that is not accepted, and nothing is written.

    Locks every wallet of the batch; must be the first thing that its unit of work does, or come right after
    `locks.wait_for_wallets` of the same `waits_for`. It waits for all of them, or, given `waits_for`, for these alone;
    a command on another wallet that is busy is then DEFERRED, and so is each later one on any wallet of a deferred
    command: none overtakes another. What is written is sent with the COMMIT, so nothing in the unit of work sees it.
    `clock` replaces the database's for invented history. Raises MissingBalancesError, and whatever the database raises;
    then the unit of work is lost.
    """
    wallet_ids = sorted({wallet_id for command in commands for wallet_id in command.wallet_ids()})
    asked = loading.questions(wallet_ids, commands, clock)
    locked = locks.lock_wallets(connection, wallet_ids, waits_for=waits_for, then=asked)
    books, busy = loading.load_books(connection, locked.balances, commands, locked.answers, clock)
    if busy and waits_for is None:
        # Their balance rows were made after the lock looked for them: begin again, and lock them with the rest.
        raise MissingBalancesError(sorted(busy))
    outcomes: list[Outcome | Deferred] = (
        _in_turn(books, commands, busy) if busy else [answer(books, command) for command in commands]
    )
    if is_atomic:
        _require_receipts(outcomes)
    if books.posted:
        _write(connection, books, locked.slot)
    return outcomes


def take_back(connection: Connection) -> None:
    """Undo the unit of work's posting before it is written: only its locks stay. Nothing was sent yet."""
    forget_last(connection)


def heal(connection: Connection, wallet_ids: Sequence[int]) -> None:
    """Make the missing balance rows of user wallets from their last entries; with no entry, empty ones.

    Sorted, so that two that heal the same wallets cannot deadlock. Must be alone in its unit of work.
    """
    connection.execute(_HEAL, {"wallet_ids": sorted(wallet_ids), "genesis": GENESIS})


def write_balances(connection: Connection, wallets: Sequence[BalanceRow]) -> None:
    """Assign the balance rows; the caller holds their locks, and the entries that they follow are in the ledger."""
    ask(connection, _balances(wallets))


def write_lots(connection: Connection, wallet_ids: Sequence[int]) -> None:
    """Assign the wallets' lots what their movements say; the caller holds the wallets' locks. Makes no lot."""
    connection.execute(_MEND_LOTS, {"wallet_ids": list(wallet_ids)})


def add_to_system_balances(connection: Connection, deltas: Mapping[int, int]) -> None:
    """Add to SYSTEM balances in a slot. The caller holds all the locks on wallets that its unit of work needs."""
    slot, wait = locks.wait_for_slot()
    ask(connection, wait, *_system_balances(slot, deltas))


def erase_details(connection: Connection, *, wallet_id: int, after: uuid.UUID, last: uuid.UUID) -> int:
    """Erase note and metadata of the wallet's transactions behind the id `after`, up to `last`; return of how many.

    The ledger keeps their salted hash, and is as right as before. Takes no lock that a posting waits for.
    """
    return connection.execute(_ERASE_DETAILS, {"wallet_id": wallet_id, "after": after, "last": last}).rowcount


def _in_turn(books: Books, commands: Sequence[Command], busy: Collection[int]) -> list[Outcome | Deferred]:
    """Answer the commands whose turn it is: whose wallets are free, and not those of one that was deferred before."""
    outcomes: list[Outcome | Deferred] = []
    waited_for = set(busy)
    for command in commands:
        if waited_for.isdisjoint(command.wallet_ids()):
            outcomes.append(answer(books, command))
        else:
            # Its other wallets may be free, but what comes later on them has to wait behind it.
            waited_for.update(command.wallet_ids())
            outcomes.append(Deferred.DEFERRED)
    return outcomes


def answer(books: Books, command: Command) -> Outcome:
    """Return what the rules decide; a fault of ours is an outcome too, and the other commands go on."""
    try:
        return decide(books, command)
    except WalletServiceError as declined:
        return declined
    except Exception as fault:
        log.error("rule_failed", kind=command.kind, wallet_id=command.wallet_id, exc_info=fault)
        return fault


def _require_receipts(outcomes: Sequence[Outcome | Deferred]) -> None:
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            raise BatchRefusedError(index, outcome)


# --- write: transactions, entries, balances, slots ---


def _write(connection: Connection, books: Books, slot: int | None) -> None:
    posted = books.posted
    details = [_details_row(one, one.details) for one in posted if one.details is not None]
    entries = [_entry_row(one, entry) for one in posted for entry in one.entries]
    questions = [
        _INSERT_TRANSACTIONS(*zip(*[_transaction_row(one) for one in posted], strict=True)),
        *([_INSERT_DETAILS(*zip(*details, strict=True))] if details else []),
        *([_INSERT_ENTRIES(*zip(*entries, strict=True))] if entries else []),
        _balances(books.changed_wallets()),
        *([_UPSERT_HOLDS(*_columns_of_holds(books.changed_holds.values()))] if books.changed_holds else []),
        *([_reversed(books.changed_reversed.values())] if books.changed_reversed else []),
        *(_lots(books) if books.lot_movements else []),
        *([_UPDATE_STATES(*_columns_of_states(books))] if books.changed_states else []),
        *([spending.insert_raises(books)] if books.new_limits else []),
        *([spending.upsert_buckets(books)] if books.changed_hours else []),
    ]
    if slot is None:
        slot, wait = locks.wait_for_slot()
        questions.append(wait)
    ask_last(connection, *questions, *_system_balances(slot, books.contra_deltas))


def _balances(wallets: Sequence[BalanceRow]) -> Question:
    return _UPDATE_BALANCES(
        [wallet.wallet_id for wallet in wallets],
        [wallet.balance for wallet in wallets],
        [wallet.held for wallet in wallets],
        [wallet.version for wallet in wallets],
        [wallet.chain for wallet in wallets],
        [wallet.updated_at for wallet in wallets],
        [wallet.owed for wallet in wallets],
        [wallet.bonus for wallet in wallets],
        [wallet.lots for wallet in wallets],
    )


def _system_balances(slot: int, deltas: Mapping[int, int]) -> list[Question]:
    moved = {wallet_id: delta for wallet_id, delta in deltas.items() if delta}
    # As texts, because a sum of many amounts may be larger than a bigint.
    return [_ADD_TO_SYSTEM_BALANCES(slot, list(moved), [str(delta) for delta in moved.values()])] if moved else []


def _transaction_row(one: PostedTransaction) -> tuple[Any, ...]:
    has_the_one_entry = len(one.entries) == 1 and one.entries[0].wallet_id == one.wallet_id
    return (
        one.wallet_id,
        one.reference,
        one.transaction_id,
        one.kind,
        one.client,
        one.actor,
        one.request_id,
        one.entries[0].seq if has_the_one_entry else None,
        None if has_the_one_entry else _array_literal(one.entries),
        None if one.stored_request is None else json_text(one.stored_request),
        None if one.result is None else json_text(one.result),
        one.reverses,
        one.details_hash,
        one.digest,
        one.occurred_at,
        one.created_at,
    )


def _array_literal(entries: Sequence[Entry]) -> str:
    return "{" + ",".join(f"{entry.wallet_id},{entry.seq}" for entry in entries) + "}"


def _details_row(one: PostedTransaction, details: Details) -> tuple[Any, ...]:
    return one.wallet_id, one.transaction_id, details.salt, details.note, details.metadata


def _columns_of_holds(holds: Collection[Hold]) -> Iterable[Sequence[Any]]:
    rows = [(*hold[:11], _array(hold.changes), _array(_numbers(hold.lots))) for hold in holds]
    return zip(*rows, strict=True)


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _numbers(lots: Iterable[tuple[LotKey, int]]) -> Iterable[int]:
    return [number for (seq, part), amount in lots for number in (seq, part, amount)]


def _columns_of_states(books: Books) -> Iterable[Sequence[Any]]:
    changed = [books.wallets[wallet_id] for wallet_id in sorted(books.changed_states)]
    rows = [(one.wallet_id, one.status, *one.frozen, one.state_transaction_id) for one in changed]
    return zip(*rows, strict=True)


def _reversed(entries: Collection[ReversedEntry]) -> Question:
    return _UPSERT_REVERSED_ENTRIES(*zip(*entries, strict=True))


def _lots(books: Books) -> list[Question]:
    lots = [_lot_row(books.lots[wallet_id][key], before) for (wallet_id, key), before in books.changed_lots.items()]
    return [_MERGE_LOTS(*zip(*lots, strict=True)), _INSERT_LOT_MOVEMENTS(*zip(*books.lot_movements, strict=True))]


def _lot_row(lot: Lot, before: Lot | None) -> tuple[Any, ...]:
    """Return a lot with the differences of its parts: of a standing lot, not all of it may have been loaded."""
    parts = lot[5:11] if before is None else [now - was for now, was in zip(lot[5:11], before[5:11], strict=True)]
    return (*lot[:5], *parts, *lot[11:])


def _entry_row(one: PostedTransaction, entry: Entry) -> tuple[Any, ...]:
    return (
        entry.wallet_id,
        entry.seq,
        one.transaction_id,
        entry.entry_type,
        entry.amount,
        entry.balance_after,
        entry.contra_wallet_id,
        entry.created_at,
        entry.hash,
    )


_INSERT_TRANSACTIONS = Statement(
    "insert_transactions",
    """
INSERT INTO transactions (wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, entry_keys,
                          request, result, reverses, details_hash, digest, occurred_at, created_at)
SELECT wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, CAST(entry_keys AS bigint[]),
       CAST(request AS jsonb), CAST(result AS jsonb), reverses, details_hash, digest, occurred_at, created_at
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    AS posted (wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, entry_keys,
               request, result, reverses, details_hash, digest, occurred_at, created_at)
""",
    WHOLE_NUMBERS,
    TEXTS,
    UUIDS,
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
    WHOLE_NUMBERS,
    TEXTS,
    TEXTS,
    TEXTS,
    UUIDS,
    BYTES,
    BYTES,
    INSTANTS,
    INSTANTS,
)

_INSERT_DETAILS = Statement(
    "insert_details",
    """
INSERT INTO transaction_details (wallet_id, transaction_id, salt, note, metadata)
-- JSON is kept as the text that it was sent as, since that is hashed.
SELECT wallet_id, transaction_id, salt, note, CAST(metadata AS json)
  FROM unnest($1, $2, $3, $4, $5) AS posted (wallet_id, transaction_id, salt, note, metadata)
""",
    WHOLE_NUMBERS,
    UUIDS,
    BYTES,
    TEXTS,
    TEXTS,
)

_INSERT_ENTRIES = Statement(
    "insert_entries",
    """
INSERT INTO ledger_entries (wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id,
                            created_at, hash)
SELECT wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id, created_at, hash
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
    AS posted (wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id, created_at, hash)
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    TEXTS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANTS,
    BYTES,
)

_UPDATE_BALANCES = Statement(
    "update_balances",
    """
UPDATE wallet_balances
   SET balance = posted.balance, held = posted.held, version = posted.version, chain = posted.chain,
       updated_at = posted.updated_at, owed = posted.owed, bonus = posted.bonus, lots = posted.lots
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
    AS posted (wallet_id, balance, held, version, chain, updated_at, owed, bonus, lots)
 WHERE wallet_balances.wallet_id = posted.wallet_id
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    BYTES,
    INSTANTS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
)

_UPSERT_HOLDS = Statement(
    "upsert_holds",
    """
INSERT INTO holds (wallet_id, seq, hold_id, amount, captured, released, expired, state, expires_at, created_at,
                   ended_at, changes, lots)
SELECT wallet_id, seq, hold_id, amount, captured, released, expired, state, expires_at, created_at, ended_at,
       CAST(changes AS bigint[]), CAST(lots AS bigint[])
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    AS posted (wallet_id, seq, hold_id, amount, captured, released, expired, state, expires_at, created_at, ended_at,
               changes, lots)
ON CONFLICT (wallet_id, seq) DO UPDATE
   SET captured = excluded.captured, released = excluded.released, expired = excluded.expired, state = excluded.state,
       ended_at = excluded.ended_at, changes = excluded.changes, lots = excluded.lots
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    TEXTS,
    INSTANTS,
    INSTANTS,
    INSTANTS,
    TEXTS,
    TEXTS,
)

# Whoever changes how a wallet stands holds the lock on its balance row; so nobody waits for these rows.
_UPDATE_STATES = Statement(
    "update_states",
    """
UPDATE wallets
   SET status = changed.status, debits_frozen_until = changed.debits_frozen_until,
       credits_frozen_until = changed.credits_frozen_until, state_transaction_id = changed.state_transaction_id
  FROM unnest($1, $2, $3, $4, $5)
    AS changed (wallet_id, status, debits_frozen_until, credits_frozen_until, state_transaction_id)
 WHERE wallets.id = changed.wallet_id
""",
    WHOLE_NUMBERS,
    TEXTS,
    INSTANTS,
    INSTANTS,
    UUIDS,
)

_UPSERT_REVERSED_ENTRIES = Statement(
    "upsert_reversed_entries",
    """
INSERT INTO reversed_entries (wallet_id, seq, transaction_id, contra_wallet_id, amount, reversed, owed, owed_since)
SELECT wallet_id, seq, transaction_id, contra_wallet_id, amount, reversed, owed, owed_since
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
    AS posted (wallet_id, seq, transaction_id, contra_wallet_id, amount, reversed, owed, owed_since)
ON CONFLICT (wallet_id, seq) DO UPDATE
   SET reversed = excluded.reversed, owed = excluded.owed, owed_since = excluded.owed_since
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANTS,
)

# No two postings can make the same lot: each has its wallet's lock.
_MERGE_LOTS = Statement(
    "merge_lots",
    """
MERGE INTO lots
USING (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
           AS posted (wallet_id, seq, part, lot_id, kind, amount, available, held, consumed, expired, revoked,
                      expires_at, created_at, changed_at)) AS posted
   ON lots.wallet_id = posted.wallet_id AND lots.seq = posted.seq AND lots.part = posted.part
 WHEN MATCHED THEN UPDATE
  SET amount = lots.amount + posted.amount, available = lots.available + posted.available,
      held = lots.held + posted.held, consumed = lots.consumed + posted.consumed,
      expired = lots.expired + posted.expired, revoked = lots.revoked + posted.revoked,
      expires_at = posted.expires_at, changed_at = posted.changed_at
 WHEN NOT MATCHED THEN INSERT (wallet_id, seq, part, lot_id, kind, amount, available, held, consumed, expired, revoked,
                               expires_at, created_at, changed_at)
VALUES (posted.wallet_id, posted.seq, posted.part, posted.lot_id, posted.kind, posted.amount, posted.available,
        posted.held, posted.consumed, posted.expired, posted.revoked, posted.expires_at, posted.created_at,
        posted.changed_at)
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    TEXTS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    INSTANTS,
    INSTANTS,
    INSTANTS,
)

_INSERT_LOT_MOVEMENTS = Statement(
    "insert_lot_movements",
    """
INSERT INTO lot_movements (wallet_id, seq, transaction_id, place, lot_seq, lot_part, kind, amount, expires_at,
                           created_at)
SELECT wallet_id, seq, transaction_id, place, lot_seq, lot_part, kind, amount, expires_at, created_at
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    AS posted (wallet_id, seq, transaction_id, place, lot_seq, lot_part, kind, amount, expires_at, created_at)
""",
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    UUIDS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    WHOLE_NUMBERS,
    TEXTS,
    WHOLE_NUMBERS,
    INSTANTS,
    INSTANTS,
)

_ADD_TO_SYSTEM_BALANCES = Statement(
    "add_to_system_balances",
    """
INSERT INTO system_balances (wallet_id, slot, balance)
SELECT wallet_id, CAST($1 AS smallint), CAST(delta AS numeric)
  FROM unnest($2, $3) AS posted (wallet_id, delta)
ON CONFLICT (wallet_id, slot) DO UPDATE SET balance = system_balances.balance + excluded.balance
""",
    WHOLE_NUMBER,
    WHOLE_NUMBERS,
    TEXTS,
)

_ERASE_DETAILS = text("""
DELETE FROM transaction_details
 WHERE wallet_id = :wallet_id AND transaction_id > :after AND transaction_id <= :last
""")

LEDGER_SAYS = """
SELECT wallets.id AS wallet_id, coalesce(last.balance_after, 0) AS balance, coalesce(holds.held, 0) AS held,
       coalesce(last.seq, 0) AS version, coalesce(last.hash, :genesis) AS chain,
       coalesce(last.created_at, wallets.created_at) AS updated_at, debts.owed, granted.bonus, granted.lots
  FROM wallets
  JOIN users ON users.id = wallets.user_id AND users.user_type = 'USER'
  LEFT JOIN LATERAL (
       SELECT balance_after, seq, hash, created_at FROM ledger_entries
        WHERE wallet_id = wallets.id ORDER BY seq DESC LIMIT 1
       ) AS last ON true
  LEFT JOIN LATERAL (
       SELECT CAST(-sum(amount) AS bigint) AS held FROM ledger_entries
        WHERE wallet_id = wallets.id
          AND contra_wallet_id IN (SELECT held.id FROM wallets AS held JOIN users ON users.id = held.user_id
                                    WHERE users.user_type = 'SYSTEM' AND users.name = 'Holds')
       ) AS holds ON true
 CROSS JOIN LATERAL (
       SELECT CAST(coalesce(sum(owed), 0) AS bigint) AS owed FROM reversed_entries
        WHERE wallet_id = wallets.id AND owed > 0
       ) AS debts
 CROSS JOIN LATERAL (
       SELECT CAST(coalesce(sum(available) FILTER (WHERE kind = 'bonus'), 0) AS bigint) AS bonus,
              CAST(count(*) FILTER (WHERE held > 0 OR (seq > 0 AND available > 0)) AS integer) AS lots
         FROM lots WHERE wallet_id = wallets.id
       ) AS granted
 WHERE wallets.id = ANY (CAST(:wallet_ids AS bigint[]))
 ORDER BY wallets.id
"""
"""Selects what the ledger says that the rows of wallet_balances should be, for user wallets among `wallet_ids`."""

_HEAL = text(f"""
INSERT INTO wallet_balances (wallet_id, balance, held, version, chain, updated_at, owed, bonus, lots)
{LEDGER_SAYS}
ON CONFLICT (wallet_id) DO NOTHING
""")

LOTS_SAY = """
SELECT wallet_id, lot_seq AS seq, lot_part AS part, CAST(sum(amount) FILTER (WHERE kind = 'grant') AS bigint) AS amount,
       CAST(sum(CASE WHEN kind IN ('grant', 'release', 'restore') THEN amount WHEN kind = 'extend' THEN 0
                     ELSE -amount END) AS bigint) AS available,
       CAST(coalesce(sum(CASE kind WHEN 'hold' THEN amount WHEN 'release' THEN -amount END), 0) AS bigint) AS held,
       CAST(coalesce(sum(CASE kind WHEN 'consume' THEN amount WHEN 'restore' THEN -amount END), 0) AS bigint)
           AS consumed,
       CAST(coalesce(sum(amount) FILTER (WHERE kind = 'expire'), 0) AS bigint) AS expired,
       CAST(coalesce(sum(amount) FILTER (WHERE kind = 'revoke'), 0) AS bigint) AS revoked,
       max(expires_at) AS expires_at, min(created_at) AS created_at, max(created_at) AS changed_at
  FROM lot_movements
 WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[]))
 GROUP BY wallet_id, lot_seq, lot_part
"""
"""Selects what their movements say that the rows of lots should be, for wallets among `wallet_ids`."""

_MEND_LOTS = text(f"""
UPDATE lots
   SET amount = said.amount, available = said.available, held = said.held, consumed = said.consumed,
       expired = said.expired, revoked = said.revoked, expires_at = said.expires_at, created_at = said.created_at,
       changed_at = said.changed_at
  FROM ({LOTS_SAY}) AS said
 WHERE lots.wallet_id = said.wallet_id AND lots.seq = said.seq AND lots.part = said.part
""")  # noqa: S608 - constants
