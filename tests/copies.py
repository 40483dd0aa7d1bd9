"""Copies of template databases for the tests: what a test leaves is put back, and the next test has the copy again.

To make a database and to drop it costs more than most tests do. What cannot be put back is dropped: a changed schema or
setting, tables that grew, and whatever somebody is still connected to. A copy goes by another name each time, so that
whoever knows it from an earlier test, like a thread that a test left behind, finds nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

Connection = psycopg.Connection[tuple[Any, ...]]

ALONE_SECONDS_MAX = 0.3
"""How long the connections that a test closed may take to end; a copy that has them still is dropped."""

OWN_SECONDS_MAX = 60.0
"""How long our own connection to a new copy may take to end, on a machine however busy: nobody else can have one."""

PAGES_MAX = 9
"""How large a table or an index may become, if it was not larger before.

The planner takes a table that nobody has analysed for ten pages at least, so up to there it plans as for a new copy.
One page is left for the rows that are put back.
"""


class CannotBeRestoredError(Exception):
    """The database is not the one that was copied, by more than its rows; the message says by what."""


@dataclass(frozen=True)
class State:
    """All that a test can change in a database."""

    shape: Mapping[str, str]
    """A digest of each catalog: tables, constraints, triggers, functions, rights, settings, statistics."""
    pages: Mapping[str, int]
    """The tables and indexes above PAGES_MAX."""
    rows: Mapping[str, Sequence[str]]
    """The rows of each table as PostgreSQL writes them, in the order in which they are stored."""
    sequences: Mapping[str, tuple[int, bool]]
    """The last value of each sequence, and whether it was given out."""


@dataclass(frozen=True)
class Copy:
    """A copy of a template, and its state when it was made."""

    template: str
    url: URL
    made: State


class Copies:
    """The copies of one server's templates; of each template at most one waits for the next test."""

    def __init__(self, server: URL) -> None:
        self.server = server
        self._waiting: dict[str, Copy] = {}
        self._lent: dict[str | None, Copy] = {}
        self._looked_at: set[str] = set()

    def take(self, template: str) -> Copy:
        """Return a copy of the template that nobody else has and nobody is connected to."""
        copy = self._waiting.pop(template, None) or self._make(template)
        self._lent[copy.url.database] = copy
        return copy

    def changed(self, url: URL) -> set[str] | None:
        """Return the tables of the lent copy whose rows are not what they were.

        None if it is no lent copy, or the first one of its template that is asked about: nobody has verified that yet.
        """
        if (copy := self._lent.get(url.database)) is None or copy.template not in self._looked_at:
            self._looked_at.update([copy.template] if copy else [])
            return None
        with connect(url) as owner:
            rows = _rows_of(owner, copy.made.rows)
        return {name for name, lines in copy.made.rows.items() if rows[name] != lines}

    def give_back(self, copy: Copy) -> bool:
        """Restore the copy and keep it for the next `take`, or drop it; return whether it was kept."""
        self._lent.pop(copy.url.database, None)
        with connect(self.server) as connection:
            try:
                kept = self._restored(connection, copy)
            except (psycopg.Error, CannotBeRestoredError):
                self.drop(copy)
                return False
        self._keep(kept)
        return True

    def drop(self, copy: Copy) -> None:
        """Drop the copy, whoever is connected to it."""
        self._lent.pop(copy.url.database, None)
        with connect(self.server) as connection:
            _drop(connection, copy.url)

    def drop_all(self) -> None:
        """Drop the copies that wait."""
        while self._waiting:
            self.drop(self._waiting.popitem()[1])

    def _make(self, template: str) -> Copy:
        url = self.server.set(database=new_name())
        with connect(self.server) as connection:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(create.format(sql.Identifier(url.database), sql.Identifier(template)))
            with connect(url) as owner:
                made = state_of(owner)
            wait_until_alone(connection, url, OWN_SECONDS_MAX)
        return Copy(template, url, made)

    def _restored(self, connection: Connection, copy: Copy) -> Copy:
        """Return the copy as it was made, under a new name; if that fails, neither name is left."""
        wait_until_alone(connection, copy.url, ALONE_SECONDS_MAX)
        renamed = Copy(copy.template, copy.url.set(database=new_name()), copy.made)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        # Before anything is put back: PostgreSQL refuses it while there are connections, and there can be no new ones.
        connection.execute(rename.format(sql.Identifier(copy.url.database), sql.Identifier(renamed.url.database)))
        try:
            with connect(renamed.url) as owner:
                restore(owner, copy.made)
            wait_until_alone(connection, renamed.url, OWN_SECONDS_MAX)
        except BaseException:
            _drop(connection, renamed.url)
            raise
        return renamed

    def _keep(self, copy: Copy) -> None:
        if (other := self._waiting.pop(copy.template, None)) is not None:
            self.drop(other)
        self._waiting[copy.template] = copy


def new_name() -> str:
    return f"wallet_test_{secrets.token_hex(6)}"


@contextmanager
def connect(url: URL) -> Iterator[Connection]:
    """Connect past all triggers, and write and read values the same way whatever the database's settings are."""
    options = "-c lock_timeout=2s -c synchronous_commit=off -c DateStyle=ISO -c TimeZone=UTC -c bytea_output=hex"
    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True, options=options) as connection:
        yield connection


def wait_until_alone(connection: Connection, url: URL, seconds_max: float) -> None:
    """Wait until nobody is connected to the database, or raise CannotBeRestoredError after `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while connection.execute(_OTHERS, [url.database]).fetchone() != (0,):
        if time.monotonic() > deadline:
            raise CannotBeRestoredError("somebody is still connected")
        time.sleep(0.001)


def state_of(connection: Connection) -> State:
    """Read the state of the connection's database."""
    shape, pages = _shape_of(connection), _pages_of(connection)
    names = connection.execute(_NAMES).fetchall()
    tables = [name for name, kind in names if kind == "r"]
    sequences = [name for name, kind in names if kind == "S"]
    return State(shape, pages, _rows_of(connection, tables), _sequences_of(connection, sequences))


