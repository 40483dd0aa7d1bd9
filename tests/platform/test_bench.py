"""`make bench` and `make bench-growth`, tiny: what they tell, and that they can say no."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo, run_sql
from tests.platform.conftest import python
from wallet_app import service

# What bench/ needs is installed for `make bench` and `make test-all` alone, so it is imported where it is used.
if TYPE_CHECKING:
    from bench.database import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def measure(module: str, results: Path, *arguments: str, **settings: str) -> tuple[str, dict[str, Any]]:
    """Run a benchmark to its good end; return what it printed, and its result."""
    done = python("-m", module, "--quick", "--results", str(results), *arguments, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = results.glob("*.json")
    return done.stdout, json.loads(file.read_text())


def test_a_tiny_run_reports_rates_ratios_and_right_books_and_leaves_no_database(server: URL, tmp_path: Path) -> None:
    only = "spend-random-64,pgbench-random-*,balance-64,kernel-64,open-random-50,replays-64"
    url = server.render_as_string(hide_password=False)
    said, result = measure("bench", tmp_path, "--only", only, DATABASE_URL=url)
    for name, cell in result["cells"].items():
        (sample,) = cell["samples"]
        assert sample["failed"] == 0, (name, said)
        assert sample["rate"] > 0
        assert name.startswith(("pgbench", "kernel")) or sample["latency_ms"]["99"] > 0
    assert len(result["cells"]) == 7
    rates = {name: cell["samples"][0]["rate"] for name, cell in result["cells"].items()}
    best = max(rates["pgbench-random-16"], rates["pgbench-random-64"])
    (ratio,) = result["ratios"]["random wallets, 64 connections"]
    assert ratio == pytest.approx(rates["spend-random-64"] / best, abs=0.001)
    assert result["settings"]["fsync"] == result["settings"]["synchronous_commit"] == "on"
    assert result["machine"]["commit"]
    books = result["books"]
    assert books["faults"] == []
    assert books["entries_min"] <= books["entries"] <= books["entries_max"]
    assert "Money is conserved and the verification is clean." in said
    assert len(list(tmp_path.glob("*.svg"))) >= 2
    with psycopg.connect(conninfo(server)) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'wallet_bench_%'").fetchall()
    assert left == []


@pytest.mark.long
def test_a_tiny_growth_makes_ledgers_that_verify_and_measures_them_all(tmp_path: Path) -> None:
    said, result = measure("bench.growth", tmp_path)
    assert result["faults"] == []
    assert set(result["verify_full_seconds"]) == {"1000", "10000"}
    sizes = {name.partition("@")[2] for name in result["cells"]}
    assert sizes == {"1000", "10000"}
    assert all(sample["failed"] == 0 for cell in result["cells"].values() for sample in cell["samples"]), said
    (plans,) = tmp_path.glob("*.plans.txt")
    sections = [part for part in plans.read_text().split("\n## ") if not part.startswith(("#", "Tables"))]
    assert len(sections) == 2 * 5
    assert [part for part in sections if "Query Text: " not in part] == []


def test_a_grown_ledger_verifies_when_many_entries_are_of_one_instant(
    empty: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of one instant in different wallets are different transactions."""
    from bench.database import application, migrate
    from bench.growth import history
    from bench.wallets import make_wallets

    monkeypatch.setattr(history, "ROUND", dt.timedelta(milliseconds=1))
    database = as_database(empty)
    migrate(database)
    grown = history.History(make_wallets(database, 2_000))
    grown.grow(database, 4_000, tell=lambda _: None)
    with database.connect() as connection:
        ((instants,),) = connection.execute("SELECT count(DISTINCT created_at) FROM ledger_entries").fetchall()
    assert instants < 3_000, "too few of one instant to tell"
    with application(database):
        assert service.verify(full=True).is_clean


@pytest.mark.long
def test_a_tiny_run_of_the_pages_asks_for_every_one_and_leaves_none_out(tmp_path: Path) -> None:
    said, result = measure("bench.pages", tmp_path)
    assert result["left"] == [], said
    assert len({page["rule"] for page in result["pages"]}) > 90
    found = {status for page in result["pages"] for status in page["statuses"]}
    assert found <= {200, 303}, "each is asked for as it answers something"
    assert all(page["p50_ms"] > 0 for page in result["pages"])


def as_database(url: URL) -> Database:
    from bench.database import Database

    return Database(url, url, url, "a test's", None)


def spend(reference: str) -> None:
    origin = service.Origin(client="test", actor="test")
    service.execute(service.Spend(wallet_id=3, reference=reference, origin=origin, amount=1))


@pytest.mark.tampers
def test_an_entry_too_few_or_a_coin_too_many_is_a_fault(app: Flask, database: URL) -> None:
    from bench import books

    spend("one")
    entries = books.count_entries(as_database(database))
    assert books.faults(as_database(database), entries_min=entries, entries_max=entries)[0] == []
    (fault,) = books.faults(as_database(database), entries_min=entries + 1, entries_max=entries + 1)[0]
    assert fault == f"There are {entries} entries; from {entries + 1} to {entries + 1} were posted."
    run_sql(database, "UPDATE system_balances SET balance = balance + 1 WHERE wallet_id = 1")
    found, _ = books.faults(as_database(database), entries_min=entries, entries_max=entries)
    assert "All GOLD together make 1." in found
    assert any(fault.startswith("verify, ") for fault in found)


def test_a_server_that_may_lose_a_commit_is_refused(server: URL, database: URL) -> None:
    from bench.database import NotDurableError

    as_database(database).settings()
    run_sql(server, f"ALTER DATABASE {database.database} SET synchronous_commit = off")
    with pytest.raises(NotDurableError, match="synchronous_commit must be on"):
        as_database(database).settings()


@pytest.fixture
def stage(app: Flask, database: URL, tmp_path: Path) -> Iterator[Any]:
    """The real service on the test's database, which cells can be run on."""
    from bench.cells import Stage
    from bench.serving import serve

    with serve(as_database(database), tmp_path, WALLET_RATE_LIMIT="") as running:
        yield Stage(as_database(database), tmp_path, running, running, [3], seconds=3)


def test_what_is_refused_is_a_failure_and_not_a_speed(stage: Any) -> None:
    from bench.cells import Cell, ask
    from bench.http_load import Load
    from bench.rounds import measure

    stage.items("wallets").write_text("999999\n")
    load = Load("spend", stage.items("wallets"), 4, 1, "refused")
    sample = measure(stage, Cell("refused", "refused", lambda stage: ask(stage, load)))
    assert sample is not None
    assert sample["rate"] is None
    assert sample["failed"] > 10
    assert (sample["operations"], stage.posted_min) == (0, 0)


def test_an_open_loop_counts_the_wait_of_those_who_came_while_the_service_stood_still(stage: Any) -> None:
    from bench import http_load
    from bench.http_load import Load

    stage.items("wallets").write_text("3\n")
    load = Load("balance", stage.items("wallets"), 4, 4, "open", rate=100)
    processes = [stage.service.tree.root, *stage.service.tree.root.children(recursive=True)]
    calm = http_load.run(stage.service, load)

    def stand_still() -> None:
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        threading.Event().wait(1)
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)

    timer = threading.Timer(2, stand_still)
    timer.start()
    stalled = http_load.run(stage.service, load)
    timer.join()
    assert calm.failed == stalled.failed == 0
    # A quarter of those who came had to wait; a closed loop of 4 would have asked 4 times in that second.
    assert stalled.latency["99"] > 400
    assert stalled.answered > 200
    assert calm.latency["50"] < stalled.latency["99"]
