"""The service behind PgBouncer in transaction mode: several processes, and three connections to the server for all."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, ProgrammingError

from tests.conftest import conninfo, run_sql, settings_for
from tests.kernel.conftest import DOE, JOHN, ORIGIN, Books, serve
from tests.kernel.pooler import OWN_SETTINGS, SERVERS, Pooler, login, own
from tests.kernel.processes import Answer, answer_to, execute, in_processes
from tests.platform.conftest import REPOSITORY, Service, clean_environment, free_port
from tests.verifying import require_right_books
from wallet_app import db, service
from wallet_app.config import ConfigurationError, Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROCESSES = 3
THREADS = 17


@pytest.fixture
def target(server: URL, database: URL) -> Iterator[URL]:
    """The database's URL for a login that brings its own settings."""
    with login(server, OWN_SETTINGS) as url:
        yield url.set(database=database.database)


@pytest.fixture
def pooler(target: URL) -> Iterator[Pooler]:
    with Pooler(target) as pooler:
        yield pooler


def behind(pooler: Pooler, **more: Any) -> Settings:
    return replace(settings_for(pooler.url), **({"migration_url": None, "db_pooler": "transaction"} | more))


@pytest.fixture(params=[False, True], ids=["alone", "grouped"])
def settings(pooler: Pooler, request: pytest.FixtureRequest) -> Settings:
    """A service's settings behind the pooler, with and without group commit."""
    return behind(pooler, group_commit=request.param)


@pytest.fixture
def books(pooler: Pooler, database: URL) -> Iterator[Books]:
    """A service behind the pooler, and the owner's way past it; the books must be right when the test is over."""
    for served in serve(pooler.url, migration_url=None, db_pooler="transaction"):
        yield Books(served.app, database)
        assert Books(None, database).faults() == {}
        require_right_books()


def most_servers(books: Books, over: threading.Event) -> list[int]:
    """Note, until it is over, how many connections to the server the pooler has."""
    seen = [0]

    def look() -> None:
        with books.connect(autocommit=True) as connection:
            while not over.wait(0.05):
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity "
                    " WHERE datname = current_database() AND usename LIKE 'wallet_pooled_%'"
                ).fetchone()
                seen.append(int(row[0]) if row else 0)

    threading.Thread(target=look, daemon=True).start()
    return seen


# --- the books ---


def spend_five() -> list[Answer]:
    reference = f"spend-{secrets.token_hex(8)}-"
    return [
        execute(service.Spend(wallet_id=JOHN, amount=5, reference=f"{reference}{n}", origin=ORIGIN)) for n in range(3)
    ]


def test_processes_spend_a_wallet_down_to_exactly_nothing(books: Books, settings: Settings) -> None:
    over = threading.Event()
    servers = most_servers(books, over)
    answers = in_processes(settings, [spend_five] * PROCESSES, threads=THREADS)
    over.set()
    assert len(answers) == 153
    assert sorted(answer.balance_after for answer in answers if answer.error is None) == list(range(0, 500, 5))  # type: ignore[type-var]
    assert {answer.error for answer in answers} == {None, "InsufficientBalanceError"}
    assert books.balance(JOHN) == 0
    assert max(servers) == SERVERS


def top_up_once() -> list[Answer]:
    return [execute(service.TopUp(wallet_id=JOHN, amount=7, reference="once", origin=ORIGIN))]


def test_the_same_reference_from_50_threads_makes_exactly_one_entry(books: Books, settings: Settings) -> None:
    answers = in_processes(settings, [top_up_once] * PROCESSES, threads=THREADS)
    assert {answer.error for answer in answers} == {None}
    assert sorted(answer.is_replay for answer in answers) == [False] + [True] * (PROCESSES * THREADS - 1)
    assert {answer.balance_after for answer in answers} == {507}
    assert (books.balance(JOHN), books.entries(JOHN), books.transactions("once")) == (507, 2, 1)


def post_batches(mode: str) -> list[Answer]:
    answers = []
    for _ in range(5):
        reference = f"batch-{secrets.token_hex(8)}-"
        batch = [
            kind(wallet_id=wallet_id, amount=1, reference=f"{reference}{n}", origin=ORIGIN)
            for n in range(20)
            for kind, wallet_id in ((service.TopUp, JOHN if n % 2 else DOE), (service.Spend, DOE if n % 2 else JOHN))
        ]
        post = service.execute_atomic if mode == "atomic" else service.execute_each
        answers += [answer_to(one, outcome) for one, outcome in zip(batch, post(batch, seconds_max=60), strict=True)]
    return answers


