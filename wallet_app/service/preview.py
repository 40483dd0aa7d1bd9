"""Preview: what commands would do, by the rules that post them; nothing is locked or written, no reference burnt.

It stays on one state of the database however many chunks it is asked about, and what an earlier command would do counts
for the later ones. What it must remember for that it keeps in a private SQLite database, which moves to a temporary
file as it grows: memory stays bounded for millions of commands.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager

import orjson
from sqlalchemy import Connection, text

from wallet_app.db import snapshot, take_time
from wallet_app.round_trip import ask
from wallet_app.service.books import Books, Entry, Frozen, Hold, PostedTransaction, ReversedEntry, WalletState
from wallet_app.service.chain import GENESIS
from wallet_app.service.commands import Command
from wallet_app.service.in_place import InPlace
from wallet_app.service.loading import load_books, questions
from wallet_app.service.locks import LockedBalance
from wallet_app.service.lots import Lot
from wallet_app.service.posting import LEDGER_SAYS, Outcome, answer

NO_TRANSACTION = uuid.UUID(int=0)
"""The id of every transaction that only would be made: it has none yet."""


@contextmanager
def previewing(*, is_long: bool = True) -> Iterator[Preview]:
    """Yield a Preview of the database as it is now. It holds a connection and a snapshot, so let it end soon.

    Unless it `is_long`, the session's own timeouts bound it.
    """
    with snapshot() as connection, closing(sqlite3.connect("")) as memory:
        # Its caller reads a file and writes results between two chunks, and whoever waits here holds no lock. The price
        # of a long preview is that vacuum keeps the dead rows that its snapshot still sees.
        if is_long:
            take_time(connection, _STATEMENT_SECONDS_MAX)
        now: dt.datetime = connection.execute(_STAY if is_long else _NOW).scalar_one()
        memory.executescript(_MEMORY)
        yield Preview(connection, memory, now)


class Preview:
    """Answers chunks of commands one after the other, as if each had been posted. Made by `previewing`."""

    def __init__(self, connection: Connection, memory: sqlite3.Connection, now: dt.datetime) -> None:
        self._connection = connection
        self._memory = memory
        self._now = now

    @property
    def connection(self) -> Connection:
        """The snapshot, for what else is to be read of the same state."""
        return self._connection

    def preview_alone(self, command: Command) -> Outcome:
        """Return what would come of the command by itself; what it would do does not count for the next one."""
        books = self._books([command], whole=())
        return answer(books, command)

    def preview(self, commands: Sequence[Command]) -> list[Outcome]:
        """Return what would come of the commands, in order, after all those that were asked about before.

        The outcomes are those of `execute_batch`, but for what only a posting gives: the transaction's id, its time and
        its hashes.
        """
        books = self._books(commands, whole=self._touched(commands))
        open_before = Counter(books.open_holds)
        self._recall(books, commands)
        outcomes = [answer(books, command) for command in commands]
        self._remember(books, open_before)
        return outcomes

    def _touched(self, commands: Sequence[Command]) -> list[int]:
        """Return the wallets of which earlier chunks changed lots: what is next for the database is not so here."""
        wallet_ids = {wallet_id for command in commands for wallet_id in command.wallet_ids()}
        return [one for one in wallet_ids if self._memory.execute(_RECALL_LOTS, (one,)).fetchone()]

    def _books(self, commands: Sequence[Command], *, whole: Collection[int]) -> Books:
        wallet_ids = sorted({wallet_id for command in commands for wallet_id in command.wallet_ids()})
        books = look_at(self._connection, wallet_ids, commands, whole=whole)
        books.clock = lambda: self._now
        books.new_id = lambda _: NO_TRANSACTION
        books.new_salt = lambda: bytes(16)
        return books

    def _recall(self, books: Books, commands: Sequence[Command]) -> None:
        """Bring the books to where the earlier chunks left them."""
        for wallet in list(books.wallets.values()):
            if found := self._memory.execute(_RECALL_WALLET, (wallet.wallet_id,)).fetchone():
                balance, held, version, owed, bonus, lots = found
                books.wallets[wallet.wallet_id] = wallet._replace(
                    balance=balance, held=held, version=version, owed=owed, bonus=bonus, lots=lots
                )
            for (remembered,) in self._memory.execute(_RECALL_LOTS, (wallet.wallet_id,)).fetchall():
                lot = _lot(remembered)
                books.lots.setdefault(lot.wallet_id, {})[lot.key] = lot
            if found := self._memory.execute(_RECALL_STATE, (wallet.wallet_id,)).fetchone():
                books.wallets[wallet.wallet_id] = _in_state(books.wallets[wallet.wallet_id], found[0])
        for key in {(command.wallet_id, command.reference) for command in commands}:
            if found := self._memory.execute(_RECALL_TRANSACTION, key).fetchone():
                books.transactions[key] = self._transaction(*key, *found)
        self._recall_holds(books)
        self._recall_reversed(books)
        for wallet_id, hours in books.spent.items():
            found = self._memory.execute(_RECALL_SPENT, (wallet_id,)).fetchall()
            hours.update({dt.datetime.fromisoformat(hour): int(amount) for hour, amount in found})

    def _recall_holds(self, books: Books) -> None:
        """Bring the holds that are loaded to where they were left, and those that would have been placed."""
        loaded = [(wallet_id, seq) for wallet_id, holds in books.holds.items() for seq in holds]
        placed = [
            (entry.wallet_id, entry.seq)
            for transaction in books.transactions.values()
            if transaction.kind == "HOLD"
            for entry in transaction.entries
        ]
        for wallet_id, seq in [*loaded, *placed]:
            if found := self._memory.execute(_RECALL_HOLD, (wallet_id, seq)).fetchone():
                books.holds.setdefault(wallet_id, {})[seq] = _hold(found[0])
        for wallet_id in books.wallets:
            if found := self._memory.execute(_RECALL_OPEN, (wallet_id,)).fetchone():
                books.open_holds[wallet_id] += found[0]

    def _recall_reversed(self, books: Books) -> None:
        """Bring what is loaded of reversed entries to where it was left, and what would be owed by now."""
        concerned = {wallet.wallet_id for wallet in books.wallets.values() if wallet.owed}
        concerned.update([wallet_id for wallet_id, _ in books.reversed])
        concerned.update([entry.wallet_id for original in books.originals.values() for entry in original.entries])
        for wallet_id in concerned:
            for (found,) in self._memory.execute(_RECALL_REVERSED, (wallet_id,)).fetchall():
                one = _reversed(found)
                books.reversed[one.wallet_id, one.seq] = one
        for wallet_id in books.wallets:
            for seq, found in self._memory.execute(_RECALL_IN_PLACE, (wallet_id,)).fetchall():
                books.in_place[wallet_id, seq] = _in_place(found)

    def _remember(self, books: Books, open_before: Counter[int]) -> None:
        self._memory.executemany(
            _REMEMBER_WALLET,
            [
                (wallet.wallet_id, wallet.balance, wallet.held, wallet.version, wallet.owed, wallet.bonus, wallet.lots)
                for wallet in books.changed_wallets()
            ],
        )
        self._memory.executemany(
            _REMEMBER_LOT,
            [
                (wallet_id, *key, orjson.dumps(list(books.lots[wallet_id][key])))
                for wallet_id, key in books.changed_lots
            ],
        )
        self._memory.executemany(
            _REMEMBER_REVERSED, [(*key, orjson.dumps(list(one))) for key, one in books.changed_reversed.items()]
        )
        self._memory.executemany(
            _REMEMBER_IN_PLACE,
            [(*key, orjson.dumps([kept.paid, kept.standing, kept.taken])) for key, kept in books.in_place.items()],
        )
        self._memory.executemany(
            _REMEMBER_SPENT,
            [(one, hour.isoformat(), str(books.spent[one][hour])) for one, hour in books.changed_hours],
        )
        changed = [books.wallets[wallet_id] for wallet_id in books.changed_states]
        self._memory.executemany(
            _REMEMBER_STATE, [(one.wallet_id, orjson.dumps([one.status, *one.frozen])) for one in changed]
        )
        self._memory.executemany(_REMEMBER_TRANSACTION, [_memorable(transaction) for transaction in books.posted])
        self._memory.executemany(
            _REMEMBER_HOLD, [(*key, orjson.dumps(list(hold))) for key, hold in books.changed_holds.items()]
        )
        self._memory.executemany(
            _REMEMBER_OPEN,
            [(wallet_id, books.open_holds[wallet_id] - open_before[wallet_id]) for wallet_id in books.open_holds],
        )

    def _transaction(
        self,
        wallet_id: int,
        reference: str,
        kind: str,
        client: str,
        requested: bytes,
        result: bytes,
        reverses: str | None,
        entries: bytes,
    ) -> PostedTransaction:
        """Return what a replay needs to know of a transaction that would have been made in an earlier chunk."""
        return PostedTransaction(
            transaction_id=NO_TRANSACTION,
            wallet_id=wallet_id,
            reference=reference,
            kind=kind,
            client=client,
            actor="",
            request_id=None,
            requested=orjson.loads(requested),
            stored_request=None,
            result=orjson.loads(result),
            reverses=None if reverses is None else uuid.UUID(reverses),
            details=None,
            details_hash=None,
            digest=GENESIS,
            occurred_at=self._now,
            created_at=self._now,
            entries=tuple(
                Entry(anchor, seq, entry_type, amount, balance_after, contra, self._now, GENESIS)
                for anchor, seq, entry_type, amount, balance_after, contra in orjson.loads(entries)
            ),
        )


def look_at(
    connection: Connection, wallet_ids: list[int], commands: Sequence[Command] = (), *, whole: Collection[int] = ()
) -> Books:
    """Return the books of the wallets, and of what else the commands look at, as the snapshot sees them."""
    balances = _load_balances(connection, wallet_ids)
    # By the database's clock, which is past the preview's: so of the holds that nobody names, those that are due are
    # loaded, perhaps a few more, and not all that are open.
    answers = ask(connection, *questions(wallet_ids, commands))
    books, _ = load_books(connection, balances, commands, answers, whole=whole)
    return books


def _hold(remembered: bytes) -> Hold:
    hold = Hold(*orjson.loads(remembered))
    return hold._replace(
        hold_id=uuid.UUID(str(hold.hold_id)),
        expires_at=dt.datetime.fromisoformat(str(hold.expires_at)),
        created_at=dt.datetime.fromisoformat(str(hold.created_at)),
        ended_at=None if hold.ended_at is None else dt.datetime.fromisoformat(str(hold.ended_at)),
        changes=tuple(hold.changes),
        lots=tuple([((seq, part), amount) for (seq, part), amount in hold.lots]),
    )


def _lot(remembered: bytes) -> Lot:
    lot = Lot(*orjson.loads(remembered))
    return lot._replace(
        lot_id=uuid.UUID(str(lot.lot_id)),
        expires_at=dt.datetime.fromisoformat(str(lot.expires_at)),
        created_at=dt.datetime.fromisoformat(str(lot.created_at)),
        changed_at=dt.datetime.fromisoformat(str(lot.changed_at)),
    )


def _in_state(wallet: WalletState, remembered: bytes) -> WalletState:
    status, *untils = orjson.loads(remembered)
    frozen = Frozen(*[None if until is None else dt.datetime.fromisoformat(until) for until in untils])
    return wallet._replace(status=status, frozen=frozen, state_transaction_id=NO_TRANSACTION)


def _reversed(remembered: bytes) -> ReversedEntry:
    one = ReversedEntry(*orjson.loads(remembered))
    return one._replace(
        transaction_id=uuid.UUID(str(one.transaction_id)),
        owed_since=None if one.owed_since is None else dt.datetime.fromisoformat(str(one.owed_since)),
    )


def _in_place(remembered: bytes) -> InPlace:
    paid, standing, taken = orjson.loads(remembered)
    return InPlace(paid, standing, [(None if key is None else (key[0], key[1]), amount) for key, amount in taken])


def _load_balances(connection: Connection, wallet_ids: list[int]) -> Sequence[LockedBalance]:
    """Return the wallets' balances; where the row is missing, what a posting would heal it with."""
    found = connection.execute(_BALANCES, {"wallet_ids": wallet_ids}).all()
    missing = set(wallet_ids).difference(row.wallet_id for row in found)
    if not missing:
        return found
    return [*found, *connection.execute(_LEDGER_SAYS, {"wallet_ids": sorted(missing), "genesis": GENESIS})]


