"""The kernel: a batch of commands becomes ledger entries and balances in one unit of work.

Lock, load, decide, write: ledger, then balance. This is the only module that makes ledger rows or assigns balances.
The number of statements is the same for every size of batch. It never commits: the caller's unit of work does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any, Protocol

import psycopg
import structlog
from psycopg.rows import TupleRow
from sqlalchemy import Connection, text

from wallet_app.db import direct
from wallet_app.errors import WalletServiceError
from wallet_app.service import locks
from wallet_app.service.books import Books, Details, Entry, PostedTransaction, Receipt
from wallet_app.service.chain import GENESIS
from wallet_app.service.commands import Command
from wallet_app.service.loading import Clock, MissingBalancesError, load_books
from wallet_app.service.rules import decide

log = structlog.get_logger("wallet")


Driver = psycopg.Connection[TupleRow]
"""The driver's connection, within the unit of work."""


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

    Locks every wallet of the batch; must be the first thing that its unit of work does. It waits for all of them, or,
    given `waits_for`, for these alone; a command on another wallet that is busy is then DEFERRED. `clock` replaces the
    database's for invented history. Raises MissingBalancesError, and whatever the database raises; then the unit of
    work is lost.
    """
    wallet_ids = sorted({wallet_id for command in commands for wallet_id in command.wallet_ids()})
    locked = locks.lock_wallets(connection, wallet_ids, waits_for=waits_for)
    # The slot is asked for here because it costs no round trip of its own.
    with direct(connection) as driver, driver.pipeline():
        slot = locks.ask_for_slot(driver)
        books, busy = load_books(connection, wallet_ids, locked, commands, clock)
    if busy and waits_for is None:
        # Their balance rows were made after the lock looked for them: begin again, and lock them with the rest.
        raise MissingBalancesError(sorted(busy))
    outcomes = [
        Deferred.DEFERRED if busy and not busy.isdisjoint(command.wallet_ids()) else answer(books, command)
        for command in commands
    ]
    if is_atomic:
        _require_receipts(outcomes)
    if books.posted:
        _write(connection, books, slot)
    return outcomes


def heal(connection: Connection, wallet_ids: Sequence[int]) -> None:
    """Make the missing balance rows of user wallets from their last entries; with no entry, empty ones.

    Sorted, so that two that heal the same wallets cannot deadlock. Must be alone in its unit of work.
    """
    connection.execute(_HEAL, {"wallet_ids": sorted(wallet_ids), "genesis": GENESIS})


def write_balances(driver: Driver, wallets: Sequence[BalanceRow]) -> None:
    """Assign the balance rows; the caller holds their locks and has written, or read, the entries they follow."""
    driver.execute(
        _UPDATE_BALANCES,
        {
            "wallet_id": [wallet.wallet_id for wallet in wallets],
            "balance": [wallet.balance for wallet in wallets],
            "held": [wallet.held for wallet in wallets],
            "version": [wallet.version for wallet in wallets],
            "chain": [wallet.chain for wallet in wallets],
            "updated_at": [wallet.updated_at for wallet in wallets],
        },
    )


def add_to_system_balances(driver: Driver, slot: int, deltas: dict[int, int]) -> None:
    """Add to SYSTEM balances in a slot that is this unit of work's alone."""
    moved = {wallet_id: delta for wallet_id, delta in deltas.items() if delta}
    if moved:
        driver.execute(_ADD_TO_SYSTEM_BALANCES, {"slot": slot, "wallet_id": list(moved), "delta": list(moved.values())})


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


def _write(connection: Connection, books: Books, slot: psycopg.Cursor[TupleRow]) -> None:
    posted = books.posted
    with direct(connection) as driver:
        _copy(driver, _COPY_TRANSACTIONS, [_transaction_row(one) for one in posted])
        _copy(driver, _COPY_DETAILS, [_details_row(one, one.details) for one in posted if one.details is not None])
        _copy(driver, _COPY_ENTRIES, [_entry_row(one, entry) for one in posted for entry in one.entries])
        with driver.pipeline():
            write_balances(driver, books.changed_wallets())
            add_to_system_balances(driver, locks.take_slot(driver, slot), books.contra_deltas)


