"""Several statements to the database in one round trip, as the kernel needs them; everything else goes by SQLAlchemy.

SQLAlchemy offers no pipelines. psycopg does, but sends each statement of one by itself, which wakes the server as
often, and thinks about each parameter anew. Here a statement says once what its parameters are and is prepared under a
name; all statements of a round trip leave together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import psycopg
from psycopg import abc, adapt
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from wallet_app.parameters import Kind

PREPARES = "prepares_statements"
"""In a connection's info: False if the server behind it may be another one for the next transaction."""

_KNOWN = "known_statements"


class Statement:
    """A statement with parameters $1, $2, ...; called with their values, each as its kind wants it, a `Question`.

    `row` makes a row of the answer from the tuple of its columns. Names are one for each statement of the service.
    """

    __slots__ = ("_kinds", "formats", "name", "oids", "row", "sql")

    def __init__(self, name: str, sql: str, *kinds: Kind, row: Callable[[Any], Any] = tuple) -> None:
        self.name = name.encode()
        self.sql = sql.encode()
        self._kinds = kinds
        self.oids = [kind.oid for kind in kinds]
        self.formats = [Format.BINARY] * len(kinds)
        self.row = row

    def __call__(self, *values: Any) -> Question:
        """Return the statement with its parameters; None is NULL."""
        packed = zip(self._kinds, values, strict=True)
        return Question(self, [None if value is None else kind.pack(value) for kind, value in packed])


class Question(NamedTuple):
    """A statement as it is to be sent."""

    statement: Statement
    parameters: list[bytes | None]


def ask(connection: Connection, *questions: Question) -> list[list[Any]]:
    """Send the questions together, in order, and return the rows of each answer.

    Begins the connection's transaction if there is none yet. After the first that fails none is carried out, and its
    error is raised as SQLAlchemy would. A connection that is left in the middle of it is closed.
    """
    proxied = connection.connection
    driver = cast("psycopg.Connection[TupleRow]", proxied.driver_connection)
    known: _Known | None = proxied.info.setdefault(_KNOWN, {}) if proxied.info.get(PREPARES, True) else None
    try:
        return driver.wait(_exchange(driver, known, questions))
    except psycopg.Error as error:
        if driver.closed:
            # Fails as well, and then SQLAlchemy knows that its other connections are of no use either.
            connection.exec_driver_sql("SELECT 1")
        raise DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
    except BaseException:
        connection.invalidate()
        raise


def ask_last(connection: Connection, *questions: Question) -> None:
    """Leave the questions for the round trip in which the unit of work commits.

    What is asked until then does not see what they do.
    """
    _last[connection] = questions


def last_questions(connection: Connection) -> tuple[Question, ...]:
    """Return what was left for the end of the connection's unit of work, once."""
    return _last.pop(connection, ())


def forget_last(connection: Connection) -> None:
    """Forget what was left for the end of the connection's unit of work: it is not done."""
    _last.pop(connection, None)


_last: WeakKeyDictionary[Connection, tuple[Question, ...]] = WeakKeyDictionary()

_Known = dict[bytes, abc.Transformer]
"""The statements that the connection's server has prepared, with what reads the rows of each."""


def _exchange(
    driver: psycopg.Connection[TupleRow], known: _Known | None, questions: Sequence[Question]
) -> abc.PQGen[list[list[Any]]]:
    """Run a pipeline from its beginning to its end; what is yielded is what the socket must become ready for."""
    pgconn = driver.pgconn
    try:
        pgconn.enter_pipeline_mode()
        expected = _send(driver, known, questions)
        results = yield from _results(pgconn)
        pgconn.exit_pipeline_mode()
    except BaseException:
        # Also when it is a greenlet that is ended: in the middle of a pipeline a connection is fit for nothing.
        driver.close()
        raise
    return _rows(driver, known, list(zip(expected, results, strict=True)))


class _Expected(NamedTuple):
    """What an answer belongs to: a question's statement, one that is prepared for it, or (None) the beginning."""

    statement: Statement | None
    is_preparation: bool = False


def _send(driver: psycopg.Connection[TupleRow], known: _Known | None, questions: Sequence[Question]) -> list[_Expected]:
    pgconn = driver.pgconn
    expected = []
    if pgconn.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
        pgconn.send_query_params(_begin(driver), None)
        expected.append(_Expected(None))
    new: set[bytes] = set()
    for statement, parameters in questions:
        if known is None:
            pgconn.send_query_params(statement.sql, parameters, statement.oids, statement.formats, Format.BINARY)
        else:
            if statement.name not in known and statement.name not in new:
                new.add(statement.name)
                pgconn.send_prepare(statement.name, statement.sql, statement.oids)
                expected.append(_Expected(statement, is_preparation=True))
            pgconn.send_query_prepared(statement.name, parameters, statement.formats, Format.BINARY)
        expected.append(_Expected(statement))
    pgconn.pipeline_sync()
    return expected


def _results(pgconn: PGconn) -> abc.PQGen[list[PGresult]]:
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            # Between two answers; but also, for ever, when the connection has ended.
            if pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError(pgconn.get_error_message())
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _rows(
    driver: psycopg.Connection[TupleRow], known: _Known | None, answers: Sequence[tuple[_Expected, PGresult]]
) -> list[list[Any]]:
    found = []
    for (statement, is_preparation), result in answers:
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result, driver.info.encoding)
        if statement is None:
            continue
        if is_preparation:
            cast(_Known, known)[statement.name] = adapt.Transformer(driver)
        elif result.status == ExecStatus.TUPLES_OK:
            found.append(_read(statement, result, known[statement.name] if known else adapt.Transformer(driver)))
        else:
            found.append([])
    return found


def _read(statement: Statement, result: PGresult, reader: abc.Transformer) -> list[Any]:
    reader.set_pgresult(result)
    return reader.load_rows(0, result.ntuples, statement.row)


def _begin(driver: psycopg.Connection[TupleRow]) -> bytes:
    level = driver.isolation_level
    words = ["BEGIN"] if level is None else ["BEGIN ISOLATION LEVEL", level.name.replace("_", " ")]
    return " ".join([*words, "READ ONLY"] if driver.read_only else words).encode()
