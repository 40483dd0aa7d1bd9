"""The kernel's tests call the service on a real PostgreSQL, with real threads and real commits.

`books` audits the database when the test is over; a control, which breaks a guard on purpose, takes `broken_books`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any, TypeVar

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo, settings_for
from tests.kernel import audit
from wallet_app import create_app, service
from wallet_app.db import close_connections, unit_of_work
from wallet_app.service import locks, wallets

T = TypeVar("T")

JOHN, JOHN_DIAMOND, DOE, DOE_DIAMOND = 3, 4, 5, 6
"""The demo wallets: 500 and 10, 300 and 0."""

UNLOCKED = locks._statement("look_at_wallets", locks._WALLETS)
"""The statement that locks wallets, for controls, without its FOR UPDATE."""

ORIGIN = service.Origin(client="tests", actor="tests", request_id="request-1")


@dataclass
class Books:
    """A service on a database of its own, and the owner's way into that database."""

    app: Flask | None
    url: URL
    _references: Iterator[int] = field(default_factory=itertools.count)

    def command(self, kind: type[T], wallet_id: int, amount: int, reference: str | None = None, **more: Any) -> T:
        reference = reference or f"ref-{next(self._references)}"
        return kind(wallet_id=wallet_id, amount=amount, reference=reference, **({"origin": ORIGIN} | more))

    def top_up(self, wallet_id: int, amount: int, reference: str | None = None, **more: Any) -> service.TopUp:
        return self.command(service.TopUp, wallet_id, amount, reference, **more)

    def bonus(self, wallet_id: int, amount: int, reference: str | None = None, **more: Any) -> service.Bonus:
        return self.command(service.Bonus, wallet_id, amount, reference, **more)

    def spend(self, wallet_id: int, amount: int, reference: str | None = None, **more: Any) -> service.Spend:
        return self.command(service.Spend, wallet_id, amount, reference, **more)

    def make_wallets(self, count: int, *, balance: int = 0) -> list[int]:
        """Make users with a GOLD wallet each and return the wallets' ids."""
        with unit_of_work() as connection:
            gold = wallets.ensure_asset(connection, code="GOLD", name="Gold Coins")
            owners = [
                wallets.ensure_user(connection, name=f"Player {n}", external_id=f"player-{n}") for n in range(count)
            ]
            made = [wallets.ensure_wallet(connection, user_id=owner, asset_type_id=gold) for owner in owners]
        if balance:
            seeds = [self.command(service.Seed, wallet_id, balance, "sys:seed") for wallet_id in made]
            assert not [outcome for outcome in service.execute_batch(seeds) if isinstance(outcome, Exception)]
        return made

    def stop(self, wallet_id: int, status: str) -> None:
        """Freeze both sides of the wallet, or spend what it has and close it."""
        reference, why = f"stop-{next(self._references)}", "a test"
        if status == "FROZEN":
            service.execute(
                service.Freeze(wallet_id=wallet_id, reference=reference, origin=ORIGIN, side="both", reason=why)
            )
            return
        if left := self.balance(wallet_id):
            service.execute(self.spend(wallet_id, left))
        service.execute(service.Close(wallet_id=wallet_id, reference=reference, origin=ORIGIN, reason=why))

    def balance(self, wallet_id: int) -> int:
        return service.get_wallet(wallet_id).balance

    def entries(self, wallet_id: int) -> int:
        return self.sql("SELECT count(*) FROM ledger_entries WHERE wallet_id = %s", wallet_id)[0][0]

    def transactions(self, reference: str) -> int:
        return self.sql("SELECT count(*) FROM transactions WHERE reference_id = %s", reference)[0][0]

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection of the owner's, past the service and its pool, and past what ends its statements soon."""
        patient = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
        return psycopg.connect(conninfo(self.url), **({"options": patient} | options))

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the owner, on its own connection, committed."""
        with self.connect(autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def in_threads(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Run the works at once, a thread each, all let go at the same moment; return what they return, in order."""
        app = self.app
        assert app is not None
        gate = Barrier(len(works))

        def run(work: Callable[[], T]) -> T:
            with app.app_context():
                gate.wait(30)
                return work()

        with ThreadPoolExecutor(len(works)) as threads:
            return list(threads.map(run, works))

    def faults(self) -> dict[str, list[tuple[object, ...]]]:
        return audit.faults(self.url)


def outcome_of(command: service.Command, **options: Any) -> service.Receipt | Exception:
    """Return the command's receipt, or the exception that `execute` raises."""
    try:
        return service.execute(command, **options)
    except Exception as declined:
        return declined


def serve(url: URL, **settings: Any) -> Iterator[Books]:
    """Yield the service on the database, in an application context; each command posts alone unless told otherwise."""
    app = create_app(replace(settings_for(url), **({"group_commit": False} | settings)))
    with app.app_context():
        yield Books(app, url)
        close_connections()


@pytest.fixture
def broken_books(database: URL) -> Iterator[Books]:
    """The service on a fresh database that may come to harm; its pool lets 64 threads post at once."""
    yield from serve(database, pool_size=64, pool_seconds_max=20)


@pytest.fixture
def books(broken_books: Books) -> Iterator[Books]:
    """The service on a fresh database, whose books must be right when the test is over."""
    yield broken_books
    assert broken_books.faults() == {}