def _memorable(transaction: PostedTransaction) -> tuple[int, str, str, str, bytes, bytes, str | None, bytes]:
    entries = [
        (entry.wallet_id, entry.seq, entry.entry_type, entry.amount, entry.balance_after, entry.contra_wallet_id)
        for entry in transaction.entries
    ]
    requested = orjson.dumps(transaction.requested)
    return (
        transaction.wallet_id,
        transaction.reference,
        transaction.kind,
        transaction.client,
        requested,
        orjson.dumps(transaction.result),
        None if transaction.reverses is None else str(transaction.reverses),
        orjson.dumps(entries),
    )


_STAY = text("""
SELECT clock_timestamp(), set_config('idle_in_transaction_session_timeout', '0', true)
""")

_STATEMENT_SECONDS_MAX = 60

_NOW = text("SELECT clock_timestamp()")

_BALANCES = text("""
SELECT wallet_id, balance, held, version, chain, updated_at, owed, bonus, lots
  FROM wallet_balances
 WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[]))
""")

_LEDGER_SAYS = text(LEDGER_SAYS)

# Never made durable: what it holds is worth nothing when the preview is over. Its cache is 64 MiB at most.
_MEMORY = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE moved (
  wallet_id INTEGER PRIMARY KEY, balance INTEGER, held INTEGER, version INTEGER, owed INTEGER, bonus INTEGER,
  lots INTEGER
);
CREATE TABLE lots (wallet_id INTEGER, seq INTEGER, part INTEGER, lot BLOB, PRIMARY KEY (wallet_id, seq, part))
  WITHOUT ROWID;
