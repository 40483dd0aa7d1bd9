"""A copy that a test used is what its template is, or it is not used again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests import copies
from tests.conftest import conninfo, new_database, run_sql, settings_for
from tests.copies import PAGES_MAX, Copies, Copy, connect
from tests.keys import KEY, client_of
from wallet_app import create_app, service
from wallet_app.db import close_connections

pytestmark = pytest.mark.wide


@pytest.fixture
def own(server: URL) -> Iterator[Copies]:
    """Copies that no other test has had."""
    copies = Copies(server)
    yield copies
    copies.drop_all()


@pytest.fixture
def copy(own: Copies, template: str) -> Iterator[Copy]:
    copy = own.take(template)
    yield copy
    own.drop(copy)


@pytest.fixture
def untouched(server: URL, template: str) -> Iterator[URL]:
    """What a copy is to be like again."""
    yield from new_database(server, template=template)


def contents(url: URL) -> dict[str, list[Any]]:
    """Every row of every table, to the last bit, and every sequence; read otherwise than `copies` does it."""
    names = "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
    with psycopg.connect(conninfo(url)) as connection:
        found = {
            name: connection.cursor(binary=True).execute(f"SELECT {what} FROM {name} ORDER BY 1, 2").fetchall()
            for name, kind in connection.execute(names)
            if (what := {"r": "*, 0", "S": "last_value, is_called"}.get(kind))
        }
    assert {"ledger_entries", "audit_chain", "alembic_version", "operators", "users_id_seq"} <= found.keys()
    return found


def differing(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def use(url: URL) -> None:
    """Do what tests do: movements, users, keys, operators, a verification."""
    app = create_app(settings_for(url))
    with app.app_context():
        client = client_of(app, KEY)
        assert client.post("/wallets/3/topup", json={"amount": 7, "referenceId": "one", "note": "n"}).status_code == 200
        user = client.post("/users", json={"name": "Jane", "externalId": "jane"}).json
        assert user is not None
        assert client.post("/wallets", json={"userId": user["userId"], "asset": "GOLD"}).status_code == 201
        operator = {"email": "olga@wallet.example", "name": "Olga", "role": "admin"}
        service.ensure_development_operator(**operator, password="horse battery staple 47")
        assert service.verify(full=True).is_clean
        close_connections()


def tamper(url: URL) -> None:
    """Do what no test does: leave not one row and not one sequence as it was, past all triggers."""
    with connect(url) as owner:
        owner.execute("SET session_replication_role = replica")
        for name in contents(url):
            if name.endswith("_seq"):
                owner.execute(f"SELECT setval('{name}', 4711)")
            else:
                owner.execute(f"DELETE FROM {name}")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what must be kept: connections that were closed may end late, on a machine however busy."""
    monkeypatch.setattr(copies, "ALONE_SECONDS_MAX", 60.0)


@pytest.mark.usefixtures("unhurried")
def test_a_copy_that_was_used_is_as_if_it_were_new(own: Copies, copy: Copy, template: str, untouched: URL) -> None:
    new = contents(untouched)
    assert not differing(new, contents(copy.url))
    use(copy.url)
    assert differing(new, contents(copy.url)) >= {
        *("ledger_entries", "transactions", "transaction_details", "wallet_balances", "system_balances"),
        *("users", "users_id_seq", "wallets", "wallets_id_seq", "operators", "operators_id_seq"),
        *("audit_log", "audit_log_id_seq", "audit_chain", "verify_marks", "verify_contra_sums", "verify_runs"),
    }
    assert own.give_back(copy)
    again = own.take(template)
    assert again.url != copy.url, "whoever knows the old name finds nothing"
    assert not differing(new, contents(again.url))
    use(again.url)
    tamper(again.url)
    assert differing(new, contents(again.url)) >= {name for name, rows in new.items() if rows}
    assert own.give_back(again)
    third = own.take(template)
    assert not differing(new, contents(third.url))
    own.drop(third)


