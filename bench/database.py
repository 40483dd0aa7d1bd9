"""A database of the benchmark's own: on an embedded PostgreSQL in a throw-away folder, or on DATABASE_URL's server."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg
from flask import Flask
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from bench import keys, machine
from wallet_app import create_app, devdb, service
from wallet_app.config import Settings
from wallet_app.db import close_connections

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
TOLD = (
    "server_version",
    *DURABLE,
    "wal_sync_method",
    "commit_delay",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "wal_compression",
    "max_connections",
    "autovacuum",
)


class NotDurableError(Exception):
    """The server would lose what it has acknowledged: its speed would be no result."""


@dataclass(frozen=True)
class Database:
    """How to reach a database as the service, as the owner of the tables, and as the strongest login there is."""

    service_url: URL
    owner_url: URL
    admin_url: URL
    where: str
    postgres_id: int | None
    """The server's process, where it is ours to look at."""

    def named(self, name: str) -> Database:
        """Return how to reach another database of the same server."""
        return replace(
            self,
            service_url=self.service_url.set(database=name),
            owner_url=self.owner_url.set(database=name),
            admin_url=self.admin_url.set(database=name),
        )

    @property
    def name(self) -> str:
        """The database's name."""
        return str(self.owner_url.database)

    def environment(self) -> dict[str, str]:
        """Return the settings by which the service finds it, and who asks."""
        return {
            "DATABASE_URL": render(self.service_url),
            "DATABASE_MIGRATION_URL": render(self.owner_url),
            **keys.SETTINGS,
        }

    def connect(self, *, admin: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        """Return an owner's connection that commits each statement and is not hurried."""
        connection = _connect(self.admin_url if admin else self.owner_url)
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET lock_timeout = 0")
        return connection

    def is_superuser(self) -> bool:
        """Whether the strongest login may do everything."""
        with self.connect(admin=True) as connection:
            return connection.execute("SELECT current_setting('is_superuser')").fetchone() == ("on",)

    def settings(self) -> dict[str, str]:
        """Return the server's settings as the service finds them; raise NotDurableError where one would lose money."""
        found = _show(self.service_url)
        # A role may have settings of its own, and the yardstick is run as the owner.
        for one in (found, _show(self.owner_url)):
            if wrong := [name for name in DURABLE if one[name] != "on"]:
                raise NotDurableError(f"{', '.join(wrong)} must be on: a result without durability says nothing.")
        return found


def _connect(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(render(url.set(drivername="postgresql")), autocommit=True)


def _show(url: URL) -> dict[str, str]:
    with _connect(url) as connection:
        rows = connection.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(TOLD)])
        return {str(name): str(value) for name, value in rows}


def render(url: URL) -> str:
    """Return the URL as text, with its password."""
    return url.render_as_string(hide_password=False)


@contextmanager
def open_server(parent: Path) -> Iterator[tuple[Database, Path]]:
    """Yield a server, as its login's own database, and a folder for the run; both are gone afterwards.

    DATABASE_URL's server where there is one, else an embedded PostgreSQL in the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="wallet-bench-", dir=parent))
    folder.chmod(0o711)  # As root the server runs as another user, who has to pass through.
    try:
        if given := os.environ.get("DATABASE_URL"):
            url = make_url(given).set(drivername="postgresql+psycopg")
            yield Database(url, url, url, f"{url.host or 'a local socket'}, by DATABASE_URL", None), folder
        else:
            with devdb.start(folder / "data", log=lambda _: None) as server:
                place = f"{folder / 'data'} ({machine.file_system(folder)})"
                yield _embedded(server, place), folder
    finally:
        shutil.rmtree(folder)


def _embedded(server: devdb.DevDatabase, place: str) -> Database:
    return Database(
        make_url(server.service_url),
        make_url(server.owner_url),
        make_url(server.superuser_url),
        f"embedded, in {place}",
        server.process.pid,
    )


@contextmanager
def new_database(server: Database, template: str | None = None) -> Iterator[Database]:
    """Yield a database of our own on the server, empty or a copy of `template`; it is dropped afterwards."""
    name = f"wallet_bench_{secrets.token_hex(4)}"
    made_from = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + made_from)
    try:
        yield server.named(name)
    finally:
        # An owner may not end autovacuum's worker, which may be there.
        with server.connect(admin=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def migrate(database: Database) -> None:
    """Make the tables, the assets and the SYSTEM wallets."""
    with application(database):
        flask_migrate.upgrade()
        service.seed(demo=False)


@contextmanager
def application(database: Database) -> Iterator[Flask]:
    """Let this process call the service on the database."""
    app = create_app(Settings.from_env({**database.environment(), "WALLET_RATE_LIMIT": ""}))
    with app.app_context():
        try:
            yield app
        finally:
            close_connections()
