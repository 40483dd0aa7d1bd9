"""The kernel: a batch of commands becomes ledger entries and balances in one unit of work.

Lock, load, decide, write: ledger, then balance. This is the only module that makes ledger rows or assigns balances.
The number of statements is the same for every size of batch. It never commits: the caller's unit of work does.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson
import structlog
from sqlalchemy import Connection, Row, text
from uuid_utils import uuid7

from wallet_app.errors import WalletServiceError
from wallet_app.service import locks
from wallet_app.service.books import Asset, Books, Entry, PostedTransaction, Receipt, WalletState
from wallet_app.service.chain import GENESIS
from wallet_app.service.commands import Command
from wallet_app.service.rules import decide

log = structlog.get_logger("wallet")

Outcome = Receipt | Exception
"""A receipt; a WalletServiceError, which is an answer; or another exception, which is a fault of ours."""

Clock = Callable[[], dt.datetime]


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


class MissingBalancesError(Exception):
    """User wallets have no balance row; `heal` makes them, then the batch can be posted. Nothing was written."""

    def __init__(self, wallet_ids: Sequence[int]) -> None:
        super().__init__(wallet_ids)
        self.wallet_ids = wallet_ids


def post(connection: Connection, commands: Sequence[Command], *, clock: Clock | None = None) -> list[Outcome]:
    """Post the commands in order and return their outcomes in the same order; a decline touches nothing but itself.

    Locks every wallet of the batch; must be the first thing that its unit of work does. `clock` replaces the database's
    for invented history. Raises MissingBalancesError, and whatever the database raises; then the unit of work is lost.
    """
    wallet_ids = sorted({wallet_id for command in commands for wallet_id in command.wallet_ids()})
    locked = locks.lock_wallets(connection, wallet_ids)
    books = _load(connection, wallet_ids, locked, commands, clock)
    outcomes = [_decide(books, command) for command in commands]
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


def _decide(books: Books, command: Command) -> Outcome:
    try:
        return decide(books, command)
    except WalletServiceError as declined:
        return declined
    except Exception as fault:
        log.error("rule_failed", kind=command.kind, wallet_id=command.wallet_id, exc_info=fault)
        return fault


# --- load: new statements after the lock, so that they see what was committed while it was waited for ---


def _load(
    connection: Connection,
    wallet_ids: list[int],
    locked: Sequence[Row[int, int, int, int, bytes, dt.datetime]],
    commands: Sequence[Command],
    clock: Clock | None,
) -> Books:
    rows = connection.execute(_LOAD_WALLETS, {"wallet_ids": wallet_ids}).all()
    now: dt.datetime = rows[0].now
    user_wallets = {row.id: row for row in rows if row.user_type == "USER"}
    balances = {row.wallet_id: row for row in locked}
    if missing := user_wallets.keys() - balances.keys():
        raise MissingBalancesError(sorted(missing))
    assets = _load_assets(connection)
    return Books(
        wallets={wallet_id: _wallet_state(row, balances[wallet_id], assets) for wallet_id, row in user_wallets.items()},
        system_wallets=frozenset(row.id for row in rows if row.user_type == "SYSTEM"),
        transactions=load_transactions(connection, {(command.wallet_id, command.reference) for command in commands}),
        clock=clock or (lambda: now),
        new_id=_new_id,
        new_salt=lambda: os.urandom(16),
    )


def _wallet_state(
    row: Row[Any], balance: Row[int, int, int, int, bytes, dt.datetime], assets: dict[int, Asset]
) -> WalletState:
    return WalletState(
        wallet_id=row.id,
        user_id=row.user_id,
        asset=assets[row.asset_type_id],
        status=row.status,
        balance=balance.balance,
        held=balance.held,
        version=balance.version,
        chain=balance.chain,
        updated_at=balance.updated_at,
    )


def _load_assets(connection: Connection) -> dict[int, Asset]:
    return {
        row.id: Asset(row.id, row.code, row.name, row.scale, dict(zip(row.owners, row.wallet_ids, strict=True)))
        for row in connection.execute(_LOAD_ASSETS)
    }


def load_transactions(
    connection: Connection, keys: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], PostedTransaction]:
    """Return the transactions that carry one of the (wallet, reference) pairs, with their entries."""
    pairs = sorted(keys)
    rows = connection.execute(
        _LOAD_TRANSACTIONS,
        {"wallet_id": [pair[0] for pair in pairs], "reference_id": [pair[1] for pair in pairs]},
    ).all()
    found: dict[tuple[int, str], list[Row[Any]]] = {}
    for row in rows:
        found.setdefault((row.wallet_id, row.reference_id), []).append(row)
    return {key: posted_transaction(group) for key, group in found.items()}


def posted_transaction(rows: Sequence[Row[Any]]) -> PostedTransaction:
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
        reverses=row.reverses,
        details=None,
        details_hash=row.details_hash,
        digest=row.digest,
        occurred_at=row.occurred_at,
        created_at=row.created_at,
        entries=entries,
    )


def _entry(row: Row[Any]) -> Entry:
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


_LOAD_WALLETS = text("""
SELECT clock.now, wallets.id, wallets.user_id, wallets.asset_type_id, wallets.status, users.user_type
  FROM (SELECT clock_timestamp() AS now) AS clock
  LEFT JOIN (wallets JOIN users ON users.id = wallets.user_id) ON wallets.id = ANY (CAST(:wallet_ids AS bigint[]))
""")

_LOAD_ASSETS = text("""
SELECT asset_types.id, asset_types.code, asset_types.name, asset_types.scale,
       array_agg(users.name) AS owners, array_agg(wallets.id) AS wallet_ids
  FROM users
  JOIN wallets ON wallets.user_id = users.id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE users.user_type = 'SYSTEM'
 GROUP BY asset_types.id
""")

ENTRIES_OF_TRANSACTION = """
  LEFT JOIN LATERAL (
       SELECT entry.* FROM ledger_entries AS entry
        WHERE entry.wallet_id = transactions.wallet_id AND entry.seq = transactions.seq
        UNION ALL
       SELECT entry.* FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
         JOIN ledger_entries AS entry ON entry.wallet_id = transactions.entry_keys[place]
                                     AND entry.seq = transactions.entry_keys[place + 1]
       ) AS entries ON true
"""
"""Joins `transactions` to its entries by their primary keys alone, in the order in which they were made."""

TRANSACTION_COLUMNS = """
       transactions.wallet_id, transactions.reference_id, transactions.transaction_id, transactions.kind,
       transactions.client, transactions.actor, transactions.request_id, transactions.request, transactions.reverses,
       transactions.details_hash, transactions.digest, transactions.occurred_at, transactions.created_at,
       entries.wallet_id AS entry_wallet_id, entries.seq AS entry_seq, entries.entry_type, entries.amount,
       entries.balance_after, entries.contra_wallet_id, entries.created_at AS entry_created_at, entries.hash
"""

_LOAD_TRANSACTIONS = text(f"""
SELECT {TRANSACTION_COLUMNS}
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:reference_id AS text[])) AS asked (wallet_id, reference_id)
  JOIN transactions USING (wallet_id, reference_id)
  {ENTRIES_OF_TRANSACTION}
""")  # noqa: S608 - constants

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