@pytest.mark.usefixtures("unhurried")
def test_what_was_counted_begins_anew(own: Copies, copy: Copy, template: str) -> None:
    rollbacks = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with connect(copy.url) as connection, pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    with connect(copy.url) as connection:
        assert connection.execute(rollbacks).fetchone() == (1,)
    assert own.give_back(copy)
    again = own.take(template)
    with connect(again.url) as connection:
        assert connection.execute(rollbacks).fetchone() == (0,)
    own.drop(again)


CHANGES = [
    "ALTER DATABASE {database} SET lock_timeout = '60s'",
    "ALTER ROLE wallet_app IN DATABASE {database} SET lock_timeout = '60s'",
    "ALTER DATABASE {database} CONNECTION LIMIT 5",
    "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
    "REVOKE CONNECT ON DATABASE {database} FROM public",
    "DROP TRIGGER wallets_stay ON wallets",
    "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "ALTER TABLE transactions DROP CONSTRAINT pk_transactions",
    "ALTER TABLE ledger_entries ADD CONSTRAINT ck_unlucky CHECK (amount <> 13) NOT VALID",
    "ALTER TABLE users ALTER name SET DEFAULT 'nobody'",
    "ALTER TABLE users ALTER name DROP NOT NULL",
    "ALTER TABLE users ADD COLUMN nickname text",
    "ALTER TABLE wallet_balances SET (fillfactor = 90)",
    "ALTER TABLE wallet_balances SET UNLOGGED",
    "ALTER SEQUENCE users_id_seq INCREMENT BY 2",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE RULE mine AS ON INSERT TO users DO INSTEAD NOTHING",
    "CREATE SCHEMA mine",
    "CREATE TABLE mine (id int)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE TYPE mine AS ENUM ('one')",
    "CREATE INDEX mine ON users (name)",
    "CREATE STATISTICS mine ON id, name FROM users",
    "DROP INDEX ix_transactions_transaction_id",
    "GRANT DELETE ON users TO wallet_app",
    "REVOKE INSERT ON users FROM wallet_app",
    "GRANT CREATE ON SCHEMA public TO wallet_app",
    "GRANT UPDATE (name) ON users TO wallet_app",
    "TRUNCATE verify_runs",
    "ANALYZE users",
    "VACUUM users",
    "INSERT INTO users (name, user_type) SELECT n, 'USER' FROM generate_series(1, 5000) AS n",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_was_changed_by_more_than_rows_is_dropped(
    own: Copies, copy: Copy, server: URL, change: str
) -> None:
    where, oid = server if change.startswith("ALTER DATABASE") else copy.url, oid_of(server, copy)
    run_sql(where, change.format(database=copy.url.database))
    assert not own.give_back(copy)
    assert not is_there(server, oid), "under its new name neither"


def test_a_copy_that_somebody_is_connected_to_is_dropped(own: Copies, copy: Copy, server: URL) -> None:
    oid = oid_of(server, copy)
    with connect(copy.url) as connection:
        assert not own.give_back(copy)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not is_there(server, oid)


def test_a_copy_grows_no_larger_than_the_planner_takes_a_new_one_for(own: Copies, template: str) -> None:
    """Whether it is cleaned in time or dropped: what was deleted in it must not add up."""
    copy, pages = own.take(template), "SELECT max(pg_relation_size(oid)) / 8192 FROM pg_class WHERE relname = 'users'"
    for _ in range(12):
        with connect(copy.url) as connection:
            connection.execute("INSERT INTO users (name, user_type) SELECT n, 'USER' FROM generate_series(1, 300) AS n")
        own.give_back(copy)
        copy = own.take(template)
        with connect(copy.url) as connection:
            assert connection.execute(pages).fetchone() <= (PAGES_MAX + 1,)
    own.drop(copy)


def oid_of(server: URL, copy: Copy) -> int:
    """Return what stays when a database gets another name."""
    with connect(server) as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [copy.url.database]).fetchone()
    assert row is not None
    return int(row[0])


def is_there(server: URL, oid: int) -> bool:
    with connect(server) as connection:
        return connection.execute("SELECT 1 FROM pg_database WHERE oid = %s", [oid]).fetchone() is not None
