"""The kernel: a batch of commands becomes ledger entries and balances in one unit of work.

Lock, load, decide, write: ledger, then balance. This is the only module that makes ledger rows or assigns balances.
The number of statements is the same for every size of batch. It never commits: the caller's unit of work does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any, Protocol

import orjson
import structlog
from sqlalchemy import Connection, text

from wallet_app.errors import WalletServiceError
from wallet_app.service import locks
from wallet_app.service.books import Books, PostedTransaction, Receipt
from wallet_app.service.chain import GENESIS
from wallet_app.service.commands import Command
from wallet_app.service.loading import Clock, MissingBalancesError, load_books
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
        _write(connection, books)
    return outcomes


def heal(connection: Connection, wallet_ids: Sequence[int]) -> None:
    """Make the missing balance rows of user wallets from their last entries; with no entry, empty ones.

    Sorted, so that two that heal the same wallets cannot deadlock. Must be alone in its unit of work.
    """
    connection.execute(_HEAL, {"wallet_ids": sorted(wallet_ids), "genesis": GENESIS})


def write_balances(connection: Connection, wallets: Sequence[BalanceRow]) -> None:
    """Assign the balance rows; the caller holds their locks and has written, or read, the entries they follow."""
    connection.execute(
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


def _write(connection: Connection, books: Books) -> None:
    _insert_transactions(connection, books.posted)
    _insert_details(connection, books.posted)
    _insert_entries(connection, books.posted)
    write_balances(connection, books.changed_wallets())
    add_to_system_balances(connection, books.contra_deltas)


def _insert_transactions(connection: Connection, posted: list[PostedTransaction]) -> None:
    connection.execute(
        _INSERT_TRANSACTIONS,
        {
            "wallet_id": [one.wallet_id for one in posted],
            "reference_id": [one.reference for one in posted],
            "transaction_id": [one.transaction_id for one in posted],
            "kind": [one.kind for one in posted],
            "client": [one.client for one in posted],
            "actor": [one.actor for one in posted],
            "request_id": [one.request_id for one in posted],
            "seq": [one.entries[0].seq if _has_the_one_entry(one) else None for one in posted],
            "entry_keys": [None if _has_the_one_entry(one) else _entry_keys(one) for one in posted],
            "request": [_json(one.stored_request) for one in posted],
            "reverses": [one.reverses for one in posted],
            "details_hash": [one.details_hash for one in posted],
            "digest": [one.digest for one in posted],
            "occurred_at": [one.occurred_at for one in posted],
            "created_at": [one.created_at for one in posted],
        },
    )


def _has_the_one_entry(transaction: PostedTransaction) -> bool:
    return len(transaction.entries) == 1 and transaction.entries[0].wallet_id == transaction.wallet_id


def _entry_keys(transaction: PostedTransaction) -> str:
    """Return the keys as a PostgreSQL array literal: unnest could not take apart arrays of different lengths."""
    return "{" + ",".join(f"{entry.wallet_id},{entry.seq}" for entry in transaction.entries) + "}"


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _insert_details(connection: Connection, posted: list[PostedTransaction]) -> None:
    with_details = [(one, one.details) for one in posted if one.details is not None]
    if not with_details:
        return
    connection.execute(
        _INSERT_DETAILS,
        {
            "wallet_id": [one.wallet_id for one, _ in with_details],
            "transaction_id": [one.transaction_id for one, _ in with_details],
            "salt": [details.salt for _, details in with_details],
            "note": [details.note for _, details in with_details],
            "metadata": [details.metadata for _, details in with_details],
        },
    )


def _insert_entries(connection: Connection, posted: list[PostedTransaction]) -> None:
    rows = [(one.transaction_id, entry) for one in posted for entry in one.entries]
    if not rows:
        return
    connection.execute(
        _INSERT_ENTRIES,
        {
            "wallet_id": [entry.wallet_id for _, entry in rows],
            "seq": [entry.seq for _, entry in rows],
            "transaction_id": [transaction_id for transaction_id, _ in rows],
            "entry_type": [entry.entry_type for _, entry in rows],
            "amount": [entry.amount for _, entry in rows],
            "balance_after": [entry.balance_after for _, entry in rows],
            "contra_wallet_id": [entry.contra_wallet_id for _, entry in rows],
            "created_at": [entry.created_at for _, entry in rows],
            "hash": [entry.hash for _, entry in rows],
        },
    )


def add_to_system_balances(connection: Connection, deltas: dict[int, int]) -> None:
    """Add to SYSTEM balances in a slot that is this unit of work's alone; all its wallet locks must be held already."""
    moved = {wallet_id: delta for wallet_id, delta in deltas.items() if delta}
    if not moved:
        return
    connection.execute(
        _ADD_TO_SYSTEM_BALANCES,
        {"slot": locks.take_slot(connection), "wallet_id": list(moved), "delta": list(moved.values())},
    )


_INSERT_TRANSACTIONS = text("""
INSERT INTO transactions (
       wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, entry_keys, request, reverses,
       details_hash, digest, occurred_at, created_at)
SELECT wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, entry_keys::bigint[],
       request::jsonb, reverses, details_hash, digest, occurred_at, created_at
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:reference_id AS text[]), CAST(:transaction_id AS uuid[]),
              CAST(:kind AS text[]), CAST(:client AS text[]), CAST(:actor AS text[]), CAST(:request_id AS text[]),
              CAST(:seq AS bigint[]), CAST(:entry_keys AS text[]), CAST(:request AS text[]),
              CAST(:reverses AS uuid[]), CAST(:details_hash AS bytea[]), CAST(:digest AS bytea[]),
              CAST(:occurred_at AS timestamptz[]), CAST(:created_at AS timestamptz[]))
    AS posted (wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, entry_keys, request,
               reverses, details_hash, digest, occurred_at, created_at)
""")

_INSERT_DETAILS = text("""
INSERT INTO transaction_details (wallet_id, transaction_id, salt, note, metadata)
SELECT wallet_id, transaction_id, salt, note, metadata::json
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:transaction_id AS uuid[]), CAST(:salt AS bytea[]),
              CAST(:note AS text[]), CAST(:metadata AS text[]))
    AS posted (wallet_id, transaction_id, salt, note, metadata)
""")

_INSERT_ENTRIES = text("""
INSERT INTO ledger_entries (
       wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id, created_at, hash)
SELECT * FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:seq AS bigint[]), CAST(:transaction_id AS uuid[]),
              CAST(:entry_type AS text[]), CAST(:amount AS bigint[]), CAST(:balance_after AS bigint[]),
              CAST(:contra_wallet_id AS bigint[]), CAST(:created_at AS timestamptz[]), CAST(:hash AS bytea[]))
""")

_UPDATE_BALANCES = text("""
UPDATE wallet_balances
   SET balance = posted.balance, held = posted.held, version = posted.version, chain = posted.chain,
       updated_at = posted.updated_at
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:balance AS bigint[]), CAST(:held AS bigint[]),
              CAST(:version AS bigint[]), CAST(:chain AS bytea[]), CAST(:updated_at AS timestamptz[]))
    AS posted (wallet_id, balance, held, version, chain, updated_at)
 WHERE wallet_balances.wallet_id = posted.wallet_id
""")

_ADD_TO_SYSTEM_BALANCES = text("""
INSERT INTO system_balances (wallet_id, slot, balance)
SELECT wallet_id, CAST(:slot AS smallint), delta
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:delta AS numeric[])) AS posted (wallet_id, delta)
ON CONFLICT (wallet_id, slot) DO UPDATE SET balance = system_balances.balance + excluded.balance
""")

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
