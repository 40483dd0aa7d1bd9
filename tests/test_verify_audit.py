"""The audit log's chain shows every way to tamper with it, never cries wolf, and makes nobody wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask import Flask
from psycopg import errors
from sqlalchemy.engine import URL

from tests.conftest import Tamper, conninfo
from tests.test_verify import Tampering
from wallet_app import service
from wallet_app.db import db, unit_of_work
from wallet_app.service import audit
from wallet_app.service.audit import Act, By

pytestmark = pytest.mark.wide

ANN = By(actor="operator:ann", reason="asked for by shop", ticket="T-1", request_id="r-1", address="10.0.0.1")
FIELDS = {
    "actor": "'someone'",
    "action": "'key:revoke'",
    "subject": "NULL",
    "before": "'{\"a\": 2}'",
    "after": "NULL",
    "reason": "'another'",
    "ticket": "'T-2'",
    "request_id": "'r-2'",
    "address": "'10.0.0.2'",
    "outcome": "'denied'",
    "occurred_at": "occurred_at + interval '1 microsecond'",
    "xid": "(xid::text::bigint + 1)::text::xid8",
}
COLUMNS = "occurred_at, actor, action, outcome"
TAMPERINGS = [
    *[
        Tampering(name, f"UPDATE audit_log SET {name} = {to} WHERE id = 4", {"audit_chain"})
        for name, to in FIELDS.items()
    ],
    Tampering("record removed", "DELETE FROM audit_log WHERE id = 4", {"audit_chain"}),
    Tampering("last record removed", "DELETE FROM audit_log WHERE id = 6", {"audit_chain"}),
    Tampering(
        "record and link removed",
        "DELETE FROM audit_log WHERE id = 4; DELETE FROM audit_chain WHERE audit_id = 4",
        {"audit_gapless", "audit_chain"},
    ),
    Tampering(
        "verified end removed",
        "DELETE FROM audit_log WHERE id >= 3; DELETE FROM audit_chain WHERE audit_id >= 3",
        {"audit_marks"},
    ),
    Tampering(
        "records swapped",
        """UPDATE audit_chain SET audit_id = -4 WHERE audit_id = 4;
           UPDATE audit_chain SET audit_id = 4 WHERE audit_id = 5;
           UPDATE audit_chain SET audit_id = 5 WHERE audit_id = -4""",
        {"audit_chain"},
    ),
    Tampering("link changed", "UPDATE audit_chain SET hash = sha256(hash) WHERE audit_id = 5", {"audit_chain"}),
    Tampering("horizon changed", "UPDATE audit_chain SET horizon = 0 WHERE audit_id = 5", {"audit_chain"}),
    Tampering(
        "ceiling changed",
        "UPDATE audit_chain SET ceiling = ceiling + 1 WHERE audit_id = 6",
        {"audit_chain", "audit_order"},
    ),
    Tampering(
        "record inserted with an old id",
        f"INSERT INTO audit_log (id, {COLUMNS}) OVERRIDING SYSTEM VALUE SELECT -1, {COLUMNS} "
        "FROM audit_log WHERE id = 4",
        {"audit_order"},
    ),
    Tampering(
        "record inserted with an old transaction",
        f"INSERT INTO audit_log (xid, {COLUMNS}) SELECT xid, {COLUMNS} FROM audit_log WHERE id = 4",
        {"audit_order"},
    ),
]


@pytest.fixture(autouse=True)
def empty_log(tamper: Tamper) -> None:
    """Begin with no record: the books that tests get have a key, and that has one."""
    tamper("DELETE FROM audit_log", "ALTER SEQUENCE audit_log_id_seq RESTART")


@pytest.fixture
def log(app: Flask) -> None:
    """An audit log with three records that were verified and three that were chained since."""
    acts(3)
    assert service.verify().is_clean
    acts(3)
    assert audit.extend_chain() == 3


def acts(count: int) -> None:
    for number in range(count):
        audit.record_alone(
            Act(
                by=ANN,
                action="key:create",
                subject=f"key:{number}",
                before={"a": 1, "ä": [None, 1.5, "x"]},
                after={"b": number},
            )
        )


@pytest.mark.tampers
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.name)
def test_tampering_with_the_audit_log_is_reported(log: None, tamper: Tamper, tampering: Tampering) -> None:
    tamper(tampering.sql)

    assert service.verify(full=True).broken() == tampering.broken
    assert service.verify(full=True).broken() == tampering.broken, "a fault is reported until it is gone"


@pytest.mark.tampers
def test_an_end_that_grew_again_is_still_found(log: None, tamper: Tamper) -> None:
    tamper("DELETE FROM audit_log WHERE id >= 2", "DELETE FROM audit_chain WHERE audit_id >= 2")
    acts(5)

    assert service.verify().broken() == {"audit_marks"}
    assert service.verify().broken() == {"audit_marks"}


@pytest.mark.tampers
def test_a_fault_names_its_record(log: None, tamper: Tamper) -> None:
    tamper("UPDATE audit_log SET actor = 'x' WHERE id = 4", "DELETE FROM audit_log WHERE id = 5")

    finding = service.verify().findings["audit_chain"]

    assert [str(fault) for fault in finding.examples] == [
        "audit record 4 (link 4) is not what was chained",
        "audit record 5 (link 5) is gone",
    ]


def test_only_what_is_new_is_looked_at(log: None) -> None:
    def looked_at(*, full: bool = False) -> int:
        return service.verify(full=full).findings["audit_chain"].looked_at

    assert looked_at() == 3
    assert looked_at() == 0
    assert looked_at(full=True) == 6


def test_a_record_is_there_with_its_act_or_not_at_all(app: Flask) -> None:
    def fail() -> None:
        with unit_of_work() as connection:
            audit.record(connection, Act(by=ANN, action="key:create"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert audit.extend_chain() == 0
    acts(1)
    assert audit.extend_chain() == 1, "an id that was given up is no gap"


def test_a_record_that_is_late_is_chained_late_and_is_no_fault(app: Flask) -> None:
    with unit_of_work() as connection:
        audit.record(connection, Act(by=ANN, action="key:create", subject="slow"))
        done = in_thread(app, lambda: acts(2))
        assert done == [None]
        assert in_thread(app, audit.extend_chain) == [0], "what began after the slow one is not behind the horizon"
    acts(1)
    assert audit.extend_chain() == 4
    with unit_of_work() as first:
        audit.record(first, Act(by=ANN, action="key:create"))
        with unit_of_work() as second:
            audit.record(second, Act(by=ANN, action="key:create"))
    assert audit.extend_chain() == 2
    assert service.verify(full=True).is_clean


def in_thread(app: Flask, work: Any) -> list[Any]:
    found: list[Any] = []

    def run() -> None:
        with app.app_context():
            found.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return found


def test_a_long_log_is_chained_in_several_units_of_work(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LINKS_MAX", 4)
    acts(10)

    assert audit.extend_chain() == 10
    assert service.verify(full=True).is_clean
    acts(3)
    assert service.verify().is_clean


def test_two_that_extend_the_chain_at_once_take_turns(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    acts(20)
    found: list[int] = []
    both_read = threading.Barrier(2)
    links = audit._links

    def read_and_wait_for_the_other(connection: Any) -> Any:
        read = links(connection)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait(1)
        return read

    def extend() -> None:
        with app.app_context():
            found.append(audit.extend_chain())

    monkeypatch.setattr(audit, "_links", read_and_wait_for_the_other)
    threads = [threading.Thread(target=extend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(found) == [0, 20]


def test_a_database_that_was_restored_counts_its_transactions_anew_and_is_no_fault(log: None, tamper: Tamper) -> None:
    # As after a dump that was restored elsewhere: all that stands in the tables comes from higher transactions.
    acts(1)
    tamper("UPDATE audit_log SET xid = (xid::text::bigint + 1000000000)::text::xid8 WHERE id = 7")
    assert audit.extend_chain() == 1
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM audit_chain").scalar() == 7
    assert service.verify(full=True).is_clean


@pytest.mark.parametrize("table", ["audit_log", "audit_chain"])
@pytest.mark.parametrize("change", ["UPDATE {table} SET horizon = 1", "DELETE FROM {table}", "TRUNCATE {table}"])
def test_nobody_changes_the_audit_log(
    wallet_app: psycopg.Connection[Any], database: URL, table: str, change: str
) -> None:
    statement = change.format(table=table).replace(
        "horizon = 1", "outcome = 'done'" if table == "audit_log" else "seq = 1"
    )
    with (
        psycopg.connect(conninfo(database), autocommit=True) as owner,
        pytest.raises(errors.RestrictViolation, match=f"{table} is append-only"),
    ):
        owner.execute(statement)  # type: ignore[arg-type]
    with pytest.raises(errors.InsufficientPrivilege):
        wallet_app.execute(statement)  # type: ignore[arg-type]


@pytest.fixture
def wallet_app(database: URL) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("SET ROLE wallet_app")
        yield connection


def test_the_application_chooses_no_id(wallet_app: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.GeneratedAlways):
        wallet_app.execute("INSERT INTO audit_log (id, actor, action, outcome) VALUES (1, 'a', 'b:c', 'done')")
