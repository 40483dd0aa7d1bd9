"""The database: naming, connections, and the one place that commits."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import psycopg
import structlog
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from psycopg.rows import TupleRow
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool, QueuePool

from wallet_app import greenlets, metrics
from wallet_app.config import ConfigurationError, Settings
from wallet_app.fair_pool import FairPool
from wallet_app.patience import GRACE_SECONDS, PatientConnection, watch
from wallet_app.round_trip import PREPARES, Statement, ask, last_questions

log = structlog.get_logger("wallet")

P = ParamSpec("P")
R = TypeVar("R")

APPLICATION_ROLE = "wallet_app"
"""The role that the service acts as wherever it exists: it may append to the ledger, never change it."""

READS = "reads"
"""The engine whose connections `reads` and `snapshot` use."""


class Base(DeclarativeBase):
    """Parent of all tables; every constraint has a name that says what it guards."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


db = SQLAlchemy(metadata=Base.metadata, disable_autonaming=True)


class LoginNotReadyError(psycopg.OperationalError):
    """The login has not the settings that it needs behind a pooler; the message is one sentence that says what to do.

    To callers it is a database that cannot be used, whatever they were about to do.
    """


class CommitNotReplicatedError(Exception):
    """COMMIT succeeded, but the wait for a synchronous standby was cancelled: a failover may lose it."""

    sentence = (
        "This may or may not have been done: the database's standby did not confirm it. "
        "Look whether it was, before you do it again."
    )
    """What to tell people, where nothing better is known about what it was."""


LOST_SENTENCE = (
    "This may or may not have been done: the connection to the database broke before it confirmed it. "
    "Look whether it was, before you do it again."
)
"""What to tell people of an error that is `in_doubt`, likewise."""


def init_app(app: Flask) -> None:
    """Make the application's engines. No connection is opened before the first use.

    Reads have connections of their own, so that many of them keep no posting waiting.
    """
    settings: Settings = app.extensions["wallet_settings"]
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(settings)
    # As a whole, because to set it for each read and take it back costs more than the read.
    reads = engine_options(settings) | {"url": settings.database_url, "isolation_level": "AUTOCOMMIT"}
    app.config["SQLALCHEMY_BINDS"] = {READS: reads}
    teardowns = list(app.teardown_appcontext_funcs)
    db.init_app(app)
    # It would put away an ORM session at the end of each request. Nobody has one: all goes by connections.
    app.teardown_appcontext_funcs[:] = teardowns
    with app.app_context():
        for engine in db.engines.values():
            prepare_connections(engine, settings)
        metrics.every_second(partial(_look_at_pools, {"postings": db.engine, READS: db.engines[READS]}))
        if settings.db_pooler == "none":
            _plan_once(db.engine)
    app.extensions["wallet_health_engine"] = _probe(settings)


def require_ready_login(settings: Settings) -> None:
    """Raise ConfigurationError if the login cannot serve behind the pooler that the settings name.

    A database that does not answer now may do so in a moment, so that is left to the requests to find out.
    """
    if settings.db_pooler == "none" or settings.database_url is None:
        return
    try:
        _probe(settings).connect().close()
    except DBAPIError as exc:
        if isinstance(exc.orig, LoginNotReadyError):
            raise ConfigurationError(str(exc.orig)) from None


def _probe(settings: Settings) -> Engine:
    """Return an engine that connects anew each time, so that a dead connection is never asked; and gives up soon."""
    engine = create_engine(
        settings.database_url or "",
        poolclass=NullPool,
        connect_args={"connect_timeout": 2, "keepalives_idle": 2, "tcp_user_timeout": 2_000},
    )
    if settings.db_pooler == "none":
        event.listen(engine, "do_connect", connect)
    else:
        prepare_connections(engine, settings)
    event.listen(engine, "connect", lambda connection, _: watch(connection, statement_seconds=0.5))
    return engine


def ping() -> bool:
    """Tell whether the database answers, on a connection of its own: a busy pool is no dead database."""
    engine: Engine = current_app.extensions["wallet_health_engine"]
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (DBAPIError, PoolTimeoutError):
        return False
    return True


def is_away(error: BaseException) -> bool:
    """Tell whether the database, or a connection to it, was not to be had: no fault of ours, and it passes."""
    if isinstance(error, PoolTimeoutError):
        return True
    # Class 54 is about sizes, which are checked before the database sees them.
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, (OperationalError, InterfaceError)) and not state.startswith("54")


def in_doubt(error: BaseException) -> bool:
    """Tell whether the error broke a COMMIT off, so that nobody knows whether the unit of work was committed."""
    return getattr(error, _IN_DOUBT, False)