def restore(connection: Connection, made: State) -> None:
    """Put back the rows and sequences of `made`; raise CannotBeRestoredError if more than they changed."""
    _require_same_shape(_shape_of(connection), made.shape)
    if grown := [name for name, pages in _pages_of(connection).items() if pages > made.pages.get(name, 0)]:
        raise CannotBeRestoredError(f"too large now: {grown}")
    rows, sequences = _rows_of(connection, made.rows), _sequences_of(connection, made.sequences)
    with connection.transaction(), connection.pipeline():
        # Triggers keep the ledger, and foreign keys would ask for an order.
        connection.execute("SET LOCAL session_replication_role = replica")
        for name, lines in made.rows.items():
            if rows[name] != lines:
                connection.execute(f"DELETE FROM {name}")  # type: ignore[arg-type]
                connection.execute(
                    f"INSERT INTO {name} OVERRIDING SYSTEM VALUE SELECT * FROM unnest(%s::text[]::{name}[])",  # type: ignore[arg-type]
                    [lines],
                )
        for name, value in made.sequences.items():
            if sequences[name] != value:
                connection.execute("SELECT setval(%s::regclass, %s, %s)", [name, *value])
    # Its counters too: of deadlocks, and of dead rows, which would bring autovacuum and with it other plans.
    connection.execute("SELECT pg_stat_reset()")


def _require_same_shape(now: Mapping[str, str], made: Mapping[str, str]) -> None:
    if changed := [catalog for catalog in made if now[catalog] != made[catalog]]:
        raise CannotBeRestoredError(f"changed: {changed}")


def _shape_of(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(_SHAPE).fetchall())  # type: ignore[arg-type]


def _pages_of(connection: Connection) -> dict[str, int]:
    return dict(connection.execute(_PAGES, [PAGES_MAX]).fetchall())


def _rows_of(connection: Connection, tables: Mapping[str, Any] | Sequence[str]) -> dict[str, list[str]]:
    query = " UNION ALL ".join(f"SELECT '{name}', row::text FROM {name} AS row" for name in tables)
    rows: dict[str, list[str]] = {name: [] for name in tables}
    for name, line in connection.execute(query) if rows else ():  # type: ignore[arg-type]
        rows[name].append(line)
    return rows


def _sequences_of(connection: Connection, names: Mapping[str, Any] | Sequence[str]) -> dict[str, tuple[int, bool]]:
    query = " UNION ALL ".join(f"SELECT '{name}', last_value, is_called FROM {name}" for name in names)
    found = connection.execute(query) if names else ()  # type: ignore[arg-type]
    return {name: (last, is_called) for name, last, is_called in found}


def _drop(connection: Connection, url: URL) -> None:
    # It waits for whoever connects or ends just now, and a database that stays is a failure.
    connection.execute("SET lock_timeout = '60s'")
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(url.database)))


_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"

# Objects from 16384 on are not PostgreSQL's own.
_THIS = "datname = current_database()"
_CATALOGS = {
    "pg_attrdef": "oid >= 16384",
    "pg_attribute": "attrelid >= 16384",
    "pg_cast": "oid >= 16384",
    "pg_constraint": "oid >= 16384",
    "pg_db_role_setting": f"setdatabase = (SELECT oid FROM pg_database WHERE {_THIS})",
    "pg_default_acl": "true",
    "pg_event_trigger": "true",
    "pg_extension": "true",
    "pg_index": "indrelid >= 16384",
    "pg_inherits": "true",
    "pg_language": "true",
    "pg_largeobject_metadata": "true",
    "pg_namespace": "true",
    "pg_operator": "oid >= 16384",
    "pg_policy": "true",
    "pg_proc": "oid >= 16384",
    "pg_publication": "true",
    "pg_rewrite": "oid >= 16384",
    "pg_sequence": "true",
    "pg_statistic": "starelid >= 16384",
    "pg_statistic_ext": "true",
    "pg_trigger": "oid >= 16384",
    "pg_type": "oid >= 16384",
}

# Whoever changes a row leaves another version of it, elsewhere and with its own xmin. Only in these two VACUUM and
# ANALYZE write over the row itself; and the name of the database is ours.
_SHAPE = " UNION ALL ".join(
    [
        *(
            f"SELECT '{name}', concat(count(*), ' ', sum(hashtextextended(concat(ctid, xmin), 0)))"
            f" FROM {name} WHERE {where}"
            for name, where in _CATALOGS.items()
        ),
        "SELECT 'pg_class', concat(count(*), ' ', sum(hashtextextended(concat(c.ctid, c.xmin, c::text), 0)))"
        " FROM pg_class AS c WHERE oid >= 16384",
        f"SELECT 'pg_database', (to_jsonb(d) - 'datname')::text FROM pg_database AS d WHERE {_THIS}",
    ]
)

_PAGES = """
SELECT oid::regclass::text, pg_relation_size(oid) / current_setting('block_size')::int
  FROM pg_class
 WHERE oid >= 16384 AND relkind IN ('r', 'i', 't', 'm')
   AND pg_relation_size(oid) / current_setting('block_size')::int > %s
"""

_NAMES = """
SELECT format('%I.%I', nspname, relname), relkind::text
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE pg_class.oid >= 16384 AND relkind IN ('r', 'S') AND nspname NOT LIKE 'pg\\_%'
 ORDER BY 1
"""
