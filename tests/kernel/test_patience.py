"""A database that is stopped and says nothing: who asks it is told so in time, and it is used again when it goes on.

PostgreSQL's processes are really stopped, by SIGSTOP: their connections stand, and new ones are taken by the kernel.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.kernel.conftest import JOHN, Books
from wallet_app import metrics, patience, service
from wallet_app.db import close_connections, db, is_away, snapshot, take_time, unit_of_work
from wallet_app.metrics import watch

pytestmark = pytest.mark.wide

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def stopped(books: Books, *, postmaster: bool) -> Iterator[None]:
    """Stop all that serves the database's connections; with the postmaster, nobody gets a new one either."""
    # The checkpointer's parent, because a backend of a connection that was closed may be gone at any moment.
    ((checkpointer,),) = books.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    pids = [pid for (pid,) in books.sql(BACKENDS)]
    if postmaster:
        pids.append(int(Path(f"/proc/{checkpointer}/stat").read_text().rsplit(")", 1)[1].split()[1]))
    done: list[int] = []
    try:
        try:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    done.append(pid)
        except PermissionError:
            message = "the database's processes are not ours to stop, so it was not tried what becomes of that"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        yield
    finally:
        for pid in done:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def impatient(books: Books, monkeypatch: pytest.MonkeyPatch) -> Books:
    """Books whose database must answer within a second and a half, and a process that looks for overdue waits."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(watch, "_SECONDS", 0.1)
    books.sql(f"ALTER DATABASE {books.url.database} SET statement_timeout = '1s'")
    close_connections()
    service.get_wallet(JOHN)
    with unit_of_work() as connection:
        connection.execute(text("SELECT"))
    metrics.start()
    return books


def seconds_of(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    with pytest.raises(Exception) as told:
        work()
    assert is_away(told.value), told.value
    return time.monotonic() - begun


def test_a_read_of_a_stopped_database_is_given_up_in_time(impatient: Books) -> None:
    with stopped(impatient, postmaster=True):
        # The answer's time, and three seconds to connect anew.
        assert seconds_of(lambda: service.get_wallet(JOHN)) < 7
    assert service.get_wallet(JOHN).balance == 500


def test_where_only_the_connections_are_stopped_a_read_is_answered_by_another_one(impatient: Books) -> None:
    with stopped(impatient, postmaster=False):
        assert service.get_wallet(JOHN).balance == 500
        receipt = service.execute(impatient.top_up(JOHN, 7, "once"), seconds_max=10)
    assert receipt.wallets[0].balance == 507
    assert impatient.transactions("once") == 1


def test_who_takes_time_is_waited_for_and_only_until_the_end(impatient: Books) -> None:
    sleep = text("SELECT pg_sleep(2)")
    with snapshot() as connection:
        take_time(connection, 5)
        connection.execute(sleep)
    with unit_of_work() as connection:
        take_time(connection, 5)
        connection.execute(sleep)
    for engine in (db.engine, db.engines["reads"]):
        with engine.connect() as connection:
            assert connection.connection.driver_connection.patience == 1.5
            with pytest.raises(OperationalError, match="statement timeout"):
                connection.execute(sleep)