def _copy(driver: Driver, into: _Copy, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    with driver.cursor() as cursor, cursor.copy(into.statement) as copy:
        copy.set_types(into.types)
        for row in rows:
            copy.write_row(row)


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
        None if has_the_one_entry else [key for entry in one.entries for key in (entry.wallet_id, entry.seq)],
        one.stored_request,
        one.reverses,
        one.details_hash,
        one.digest,
        one.occurred_at,
        one.created_at,
    )


def _details_row(one: PostedTransaction, details: Details) -> tuple[Any, ...]:
    return one.wallet_id, one.transaction_id, details.salt, details.note, details.metadata


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


class _Copy:
    """A COPY into a table, in binary: cheaper than an INSERT of the same rows, in the database and here."""

    def __init__(self, table: str, **columns: str) -> None:
        self.statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        self.types = [psycopg.adapters.types.get_oid(kind) for kind in columns.values()]


_COPY_TRANSACTIONS = _Copy(
    "transactions",
    wallet_id="int8",
    reference_id="text",
    transaction_id="uuid",
    kind="text",
    client="text",
    actor="text",
    request_id="text",
    seq="int8",
    entry_keys="int8[]",
    request="jsonb",
    reverses="uuid",
    details_hash="bytea",
    digest="bytea",
    occurred_at="timestamptz",
    created_at="timestamptz",
)

_COPY_DETAILS = _Copy(
    "transaction_details",
    wallet_id="int8",
    transaction_id="uuid",
    salt="bytea",
    note="text",
    # JSON, which goes over the wire as its text: as it stands, since it is hashed.
    metadata="text",
)

_COPY_ENTRIES = _Copy(
    "ledger_entries",
    wallet_id="int8",
    seq="int8",
    transaction_id="uuid",
    entry_type="text",
    amount="int8",
    balance_after="int8",
    contra_wallet_id="int8",
    created_at="timestamptz",
    hash="bytea",
)

_UPDATE_BALANCES = """
UPDATE wallet_balances
   SET balance = posted.balance, held = posted.held, version = posted.version, chain = posted.chain,
       updated_at = posted.updated_at
  FROM unnest(CAST(%(wallet_id)s AS bigint[]), CAST(%(balance)s AS bigint[]), CAST(%(held)s AS bigint[]),
              CAST(%(version)s AS bigint[]), CAST(%(chain)s AS bytea[]), CAST(%(updated_at)s AS timestamptz[]))
    AS posted (wallet_id, balance, held, version, chain, updated_at)
 WHERE wallet_balances.wallet_id = posted.wallet_id
"""

_ADD_TO_SYSTEM_BALANCES = """
INSERT INTO system_balances (wallet_id, slot, balance)
SELECT wallet_id, CAST(%(slot)s AS smallint), delta
  FROM unnest(CAST(%(wallet_id)s AS bigint[]), CAST(%(delta)s AS numeric[])) AS posted (wallet_id, delta)
ON CONFLICT (wallet_id, slot) DO UPDATE SET balance = system_balances.balance + excluded.balance
"""

LEDGER_SAYS = """
SELECT wallets.id AS wallet_id, coalesce(last.balance_after, 0) AS balance, coalesce(holds.held, 0) AS held,
       coalesce(last.seq, 0) AS version, coalesce(last.hash, :genesis) AS chain,
       coalesce(last.created_at, wallets.created_at) AS updated_at
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
 WHERE wallets.id = ANY (CAST(:wallet_ids AS bigint[]))
 ORDER BY wallets.id
"""
"""Selects what the ledger says that the rows of wallet_balances should be, for user wallets among `wallet_ids`."""

_HEAL = text(f"""
INSERT INTO wallet_balances (wallet_id, balance, held, version, chain, updated_at)
{LEDGER_SAYS}
ON CONFLICT (wallet_id) DO NOTHING
""")