def log_fault(event_name: str, error: Exception, **context: Any) -> None:
    """Log an unexpected error with its traceback; of a database error only what holds nobody's data.

    PostgreSQL's DETAIL quotes rows, with notes and references in them.
    """
    if not isinstance(error, DBAPIError):
        log.error(event_name, exc_info=error, **context)
        return
    diagnostic = getattr(error.orig, "diag", None)
    log.error(
        event_name,
        error=type(error.orig).__name__,
        sqlstate=getattr(error.orig, "sqlstate", None),
        message=getattr(diagnostic, "message_primary", None),
        constraint=getattr(diagnostic, "constraint_name", None),
        statement=error.statement,
        **context,
    )


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the pool's and the driver's options: a fixed size, and no wait longer than the request may last.

    There is no ping at checkout: the first statement's failure on a dead connection is met by a safe repetition.
    """
    return {
        "poolclass": FairPool,
        "pool_size": settings.pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.pool_seconds_max,
        "pool_recycle": 1800,
        "pool_use_lifo": True,
        # Said, because a database or role may have another default.
        "isolation_level": "READ COMMITTED",
        # Notes and references are other people's; an exception's text ends up in logs.
        "hide_parameters": True,
        "connect_args": {
            "connect_timeout": 3,
            "application_name": "dino-wallet",
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            # After a rollback psycopg has the server forget all that is prepared, and round_trip would not know.
            "prepare_threshold": None,
        },
    }


def prepare_connections(engine: Engine, settings: Settings) -> None:
    """Let every new connection of the engine act as the application role, with bounded waits.

    A pooler hands a connection's transactions to server connections that others use as well, where what is set for a
    session would be missing, or stay behind. So nothing is set there: the login must bring its own settings.
    """
    event.listen(engine, "do_connect", connect)

    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, record: Any) -> None:
        _listen_for_lost_standby(dbapi_connection, record.info)
        # psycopg escapes arrays element by element unless they go in binary.
        dbapi_connection.adapters.register_dumper(list, ListBinaryDumper)
        record.info[PREPARES] = settings.db_pooler == "none"
        with dbapi_connection.cursor() as cursor:
            if settings.db_pooler == "none":
                cursor.execute(_PREPARE)
            else:
                _require_own_settings(dbapi_connection, cursor)
            (statement_seconds,) = cursor.execute(_STATEMENT_SECONDS).fetchone()
        dbapi_connection.commit()
        watch(dbapi_connection, statement_seconds=statement_seconds)


def connect(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> psycopg.Connection[TupleRow]:  # noqa: ARG001
    """Connect as this process waits: in a thread, or as a greenlet. Raises OperationalError.

    psycopg looks the server's name up by Python's socket module, so that goes on as a greenlet too.
    """
    kind = greenlets.GreenletConnection if greenlets.is_patched() else PatientConnection
    try:
        connection = kind.connect(*arguments, **parameters)
    except psycopg.Error as refused:
        # The error and psycopg's frames hold each other, and the frames the socket: until the garbage collector comes
        # by, the server would wait for a client who has given up.
        traceback.clear_frames(refused.__traceback__)
        raise
    # From now on, because a pooler in between may let us in while the server is stopped.
    watch(connection, statement_seconds=_STATEMENT_SECONDS_USUAL)
    return connection


def _plan_once(engine: Engine) -> None:
    """Let the engine's connections plan a prepared statement once and not at every execution.

    A posting's statements go by primary keys alone, so there is one good plan whatever the parameters; planning them
    anew was a seventh of what a batch of thirty cost the database.
    """

    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, _: Any) -> None:
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SET plan_cache_mode = force_generic_plan")
        dbapi_connection.commit()


def _look_at_pools(engines: Mapping[str, Engine]) -> Iterator[metrics.Sight]:
    for name, engine in engines.items():
        pool = cast(QueuePool, engine.pool)
        yield metrics.CONNECTIONS_IN_USE, (name,), pool.checkedout()
        yield metrics.CONNECTIONS_MAX, (name,), pool.size()


def close_connections() -> None:
    """Close what the current application has open to the database: a process that is forked must not inherit it."""
    for engine in db.engines.values():
        engine.dispose()


# A role's own settings (ALTER ROLE ... SET) win, because they also hold behind a pooler; these fill the gaps. What is
# asked here reads a page of rows at most: to compile it would take longer, and the planner may think otherwise.
_PREPARE = f"""
SELECT set_config('lock_timeout', '2s', false) WHERE current_setting('lock_timeout') = '0'
UNION ALL
SELECT set_config('statement_timeout', '4s', false) WHERE current_setting('statement_timeout') = '0'
UNION ALL
SELECT set_config('idle_in_transaction_session_timeout', '5s', false)
 WHERE current_setting('idle_in_transaction_session_timeout') = '0'
UNION ALL
SELECT set_config('jit', 'off', false)
UNION ALL
SELECT set_config('role', rolname, false)
  FROM pg_roles WHERE rolname = '{APPLICATION_ROLE}' AND pg_has_role(current_user, oid, 'MEMBER')
