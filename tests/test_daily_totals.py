"""The daily totals are what the ledger makes, entry by entry, whatever comes in between; tampering with them shows."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import Tamper, conninfo
from tests.kernel.test_expiry import never, wait_for
from tests.test_verify import ORIGIN, Tampering
from wallet_app import service
from wallet_app.service import daily_totals, settled

pytestmark = pytest.mark.wide

Rows = list[tuple[Any, ...]]

TOTALS = """
SELECT day, asset_type_id, entry_type, contra_wallet_id, entries, wallets, credits, debits
  FROM daily_totals ORDER BY 1, 2, 3, 4
"""
LEDGER = """
SELECT (ledger_entries.created_at AT TIME ZONE 'UTC')::date, wallets.asset_type_id, entry_type, contra_wallet_id,
       count(*), count(DISTINCT wallet_id), sum(greatest(amount, 0)), sum(greatest(-amount, 0))
  FROM ledger_entries JOIN wallets ON wallets.id = wallet_id GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""

TABLES = ("daily_totals", "settled_cursors")
OF_TYPE = "WHERE entry_type ="
TAMPERINGS = [
    Tampering(name, sql, {"daily_totals"})
    for name, sql in (
        ("more credited", f"UPDATE daily_totals SET credits = credits + 1 {OF_TYPE} 'TOPUP'"),
        ("more debited", f"UPDATE daily_totals SET debits = debits + 1 {OF_TYPE} 'SPEND'"),
        ("a type removed", f"DELETE FROM daily_totals {OF_TYPE} 'BONUS'"),
        ("all removed", "DELETE FROM daily_totals"),
        ("the position forgotten", "UPDATE settled_cursors SET position = '00000000-0000-0000-0000-000000000000'"),
        ("more entries", f"UPDATE daily_totals SET entries = entries + 1 {OF_TYPE} 'BONUS'"),
        ("another day", f"UPDATE daily_totals SET day = day - 1 {OF_TYPE} 'BONUS'"),
        ("more both ways", f"UPDATE daily_totals SET credits = credits + 1, debits = debits + 1 {OF_TYPE} 'SPEND'"),
        ("another type", f"UPDATE daily_totals SET entry_type = 'EXPIRY' {OF_TYPE} 'BONUS'"),
    )
]
FOUND_BY_FULL = {"more entries", "another day", "more both ways", "another type"}


@pytest.fixture
def ask(app: Flask, database: URL) -> Callable[..., Rows]:
    connection = psycopg.connect(conninfo(database), autocommit=True)
    return lambda statement, *values: connection.execute(statement, values).fetchall()


@pytest.fixture(autouse=True)
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "SLACK", dt.timedelta(0))


def are_whole(ask: Callable[..., Rows]) -> bool:
    daily_totals.add_up(never)
    return ask(TOTALS) == ask(LEDGER)


def some_of_each() -> None:
    """Move between John's wallets (3, 4) and Doe's (5, 6) by every kind of command, one without an entry among them."""
    for number in range(3):
        said: dict[str, Any] = {"reference": f"r{number}", "origin": ORIGIN}
        service.execute(service.TopUp(wallet_id=3, amount=100 + number, **said))
        service.execute(service.Bonus(wallet_id=4, amount=10, **said))
        service.execute(service.Transfer(wallet_id=3, to_wallet_id=5, amount=7, **said | {"reference": f"t{number}"}))
        spent = service.execute(service.Spend(wallet_id=5, amount=9, **said)).transaction
        place = service.PlaceHold(wallet_id=3, amount=50, expires_in=1_000, **said | {"reference": f"h{number}"})
        hold = service.execute(place).hold
        assert hold is not None
        service.execute(
            service.CaptureHold(wallet_id=3, hold_id=hold.hold_id, amount=20, **said | {"reference": f"c{number}"})
        )
    service.execute(
        service.ReverseTransaction(
            wallet_id=5, transaction_id=spent.transaction_id, reason="a test", **said | {"reference": "back"}
        )
    )
    service.execute(service.Freeze(wallet_id=6, side="both", reason="a test", **said | {"reference": "freeze"}))


def test_every_kind_is_added_up_once(app: Flask, ask: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "ROWS_MAX", 5)
    some_of_each()
    wait_for(partial(are_whole, ask))
    service.execute(service.TopUp(wallet_id=3, amount=5, reference="x", origin=ORIGIN))
    wait_for(partial(are_whole, ask))
    assert sum(row[4] for row in ask(TOTALS)) == ask("SELECT count(*) FROM ledger_entries")[0][0] > 25
    assert service.verify().is_clean


def test_several_workers_and_invented_history(app: Flask, ask: Callable[..., Rows]) -> None:
    """While demo users are made, whose history is older than what was added up before."""
    wait_for(partial(are_whole, ask))
    is_over = threading.Event()

    def work() -> None:
        with app.app_context():
            while not is_over.is_set():
                daily_totals.add_up(never)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    service.seed_users(30, progress=lambda _: None)
    is_over.set()
    for worker in workers:
        worker.join()
    wait_for(partial(are_whole, ask))
    assert len({row[0] for row in ask(TOTALS)}) > 30
    kept = ask("SELECT min(day), max(day) FROM wallet_days")[0]
    assert (kept[1] - kept[0]).days <= 8


@pytest.mark.tampers
def test_tampering_with_the_totals_is_reported(app: Flask, ask: Callable[..., Rows], tamper: Tamper) -> None:
    some_of_each()
    wait_for(partial(are_whole, ask))
    assert service.verify(full=True).is_clean
    kept = {table: [row[0] for row in ask(f"SELECT row::text FROM {table} AS row")] for table in TABLES}
    for tampering in TAMPERINGS:
        tamper(tampering.sql)
        assert service.verify(full=True).broken() == tampering.broken, tampering.name
        assert service.verify().broken() == (set() if tampering.name in FOUND_BY_FULL else tampering.broken)
        for table, rows in kept.items():
            ask(f"WITH gone AS (DELETE FROM {table}) SELECT")
            ask(f"WITH back AS (INSERT INTO {table} SELECT * FROM unnest(%s::text[]::{table}[])) SELECT", rows)
        assert service.verify(full=True).is_clean, tampering.name
    tamper("UPDATE daily_totals SET credits = credits + 1")
    said = app.test_cli_runner().invoke(args=["wallet", "rebuild-totals"])
    assert (said.exit_code, said.output.split("(")[0]) == (0, "The worker ")
    wait_for(partial(are_whole, ask))
    assert service.verify(full=True).is_clean


def test_top_movers_are_those_of_today_and_of_a_week(app: Flask, ask: Callable[..., Rows]) -> None:
    some_of_each()
    wait_for(partial(are_whole, ask))
    # The books may have been seeded before midnight, and this runs after it: here all was moved today.
    ask("UPDATE wallet_days SET day = clock_timestamp() AT TIME ZONE 'UTC' RETURNING day")
    assert daily_totals.find_top_movers() > 0
    found = ask("SELECT days, asset_type_id, is_gain, place, wallet_id, net FROM top_movers ORDER BY 1, 2, 3, 4")
    # What is held is still the wallet's: of 3's three holds of 50, 20 each were spent. Its seed was made today too.
    net = 500 + 303 - 21 - 60
    assert [row[1:] for row in found if row[0] == 1] == [row[1:] for row in found if row[0] == 7]
    assert [(row[4], row[5]) for row in found if row[:2] == (1, 1)] == [(3, net), (5, 300 + 21 - 18)]
