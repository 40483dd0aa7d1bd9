"""Rebuilding makes balances say what the ledger says, changes no entry, and does not hide a loss."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo
from wallet_app import service
from wallet_app.errors import VerificationRunningError
from wallet_app.service import rebuild

ORIGIN = service.Origin(client="test", actor="tester")


@pytest.fixture
def owner(app: Flask, database: URL) -> Iterator[psycopg.Connection]:
    """A connection that can switch the guards off."""
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def top_up(wallet_id: int, *amounts: int) -> None:
    for number, amount in enumerate(amounts):
        service.execute(service.TopUp(wallet_id=wallet_id, reference=f"ref-{number}", origin=ORIGIN, amount=amount))


def ledger(owner: psycopg.Connection) -> list[tuple[object, ...]]:
    return owner.execute("SELECT * FROM ledger_entries ORDER BY wallet_id, seq").fetchall()


def test_right_balances_are_left_alone(app: Flask) -> None:
    top_up(3, 1, 2)

    report = service.rebuild_balances()

    assert (report.wallets_checked, report.changes, report.refusals) == (4, [], [])


def test_balance_held_and_time_are_corrected_from_the_ledger(owner: psycopg.Connection) -> None:
    top_up(3, 1, 2)
    before = ledger(owner)
    owner.execute("UPDATE wallet_balances SET balance = 7, held = 9, updated_at = '2000-01-01' WHERE wallet_id = 3")

    report = service.rebuild_balances()

    assert [(change.wallet_id, change.column, change.before) for change in report.changes[:2]] == [
        (3, "balance", "7"),
        (3, "held", "9"),
    ]
    assert str(report.changes[0]) == "wallet 3, balance: 7 -> 503"
    assert [change.column for change in report.changes] == ["balance", "held", "updated_at"]
    assert ledger(owner) == before
    assert service.rebuild_balances().changes == []


def test_a_missing_row_is_made(owner: psycopg.Connection) -> None:
    top_up(3, 1)
    owner.execute("DELETE FROM wallet_balances WHERE wallet_id IN (3, 6)")

    report = service.rebuild_balances()

    assert [str(change) for change in report.changes] == [
        "wallet 3, row: missing -> balance 501, version 2",
        "wallet 6, row: missing -> balance 0, version 0",
    ]


def test_a_row_from_an_older_backup_catches_up(owner: psycopg.Connection) -> None:
    older = owner.execute(
        "SELECT balance, version, chain, updated_at FROM wallet_balances WHERE wallet_id = 3"
    ).fetchone()
    top_up(3, 1, 2)
    owner.execute(
        "UPDATE wallet_balances SET balance = %s, version = %s, chain = %s, updated_at = %s WHERE wallet_id = 3", older
    )

    report = service.rebuild_balances()

    assert [change.column for change in report.changes] == ["balance", "version", "chain", "updated_at"]
    assert report.refusals == []


@pytest.mark.tampers
def test_a_dry_run_changes_nothing(owner: psycopg.Connection) -> None:
    owner.execute("UPDATE wallet_balances SET balance = 7 WHERE wallet_id = 3")
    owner.execute("DELETE FROM wallet_balances WHERE wallet_id = 5")
    owner.execute("UPDATE system_balances SET balance = balance + 1 WHERE wallet_id = 1")
    rows = "SELECT * FROM wallet_balances ORDER BY wallet_id"
    before = owner.execute(rows).fetchall()

    report = service.rebuild_balances(dry_run=True)

    assert [change.column for change in report.changes] == ["balance", "row", "slots"]
    assert owner.execute(rows).fetchall() == before
    assert service.verify().broken() == {"projection", "sum", "balance_row", "slots", "assets"}


def test_slots_are_corrected_by_their_difference(owner: psycopg.Connection) -> None:
    top_up(3, 1, 2)
    owner.execute("UPDATE system_balances SET balance = balance + 41 WHERE wallet_id = 1")
    owner.execute("DELETE FROM system_balances WHERE wallet_id = 2")

    report = service.rebuild_balances()

    assert [str(change) for change in report.changes] == ["wallet 1, slots: -762 -> -803", "wallet 2, slots: 0 -> -10"]


@pytest.mark.tampers
@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM ledger_entries WHERE wallet_id = 3 AND seq = 3",
        "DELETE FROM ledger_entries WHERE wallet_id = 3 AND seq = 2",
        "UPDATE ledger_entries SET amount = 9 WHERE wallet_id = 3 AND seq = 2",
        "UPDATE ledger_entries SET hash = sha256(hash) WHERE wallet_id = 3 AND seq = 3",
        "UPDATE wallet_balances SET version = 9 WHERE wallet_id = 3",
        "UPDATE wallet_balances SET chain = sha256(chain) WHERE wallet_id = 3",
        "DELETE FROM ledger_entries WHERE wallet_id = 3",
    ],
)
def test_a_loss_is_not_hidden(owner: psycopg.Connection, loss: str) -> None:
    top_up(3, 1, 2)
    owner.execute(loss)
    owner.execute("UPDATE wallet_balances SET balance = 7 WHERE wallet_id = 5")
    rows = "SELECT * FROM wallet_balances WHERE wallet_id = 3"
    before = owner.execute(rows).fetchall(), owner.execute("SELECT * FROM system_balances ORDER BY 1, 2").fetchall()

    report = service.rebuild_balances()

    assert report.refusals[0].wallet_id == 3
    assert {refusal.wallet_id for refusal in report.refusals} <= {3, 1}, "the slots are evidence too"
    assert [str(change) for change in report.changes] == ["wallet 5, balance: 7 -> 300"], "the others are corrected"
    assert before == (
        owner.execute(rows).fetchall(),
        owner.execute("SELECT * FROM system_balances ORDER BY 1, 2").fetchall(),
    )


@pytest.mark.tampers
def test_an_accepted_loss_is_followed(owner: psycopg.Connection) -> None:
    top_up(3, 1, 2)
    service.verify()
    owner.execute("DELETE FROM ledger_entries WHERE wallet_id = 3 AND seq = 3")

    report = service.rebuild_balances(accept_loss=True)

    assert [change.column for change in report.changes] == ["balance", "version", "chain", "updated_at", "slots"]
    assert report.refusals == []
    assert service.verify().broken() == {"entries"}, "the transaction of the lost entry stays as evidence"
    service.execute(service.TopUp(wallet_id=3, reference="after", origin=ORIGIN, amount=5))
    assert service.get_wallet(3).balance == 501 + 5


def test_it_is_right_while_postings_run(owner: psycopg.Connection, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "WALLETS_MAX", 2)
    stop = threading.Event()
    failures: list[BaseException] = []

    def post(worker: int) -> None:
        number = 0
        try:
            with app.app_context():
                while not stop.is_set():
                    number += 1
                    wallet_id = (3, 4, 5, 6)[number % 4]
                    service.execute(
                        service.TopUp(wallet_id=wallet_id, reference=f"{worker}-{number}", origin=ORIGIN, amount=1)
                    )
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=post, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        owner.execute("UPDATE wallet_balances SET held = held + 1 WHERE wallet_id IN (4, 5)")
        owner.execute("UPDATE system_balances SET balance = balance + 3 WHERE (wallet_id, slot) = (1, 0)")
        report = service.rebuild_balances()
        assert {change.column for change in report.changes} == {"held", "slots"}
        assert report.refusals == []
    stop.set()
    for thread in threads:
        thread.join()

    assert not failures
    assert service.rebuild_balances().changes == []


def test_it_does_not_run_beside_a_verification(app: Flask) -> None:
    def rebuild_too(done: int, total: int) -> None:
        with pytest.raises(VerificationRunningError):
            service.rebuild_balances()

    service.verify(full=True, progress=rebuild_too)
