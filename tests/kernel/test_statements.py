"""How the kernel speaks to the database: as many statements for 256 commands as for one, and one lock before all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from tests.kernel.conftest import JOHN, Books
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import InsufficientBalanceError
from wallet_app.service import locks

LOCKING = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY)|\bLOCK\s+TABLE|advisory", re.IGNORECASE)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect what the driver is asked to send, whoever asks it: SQLAlchemy or the kernel itself."""
    db.engine.connect().close()  # A new connection asks about the server first.
    sent: list[tuple[str, Any]] = []
    execute, copy = psycopg.Cursor.execute, psycopg.Cursor.copy

    def collect_execute(self: Any, query: str, params: Any = None, **options: Any) -> Any:
        sent.append((query, params))
        return execute(self, query, params, **options)

    def collect_copy(self: Any, statement: str, params: Any = None, **options: Any) -> Any:
        sent.append((statement, params))
        return copy(self, statement, params, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", collect_execute)
        patched.setattr(psycopg.Cursor, "copy", collect_copy)
        yield sent


def mixed(books: Books, wallet_ids: Sequence[int], count: int) -> list[service.Command]:
    kinds = (books.top_up, books.spend, books.bonus)
    return [kinds[n % 3](wallet_ids[n % len(wallet_ids)], 1, note=f"note {n}") for n in range(count)]


def test_the_number_of_statements_is_the_same_for_every_size_of_batch(books: Books) -> None:
    wallet_ids = books.make_wallets(64, balance=100)
    counted = {}
    for size in (1, 2, 16, 256, 1000):
        with statements() as sent:
            outcomes = service.execute_batch(mixed(books, wallet_ids, size))
        assert {type(outcome) for outcome in outcomes} == {service.Receipt}
        counted[size] = len(sent)
    assert set(counted.values()) == {counted[1]}, counted
    assert counted[1] <= 10


def test_replays_and_refusals_need_no_more_statements_and_write_nothing(books: Books) -> None:
    replays = mixed(books, [JOHN], 256)
    service.execute_batch(replays)
    with statements() as sent:
        outcomes = service.execute_batch([*replays, *(books.spend(JOHN, 10_000) for _ in range(256))])
    assert [type(outcome) for outcome in outcomes[255:257]] == [
        service.Receipt,
        InsufficientBalanceError,
    ]
    assert len(sent) == 5, "lock, slot, wallets with the clock, assets, transactions"
    assert not [
        statement for statement, _ in sent if re.search(r"\b(INSERT|COPY|DELETE|UPDATE\s+\w+\s+SET)\b", statement)
    ]


def test_only_the_first_statement_locks_rows_and_the_slot_comes_after_it_without_waiting(books: Books) -> None:
    with statements() as sent:
        service.execute_batch(mixed(books, [JOHN, 5], 4))
    locking = [statement for statement, _ in sent if LOCKING.search(statement)]
    assert locking[0] == sent[0][0]
    assert "FOR UPDATE" in locking[0]
    assert len(locking) == 2
    assert "pg_try_advisory_xact_lock" in locking[1]
    assert "FOR UPDATE" not in locking[1]


def test_the_lock_statement_locks_rows_last_of_all_and_joins_nothing(books: Books) -> None:
    """A joined row would be stale after a wait: only the locked one is read again."""
    books.make_wallets(50)
    with statements() as sent:
        service.execute(books.top_up(JOHN, 1))
    statement, parameters = sent[0]
    with db.engine.connect() as connection:
        for index_scans in ("on", "off"):
            connection.exec_driver_sql(f"SET enable_indexscan = {index_scans}")
            plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
            nodes = list(walk((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))
            assert nodes[0]["Node Type"] == "LockRows"
            assert {node.get("Relation Name") for node in nodes} == {None, "wallet_balances"}
            assert sum("Relation Name" in node for node in nodes) == 1
            assert not [node for node in nodes if "Join" in node["Node Type"] or "Nested" in node["Node Type"]]
    assert re.search(r"ORDER BY wallet_balances\.wallet_id\s+FOR UPDATE\s*$", statement)


def test_the_statement_that_is_explained_is_the_one_that_locks() -> None:
    assert "FOR UPDATE" in str(locks._WAIT)
    assert locks._WAIT.get_final_froms() == [locks.WalletBalance.__table__]


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def test_the_wallets_are_locked_in_order_and_each_once(books: Books) -> None:
    wallet_ids = books.make_wallets(9)
    with statements() as sent:
        service.execute_batch([books.top_up(wallet_id, 1) for wallet_id in (*reversed(wallet_ids), *wallet_ids)])
    (asked,) = [value for value in sent[0][1].values() if isinstance(value, list)]
    assert asked == sorted(set(asked)) == wallet_ids


@pytest.mark.parametrize("size", [1, 256])
def test_one_posting_is_one_commit(books: Books, size: int) -> None:
    commits = []
    event.listen(db.engine, "commit", lambda connection: commits.append(connection))
    service.execute_batch(mixed(books, books.make_wallets(4, balance=100), size))
    assert len(commits) == 3, "making the wallets, seeding them, and the posting"