CREATE TABLE accepted (
  wallet_id INTEGER, reference TEXT, kind TEXT, client TEXT, requested BLOB, result BLOB, reverses TEXT, entries BLOB,
  PRIMARY KEY (wallet_id, reference)
) WITHOUT ROWID;
CREATE TABLE holds (wallet_id INTEGER, seq INTEGER, hold BLOB, PRIMARY KEY (wallet_id, seq)) WITHOUT ROWID;
CREATE TABLE states (wallet_id INTEGER PRIMARY KEY, state BLOB);
CREATE TABLE opened (wallet_id INTEGER PRIMARY KEY, holds INTEGER);
CREATE TABLE reversed (wallet_id INTEGER, seq INTEGER, entry BLOB, PRIMARY KEY (wallet_id, seq)) WITHOUT ROWID;
CREATE TABLE in_place (wallet_id INTEGER, seq INTEGER, kept BLOB, PRIMARY KEY (wallet_id, seq)) WITHOUT ROWID;
CREATE TABLE spent (wallet_id INTEGER, hour TEXT, amount TEXT, PRIMARY KEY (wallet_id, hour)) WITHOUT ROWID;
"""

_RECALL_WALLET = "SELECT balance, held, version, owed, bonus, lots FROM moved WHERE wallet_id = ?"
_RECALL_TRANSACTION = (
    "SELECT kind, client, requested, result, reverses, entries FROM accepted WHERE wallet_id = ? AND reference = ?"
)
_REMEMBER_WALLET = "INSERT OR REPLACE INTO moved VALUES (?, ?, ?, ?, ?, ?, ?)"
_RECALL_LOTS = "SELECT lot FROM lots WHERE wallet_id = ?"
_REMEMBER_LOT = "INSERT OR REPLACE INTO lots VALUES (?, ?, ?, ?)"
_REMEMBER_TRANSACTION = "INSERT INTO accepted VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RECALL_STATE = "SELECT state FROM states WHERE wallet_id = ?"
_REMEMBER_STATE = "INSERT OR REPLACE INTO states VALUES (?, ?)"
_RECALL_HOLD = "SELECT hold FROM holds WHERE wallet_id = ? AND seq = ?"
_REMEMBER_HOLD = "INSERT OR REPLACE INTO holds VALUES (?, ?, ?)"
_RECALL_OPEN = "SELECT holds FROM opened WHERE wallet_id = ?"
"""By how many the wallet's open holds would be more, or less."""
_REMEMBER_OPEN = "INSERT OR REPLACE INTO opened VALUES (?, ?)"
_REMEMBER_SPENT = "INSERT OR REPLACE INTO spent VALUES (?, ?, ?)"
_RECALL_SPENT = "SELECT hour, amount FROM spent WHERE wallet_id = ?"
_RECALL_REVERSED = "SELECT entry FROM reversed WHERE wallet_id = ?"
_REMEMBER_REVERSED = "INSERT OR REPLACE INTO reversed VALUES (?, ?, ?)"
_REMEMBER_IN_PLACE = "INSERT OR REPLACE INTO in_place VALUES (?, ?, ?)"
_RECALL_IN_PLACE = "SELECT seq, kept FROM in_place WHERE wallet_id = ?"
