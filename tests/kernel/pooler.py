"""A real PgBouncer in transaction mode, with fewer connections to the server than its clients have to it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL

from tests.conftest import conninfo, run_sql

SERVERS = 3
OWN_SETTINGS = {
    "role": "wallet_app",
    "lock_timeout": "60s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
}
"""As the docs say, only longer: on a machine however busy, no wait of these tests may run out."""


def program() -> str:
    """Return the program; where there is none, the test is left out, which is a failure in CI."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        message = "there is no pgbouncer, so the service was not tested behind it"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


@contextmanager
def login(server: URL, settings: dict[str, str]) -> Iterator[URL]:
    """Yield the server's URL for a new login like the docs' wallet_service, with these settings of its own."""
    name, password = f"wallet_pooled_{secrets.token_hex(4)}", secrets.token_hex(8)
    run_sql(server, f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE wallet_app", *own(name, settings))
    try:
        yield server.set(username=name, password=password)
    finally:
        run_sql(server, f"DROP ROLE {name}")


def own(name: str, settings: dict[str, str]) -> Sequence[str]:
    return [f"ALTER ROLE {name} SET {setting} = '{value}'" for setting, value in settings.items()]


class Pooler:
    """PgBouncer before the database of `target`, as its login; `url` is the way through it. A context manager."""

    def __init__(self, target: URL) -> None:
        self._program = program()
        self._folder = Path(tempfile.mkdtemp(prefix="pooler-", dir="/tmp"))
        host = str(target.query.get("host", target.host or "127.0.0.1"))
        # It refuses to be root. Whoever owns the server's socket may use it.
        owner = Path(host).stat().st_uid if host.startswith("/") else 65534
        self._user = {"user": owner} if os.geteuid() == 0 else {}
        if self._user:
            os.chown(self._folder, owner, -1)
        self.url = target.set(host=None, port=None).update_query_dict({"host": str(self._folder), "port": "6432"})
        port = target.query.get("port", target.port or 5432)
        (self._folder / "users").write_text(f'"{target.username}" "{target.password}"\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={host} port={port}\n"
            f"[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {SERVERS}\nmax_client_conn = 500\n"
            f"listen_addr =\nlisten_port = 6432\nunix_socket_dir = {self._folder}\n"
            f"auth_type = trust\nauth_file = {self._folder}/users\nadmin_users = {target.username}\n"
            "server_login_retry = 1\nquery_wait_timeout = 60\nlog_connections = 0\nlog_disconnections = 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Pooler:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def up(self) -> None:
        """Start it, and return once it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-q", self._folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._user,  # type: ignore[arg-type]
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.command("SHOW VERSION")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does, with all its connections to both sides."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self._folder / ".s.PGSQL.6432").unlink(missing_ok=True)

    def command(self, what: str) -> None:
        """Tell its console something, like RECONNECT: take new connections to the server."""
        with psycopg.connect(conninfo(self.url.set(database="pgbouncer")), autocommit=True) as console:
            console.execute(sql.SQL(what))  # type: ignore[arg-type]