def test_batches_of_both_modes_in_all_processes_are_posted_whole(books: Books, settings: Settings) -> None:
    works = [partial(post_batches, mode) for mode in ("atomic", "each", "atomic")]
    answers = in_processes(settings, works, threads=3)
    assert {answer.error for answer in answers} == {None}
    versions = {(answer.wallet_id, answer.version) for answer in answers}
    assert versions == {(wallet_id, version) for wallet_id in (JOHN, DOE) for version in range(2, 902)}
    assert (books.balance(JOHN), books.balance(DOE)) == (500, 300)


def top_up_until_told() -> list[Answer]:
    """Post 40 top-ups one after the other, each repeated with its reference until the answer is a receipt."""
    reference = f"stubborn-{secrets.token_hex(8)}-"
    answers = []
    for n in range(40):
        command = service.TopUp(wallet_id=JOHN, amount=1, reference=f"{reference}{n}", origin=ORIGIN)
        deadline = time.monotonic() + 60
        while (answer := execute(command, seconds_max=5)).error is not None and time.monotonic() < deadline:
            answers.append(answer)
            time.sleep(0.05)
        answers.append(answer)
    return answers


def test_a_pooler_that_is_killed_and_started_again_loses_and_doubles_nothing(
    books: Books, pooler: Pooler, settings: Settings
) -> None:
    over = threading.Event()

    def trouble() -> None:
        begun = books.entries(JOHN)
        while not over.is_set():
            if Books(None, books.url).sql("SELECT version FROM wallet_balances WHERE wallet_id = 3")[0][0] > begun + 60:
                begun += 150
                pooler.kill()
                time.sleep(0.3)
                pooler.up()
            time.sleep(0.02)

    with books.app.app_context():  # type: ignore[union-attr]
        troubled = threading.Thread(target=trouble)
        troubled.start()
        answers = in_processes(settings, [top_up_until_told] * PROCESSES, threads=8)
        over.set()
        troubled.join(30)
    posted = [answer for answer in answers if answer.error is None]
    errors = {answer.error for answer in answers if answer.error is not None}
    assert errors, "the pooler was never away"
    assert errors <= {"DatabaseUnavailableError", "OutcomeUnknownError", "WalletBusyError"}
    assert len(posted) == len({answer.reference for answer in posted}) == PROCESSES * 8 * 40
    assert sorted(answer.version for answer in posted) == list(range(2, 2 + len(posted)))  # type: ignore[type-var]
    assert books.balance(JOHN) == 500 + len(posted)
    assert books.entries(JOHN) == 1 + len(posted)


# --- what else asks the database ---


def test_reads_previews_and_the_commands_for_the_books_work(books: Books) -> None:
    for _ in range(20):  # More often than psycopg waits before it prepares.
        assert service.get_wallet(JOHN).balance == 500
        assert len(service.list_entries(JOHN, before_seq=None, limit=10)) == 1
    with service.previewing() as preview:
        for balance in (495, 490):
            (outcome,) = preview.preview([books.spend(JOHN, 5)])
            assert isinstance(outcome, service.Receipt)
            assert outcome.wallets[0].balance == balance
    service.seed(demo=True)
    assert service.verify().is_clean
    assert service.rebuild_balances().changes == []
    assert books.balance(JOHN) == 500


