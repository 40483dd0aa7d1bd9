"""Every test runs on a real PostgreSQL: DATABASE_URL's, or one of this process alone.

That is the embedded one, or one of the programs in the folder WALLET_TEST_POSTGRES.
Databases are named wallet_test_<random>, made and dropped here; the database that DATABASE_URL names is never touched.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import flask_migrate
import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from tests import made_once
from tests.copies import Copies
from tests.keys import KEY, PEPPERS, TOKEN_KEYS, client_of
from tests.verifying import require_right
from wallet_app import access, create_app, devdb, service
from wallet_app.config import Settings
from wallet_app.db import close_connections

Tamper = Callable[..., None]

# The same cases on every machine, as in CI: some tests count what comes of theirs, and all of it must.
settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    made_once.compile_once()


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """The URL of a login that may create databases and guards nothing: superuser on the embedded server."""
    if given := os.environ.get("DATABASE_URL"):
        yield make_url(given)
        return
    # Not pytest's temporary folder: it is closed to the user that PostgreSQL runs as when we are root.
    folder = Path(tempfile.mkdtemp(prefix="wallet-test-"))
    folder.chmod(0o711)
    try:
        bin_dir = Path(given) if (given := os.environ.get("WALLET_TEST_POSTGRES")) else None
        with devdb.start(folder, bin_dir=bin_dir, log=lambda _: None) as started:
            server = make_url(started.superuser_url)
            weaken_password(server)
            yield server
    finally:
        shutil.rmtree(folder)


def weaken_password(server: URL) -> None:
    """Let whoever connects derive the password's key in one round instead of 4,096, which is a fifth of connecting."""
    with psycopg.connect(conninfo(server), autocommit=True) as connection:
        if connection.info.server_version < 160_000:
            return
        connection.execute("SET scram_iterations = 1")
        change = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(change.format(sql.Identifier(str(server.username)), sql.Literal(server.password)))


def run_sql(url: URL, *statements: str) -> None:
    """Run statements outside of any transaction."""
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template(server: URL) -> Iterator[str]:
    """A migrated and seeded database (Treasury 1 and 2, John 3 and 4, Doe 5 and 6): tests get copies of it."""
    name = f"wallet_test_{secrets.token_hex(4)}_template"
    run_sql(server, f"CREATE DATABASE {name}")
    try:
        app = create_app(settings_for(server.set(database=name)))
        with app.app_context():
            flask_migrate.upgrade()
            service.seed(demo=True)
            by = service.By(actor="tests")
            access.gate_of(app).ensure_key(KEY, client="tests", by=by)
            close_connections()
        yield name
    finally:
        run_sql(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def settings_for(url: URL) -> Settings:
    rendered = url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    return Settings(
        database_url=rendered,
        migration_url=rendered,
        rate_limit="",
        rate_limit_key="",
        pool_size=20,
        data_dir=Path("unused"),
        key_peppers=PEPPERS,
        token_keys=TOKEN_KEYS,
        totp_key=bytes(range(32)),
    )


def new_database(server: URL, *, template: str = "template1") -> Iterator[URL]:
    """Yield the URL (of the owner) of a database that is dropped afterwards: a copy of `template`, or an empty one."""
    url = server.set(database=f"wallet_test_{secrets.token_hex(6)}")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    try:
        yield url
    finally:
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


@pytest.fixture(scope="session")
def database_copies(server: URL) -> Iterator[Copies]:
    """Copies of the templates, which one test after the other uses."""
    copies = Copies(server)
    yield copies
    copies.drop_all()


def lend(copies: Copies, template: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    """Yield the URL (of the owner) of a copy of the template that is as if it were new.

    After a test that failed nobody knows what still runs, so the next test does not get its copy.
    """
    copy = copies.take(template)
    failed_before = request.session.testsfailed
    try:
        yield copy.url
    finally:
        if request.session.testsfailed > failed_before:
            copies.drop(copy)
        else:
            copies.give_back(copy)


@pytest.fixture
def database(database_copies: Copies, template: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    """The URL (of the owner) of a database with the seeded books and nothing else."""
    yield from lend(database_copies, template, request)


@pytest.fixture
def empty(server: URL) -> Iterator[URL]:
    """The URL (of the owner) of a new database with nothing in it."""
    yield from new_database(server)


@pytest.fixture
def app(database: URL, database_copies: Copies, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The service on a fresh database, in an application context.

    What the test changed in its books is verified when it is over, unless it is marked `tampers`.
    """
    app = create_app(settings_for(database))
    with app.app_context():
        try:
            yield app
            if request.node.get_closest_marker("tampers") is None:
                require_right(database_copies.changed(database))
        finally:
            close_connections()


@pytest.fixture
def tamper(app: Flask, database: URL) -> Iterator[Tamper]:
    """Run statements as someone who can switch the guards off."""
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")

        def run(*statements: str) -> None:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

        yield run


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the API, on the same database as `app`."""
    return client_of(app)
