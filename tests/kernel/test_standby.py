"""A COMMIT that waits for a standby which is not there: on a server of its own, because the setting is the server's."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import flask_migrate
import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from tests.conftest import conninfo, settings_for
from tests.kernel.conftest import JOHN, ORIGIN
from tests.kernel.pooler import Pooler
from wallet_app import create_app, devdb, service
from wallet_app.db import close_connections
from wallet_app.errors import OutcomeUnknownError

pytestmark = pytest.mark.slow


@pytest.fixture(params=["directly", "behind a pooler"])
def lonely_server(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The superuser's connection to a primary whose standby is away, under a service with seeded books."""
    folder = Path(tempfile.mkdtemp(prefix="dino-"))
    folder.chmod(0o711)
    with devdb.start(folder / "data", log=lambda _: None) as server:
        url = make_url(server.superuser_url)
        with create_app(settings_for(url)).app_context():
            flask_migrate.upgrade()
            service.seed(demo=True)
            close_connections()
        with (
            serving(make_url(server.service_url), is_pooled=request.param != "directly"),
            psycopg.connect(conninfo(url), autocommit=True) as superuser,
        ):
            superuser.execute("SET synchronous_commit = local")
            superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
            superuser.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + 30
            while not waits_for_the_standby(url, superuser):
                assert time.monotonic() < deadline, "the setting is not in force"
            yield superuser
    shutil.rmtree(folder)


@contextmanager
def serving(url: URL, *, is_pooled: bool) -> Iterator[None]:
    """Let the service be current that works on this database, past a pooler or through it."""
    with ExitStack() as stack:
        settings = settings_for(url)
        if is_pooled:
            url = stack.enter_context(Pooler(url)).url
            settings = replace(settings_for(url), migration_url=None, db_pooler="transaction")
        stack.enter_context(create_app(settings).app_context())
        yield
        close_connections()


def test_a_commit_whose_wait_for_the_standby_is_cancelled_is_answered_as_unknown(
    lonely_server: psycopg.Connection[tuple[object, ...]],
) -> None:
    """PostgreSQL reports such a COMMIT as success, and only warns."""
    command = service.Spend(wallet_id=JOHN, amount=7, reference="lonely", origin=ORIGIN)
    for _ in range(2):  # A replay has locked the wallet's row, so that its COMMIT waits for the standby too.
        threading.Thread(target=cancel_the_wait, args=(lonely_server,), daemon=True).start()
        with pytest.raises(OutcomeUnknownError):
            service.execute(command)
    assert lonely_server.execute("SELECT count(*) FROM transactions WHERE reference_id = 'lonely'").fetchone() == (1,)
    lonely_server.execute("ALTER SYSTEM RESET synchronous_standby_names")
    lonely_server.execute("SELECT pg_reload_conf()")
    time.sleep(0.3)
    assert service.execute(command).is_replay


def waits_for_the_standby(url: URL, superuser: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Commit something, and tell whether that waits for the standby: a server takes its settings up by and by."""
    with psycopg.connect(conninfo(url), autocommit=True) as probe, ThreadPoolExecutor(1) as pool:
        committing = pool.submit(probe.execute, "SELECT pg_logical_emit_message(true, 'a test', '')")
        while not committing.done():
            waits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s"
            if superuser.execute(waits, [probe.info.backend_pid]).rowcount:
                committing.result(30)
                return True
            time.sleep(0.01)
        committing.result()
    return False


def cancel_the_wait(superuser: psycopg.Connection[tuple[object, ...]]) -> None:
    # statement_timeout would not: PostgreSQL ends it before the wait begins.
    for _ in range(600):
        time.sleep(0.05)
        waits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        if superuser.execute(waits).rowcount:
            return