def test_nothing_stays_behind_on_the_servers_connections(books: Books, pooler: Pooler) -> None:
    """Whoever is handed a connection next finds what its login brings, no lock and no statement."""
    pooler.command("RECONNECT")
    for _ in range(6):
        service.execute(books.top_up(JOHN, 1))
        service.get_wallet(JOHN)
    service.verify()
    with service.previewing() as preview:
        preview.preview([books.spend(JOHN, 5)])
    with psycopg.connect(conninfo(pooler.url), prepare_threshold=None) as next_client:
        shown = next_client.execute("SELECT name, source FROM pg_settings WHERE source IN ('session', 'user')")
        settings = dict(shown.fetchall())
        # What PgBouncer itself sets, for each client as that asks for it.
        tracked = {"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "role"}
        assert {name for name, source in settings.items() if source == "session"} <= tracked
        assert {name for name, source in settings.items() if source == "user"} >= OWN_SETTINGS.keys() - {"role"}
        assert next_client.execute("SELECT current_user").fetchone() == ("wallet_app",)
        assert next_client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert books.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_the_whole_service_migrates_past_the_pooler_and_serves_through_it(
    pooler: Pooler, database: URL, tmp_path: Path
) -> None:
    running = Service(
        tmp_path,
        DATABASE_URL=conninfo(pooler.url),
        DATABASE_MIGRATION_URL=conninfo(database),
        WALLET_DB_POOLER="transaction",
        WALLET_WORKERS="2",
    )
    try:
        running.wait_until_ready()
        for n in range(10):
            status, body = running.request("POST", "/wallets/3/spend", {"amount": 5, "referenceId": f"order-{n}"})
            assert (status, body["balance"]) == (200, 495 - 5 * n)
        assert running.request("GET", "/wallets/3/balance")[1]["balance"] == 450
    finally:
        assert running.stop() == 0
    assert "Traceback" not in running.said()
    assert Books(None, database).faults() == {}


# --- what the login must bring ---


def test_a_login_without_settings_of_its_own_is_refused_with_the_cure(server: URL, database: URL) -> None:
    with login(server, {}) as bare, Pooler(bare.set(database=database.database)) as pooler:
        with pytest.raises(ConfigurationError) as refused:
            db.require_ready_login(behind(pooler))
        (cure,) = [part for part in str(refused.value).split("`") if part.startswith("ALTER ROLE")]
        assert cure.split("; ") == list(own(str(bare.username), LIKE_THE_DOCS))
        for served in serve(pooler.url, migration_url=None, db_pooler="transaction"):
            with pytest.raises(DBAPIError, match="ALTER ROLE"):
                service.get_wallet(JOHN)
            # The login itself may do it, and through the pooler at that.
            run_sql(pooler.url, *cure.split("; "))
            pooler.command("RECONNECT")
            db.require_ready_login(behind(pooler))
            assert service.execute(Books(served.app, database).top_up(JOHN, 1)).wallets[0].balance == 501


LIKE_THE_DOCS = {
    "role": "wallet_app",
    "lock_timeout": "2s",
    "statement_timeout": "4s",
    "idle_in_transaction_session_timeout": "5s",
}


def test_the_server_does_not_start_with_such_a_login_and_says_why(server: URL, database: URL) -> None:
    with login(server, {}) as bare, Pooler(bare.set(database=database.database)) as pooler:
        done = subprocess.run(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
            cwd=REPOSITORY,
            env=clean_environment()
            | {"DATABASE_URL": conninfo(pooler.url), "WALLET_DB_POOLER": "transaction", "PORT": str(free_port())},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "Dino Wallet cannot start: behind a pooler the login" in done.stderr
    assert "Traceback" not in done.stderr


# --- controls: what goes wrong without the setting ---


def test_control_without_the_setting_a_role_is_missing_on_a_fresh_server_connection(server: URL, database: URL) -> None:
    with login(server, {}) as bare, Pooler(bare.set(database=database.database)) as pooler:
        for _ in serve(pooler.url):
            acts_as = text("SELECT current_user, current_setting('lock_timeout')")
            with db.db.engine.connect() as connection:
                assert connection.execute(acts_as).one() == ("wallet_app", "2s")
            pooler.command("RECONNECT")
            with db.db.engine.connect() as connection:
                assert connection.execute(acts_as).one() == (bare.username, "0")


def test_control_without_the_setting_a_prepared_statement_is_not_there(target: URL, pooler: Pooler) -> None:
    for _ in serve(pooler.url):
        for _ in range(6):
            service.get_wallet(JOHN)
        pooler.command("RECONNECT")
        missing = r'prepared statement "read_plain_wallet" does not exist'
        with pytest.raises((ProgrammingError, DBAPIError), match=missing):
            service.get_wallet(JOHN)


def test_a_migration_does_not_go_through_the_pooler(pooler: Pooler, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "db", "upgrade"],
        cwd=REPOSITORY,
        env=clean_environment() | {"DATABASE_URL": conninfo(pooler.url), "WALLET_DB_POOLER": "transaction"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "set DATABASE_MIGRATION_URL to the server itself" in done.stderr
