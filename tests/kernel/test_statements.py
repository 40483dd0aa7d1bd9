"""How the kernel speaks to the database: as many statements for 256 commands as for one, and one lock before all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from tests.kernel.conftest import JOHN, Books
from wallet_app import db as database
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import InsufficientBalanceError
from wallet_app.parameters import WHOLE_NUMBERS
from wallet_app.round_trip import Question, ask
from wallet_app.service import loading, locks, posting

LOCKING = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY)|\bLOCK\s+TABLE|advisory", re.IGNORECASE)


@contextmanager
def round_trips() -> Iterator[list[list[Question]]]:
    """Collect what the kernel asks of the database together."""
    asked: list[list[Question]] = []

    def collect(connection: Connection, *questions: Question) -> Any:
        asked.append(list(questions))
        return ask(connection, *questions)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a posting asks nothing in another way")

    db.engine.connect().close()  # A new connection asks about the server first.
    with pytest.MonkeyPatch.context() as patched:
        for module in (locks, loading, posting, database):
            patched.setattr(module, "ask", collect)
        patched.setattr(psycopg.Cursor, "execute", refuse)
        patched.setattr(psycopg.Cursor, "copy", refuse)
        yield asked


def names(questions: Sequence[Question]) -> list[str]:
    return [question.statement.name.decode() for question in questions]


def mixed(books: Books, wallet_ids: Sequence[int], count: int) -> list[service.Command]:
    kinds = (books.top_up, books.spend, books.bonus)
    return [kinds[n % 3](wallet_ids[n % len(wallet_ids)], 1, note=f"note {n}") for n in range(count)]


def test_the_number_of_statements_is_the_same_for_every_size_of_batch(books: Books) -> None:
    wallet_ids = books.make_wallets(64, balance=100)
    asked = {}
    for size in (1, 2, 16, 256, 1000):
        with round_trips() as trips:
            outcomes = service.execute_batch(mixed(books, wallet_ids, size))
        assert {type(outcome) for outcome in outcomes} == {service.Receipt}
        asked[size] = [names(questions) for questions in trips]
    assert asked[1] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions"],
        [
            "insert_transactions",
            "insert_details",
            "insert_entries",
            "update_balances",
            "add_to_system_balances",
            "commit",
        ],
    ]
    # What is granted is a lot, and has two statements of its own for all lots of a batch; and still no round trip.
    assert asked.pop(2) == asked[1]
    read, written = asked.pop(1)
    with_lots = [read, [*written[:-2], "merge_lots", "insert_lot_movements", *written[-2:]]]
    assert all(trips == with_lots for trips in asked.values()), asked


def test_replays_and_refusals_need_no_more_statements_and_write_nothing(books: Books) -> None:
    replays = mixed(books, [JOHN], 256)
    service.execute_batch(replays)
    with round_trips() as trips:
        outcomes = service.execute_batch([*replays, *(books.spend(JOHN, 10_000) for _ in range(256))])
    assert [type(outcome) for outcome in outcomes[255:257]] == [
        service.Receipt,
        InsufficientBalanceError,
    ]
    assert [names(questions) for questions in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions"]
    ]


def test_whoever_has_bonus_without_an_end_alone_spends_it_without_another_round_trip(books: Books) -> None:
    service.execute(books.bonus(JOHN, 10))
    with round_trips() as trips:
        service.execute(books.spend(JOHN, 4))
    read, written = [names(questions) for questions in trips]
    assert "load_lots" not in read
    assert written[-4:-2] == ["merge_lots", "insert_lot_movements"]


def test_only_the_first_statement_locks_rows_and_the_slot_comes_after_it_without_waiting(books: Books) -> None:
    with round_trips() as trips:
        service.execute_batch(mixed(books, [JOHN, 5], 4))
    sent = [question.statement.sql.decode() for questions in trips for question in questions]
    locking = [statement for statement in sent if LOCKING.search(statement)]
    assert locking[0] == sent[0]
    assert "FOR UPDATE" in locking[0]
    assert len(locking) == 2
    assert "pg_try_advisory_xact_lock" in locking[1]
    assert "FOR UPDATE" not in locking[1]


def test_the_lock_statement_locks_rows_last_of_all_and_joins_nothing(books: Books) -> None:
    """A joined row would be stale after a wait: only the locked one is read again."""
    books.make_wallets(50)
    with round_trips() as trips:
        service.execute(books.top_up(JOHN, 1))
    statement = trips[0][0].statement.sql.decode()
    with db.engine.connect() as connection:
        for index_scans in ("on", "off"):
            connection.exec_driver_sql(f"SET enable_indexscan = {index_scans}")
            explain = f"EXPLAIN (FORMAT JSON) {statement}".replace("$1", "ARRAY[3]")
            plan = connection.exec_driver_sql(explain).scalar_one()
            nodes = list(walk((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))
            assert nodes[0]["Node Type"] == "LockRows"
            assert {node.get("Relation Name") for node in nodes} == {None, "wallet_balances"}
            assert sum("Relation Name" in node for node in nodes) == 1
            assert not [node for node in nodes if "Join" in node["Node Type"] or "Nested" in node["Node Type"]]
    assert re.search(r"ORDER BY wallet_balances\.wallet_id\s+FOR UPDATE\s*$", statement)


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def test_the_wallets_are_locked_in_order_and_each_once(books: Books) -> None:
    wallet_ids = books.make_wallets(9)
    with round_trips() as trips:
        service.execute_batch([books.top_up(wallet_id, 1) for wallet_id in (*reversed(wallet_ids), *wallet_ids)])
    assert trips[0][0].parameters == [WHOLE_NUMBERS.pack(wallet_ids)]
    assert wallet_ids == sorted(wallet_ids)


@pytest.mark.parametrize("size", [1, 256])
def test_one_posting_is_one_commit(books: Books, size: int) -> None:
    commits = []
    event.listen(db.engine, "commit", lambda connection: commits.append(connection))
    service.execute_batch(mixed(books, books.make_wallets(4, balance=100), size))
    assert len(commits) == 3, "making the wallets, seeding them, and the posting"