"""  # noqa: S608 - a constant


_STATEMENT_SECONDS_USUAL = 4.0
"""Until a connection has told what its own bound is."""

_STATEMENT_SECONDS = """
SELECT CAST(EXTRACT(epoch FROM CAST(current_setting('statement_timeout') AS interval)) AS float8)
"""


def _require_own_settings(dbapi_connection: Any, cursor: Any) -> None:
    login, commands = cursor.execute(_OWN_SETTINGS).fetchone()
    if commands is None:
        return
    dbapi_connection.close()
    log.error("login_not_ready", login=login, run=commands)
    raise LoginNotReadyError(
        f"behind a pooler the login {login} must have settings of its own: "
        f"run `{commands}` on the server as that login or a superuser, then RECONNECT in the pooler's console."
    )


# What the server gives each of the login's connections at its start, and what is missing there.
_OWN_SETTINGS = f"""
SELECT session_user,
       string_agg(format('ALTER ROLE %I SET %s = %L', session_user, name, value), '; ')
         FILTER (WHERE CASE name WHEN 'role' THEN may_act AND current_user <> value
                                 ELSE current_setting(name) = '0' END)
  FROM (VALUES ('role', '{APPLICATION_ROLE}'), ('lock_timeout', '2s'), ('statement_timeout', '4s'),
               ('idle_in_transaction_session_timeout', '5s')) AS wanted (name, value),
       (SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APPLICATION_ROLE}'
                                              AND pg_has_role(session_user, oid, 'MEMBER'))) AS login (may_act)
"""  # noqa: S608 - a constant


def _listen_for_lost_standby(dbapi_connection: Any, info: dict[Any, Any]) -> None:
    def notice(diagnostic: Any) -> None:
        # By the function that says so, because the words depend on the server's language; and by the words, because a
        # relative of PostgreSQL may call the function otherwise.
        is_in_words = diagnostic.sqlstate == "01000" and "synchronous replication" in (diagnostic.message_primary or "")
        if is_in_words or diagnostic.source_function == "SyncRepWaitForLSN":
            info["not_replicated"] = True

    dbapi_connection.add_notice_handler(notice)


_COMMIT = Statement("commit", "COMMIT")


@contextmanager
def unit_of_work(engine: Engine | None = None) -> Iterator[Connection]:
    """One database transaction, READ COMMITTED: what the body does is committed at its end, or not at all.

    On the current application's engine, or the one given.

    Raises CommitNotReplicatedError if the COMMIT was not confirmed by the standby that it had to wait for. What the
    database raises is `in_doubt` if the COMMIT was on its way.
    """
    with (engine or db.engine).connect() as connection:
        # Said, because what goes to the driver directly would not begin it.
        connection.begin()
        try:
            yield connection
            connection.info.pop("not_replicated", None)
            _commit(connection)
        finally:
            _take_no_more_time(connection)
        if connection.info.pop("not_replicated", False):
            raise CommitNotReplicatedError


_IN_DOUBT = "wallet_in_doubt"


def _commit(connection: Connection) -> None:
    try:
        if last := last_questions(connection):
            ask(connection, *last, _COMMIT())
        connection.commit()
    except DBAPIError as error:
        # A server that refuses a COMMIT says why, by a state of its own.
        state = getattr(error.orig, "sqlstate", None)
        is_lost = error.connection_invalidated or state is None or state[:3] in {"57P", "080"}
        setattr(error, _IN_DOUBT, is_away(error) and is_lost)
        raise


@contextmanager
def snapshot() -> Iterator[Connection]:
    """One read-only database transaction in which all statements see the same state."""
    with db.engines[READS].connect() as connection:
        try:
            yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        finally:
            _take_no_more_time(connection)


def take_time(connection: Connection, seconds: int) -> None:
    """Let each statement take up to `seconds` until the unit of work, or the snapshot, ends; for background work."""
    connection.execute(_TAKE_TIME, {"timeout": f"{seconds}s"})
    driver = cast(PatientConnection, connection.connection.driver_connection)
    driver.patience = seconds + GRACE_SECONDS
    _taking_time[connection] = driver


def _take_no_more_time(connection: Connection) -> None:
    if _taking_time and (driver := _taking_time.pop(connection, None)):
        driver.patience = driver.patience_otherwise


_taking_time: WeakKeyDictionary[Connection, PatientConnection] = WeakKeyDictionary()

_TAKE_TIME = text("SELECT set_config('statement_timeout', :timeout, true)")


def reads(function: Callable[Concatenate[Connection, P], R]) -> Callable[P, R]:
    """Give a read its connection, without a transaction around it, and a second try if the connection was dead.

    A statement sees one state of the database; a read of several statements that must agree takes a `snapshot()`.
    """

    @wraps(function)
    def with_connection(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return _read(function, *args, **kwargs)
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
            return _read(function, *args, **kwargs)

    return with_connection


def _read(function: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
    with db.engines[READS].connect() as connection:
        return function(connection, *args, **kwargs)
