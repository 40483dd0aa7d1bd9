"""Statements that leave together: what comes back, and what is left of the connection when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.conftest import run_sql, settings_for
from wallet_app import create_app, round_trip
from wallet_app.db import close_connections, db, unit_of_work
from wallet_app.parameters import TEXTS, WHOLE_NUMBER
from wallet_app.round_trip import Question, Statement, ask, ask_last

DIVIDE = Statement("divide", "SELECT 12 / $1", WHOLE_NUMBER)
ECHO = Statement("echo", "SELECT word FROM unnest($1) AS words (word)", TEXTS)
LIST = Statement("list", "SELECT name FROM pg_prepared_statements ORDER BY name")


@pytest.fixture(autouse=True)
def application(database: URL) -> Iterator[Flask]:
    app = create_app(settings_for(database))
    with app.app_context():
        yield app
        close_connections()


def backend(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def test_answers_come_back_in_order_with_none_for_null() -> None:
    with unit_of_work() as connection:
        assert ask(connection, DIVIDE(4), ECHO(["a", None]), DIVIDE(None)) == [[(3,)], [("a",), (None,)], [(None,)]]


def test_a_statement_is_prepared_once_on_each_connection() -> None:
    with unit_of_work() as connection:
        ask(connection, DIVIDE(1))
        ask(connection, DIVIDE(2), ECHO([]))
        assert ask(connection, LIST()) == [[("divide",), ("echo",), ("list",)]]


def test_after_one_that_fails_none_is_carried_out_and_the_connection_stays() -> None:
    with unit_of_work() as connection:
        before = backend(connection)
    with pytest.raises(DBAPIError) as caught, unit_of_work() as connection:
        ask(connection, ECHO(["x"]), DIVIDE(0), Statement("never", "CREATE TABLE never ()")())
    assert isinstance(caught.value.orig, psycopg.errors.DivisionByZero)
    assert not caught.value.connection_invalidated
    with unit_of_work() as connection:
        # What came after it was not prepared either, and is now.
        assert ask(connection, Statement("never", "SELECT to_regclass('never') IS NULL")()) == [[(True,)]]
        assert ask(connection, DIVIDE(3)) == [[(4,)]]
        assert backend(connection) == before


USERS = Statement("users", "SELECT CAST(count(*) AS bigint) FROM users WHERE name = ANY ($1)", TEXTS)
ADD_USER = Statement(
    "add_user", "INSERT INTO users (name, user_type) SELECT name, 'USER' FROM unnest($1) AS new (name)", TEXTS
)


def users_named(name: str) -> int:
    with unit_of_work() as connection:
        count: int = ask(connection, USERS([name]))[0][0][0]
        return count


def test_what_is_left_for_the_end_is_sent_and_committed_with_what_came_before() -> None:
    with unit_of_work() as connection:
        ask(connection, ADD_USER(["Ann"]))
        ask_last(connection, ADD_USER(["Ann"]), ADD_USER(["Ann"]))
        assert ask(connection, USERS(["Ann"])) == [[(1,)]]
    assert users_named("Ann") == 3
    with unit_of_work() as connection:
        before = backend(connection)
    with unit_of_work() as connection:
        assert backend(connection) == before
    assert users_named("Ann") == 3, "it is sent once"


def test_nothing_of_a_unit_of_work_stays_when_its_body_fails_or_its_end_does() -> None:
    def add_bob(*last: Question, fails: bool) -> None:
        with unit_of_work() as connection:
            ask(connection, ADD_USER(["Bob"]))
            ask_last(connection, ADD_USER(["Bob"]), *last)
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        add_bob(fails=True)
    with pytest.raises(DBAPIError) as caught:
        add_bob(DIVIDE(0), ADD_USER(["Bob"]), fails=False)
    assert isinstance(caught.value.orig, psycopg.errors.DivisionByZero)
    assert not caught.value.connection_invalidated
    assert users_named("Bob") == 0


def test_errors_are_those_of_sqlalchemy_and_tell_no_parameters() -> None:
    again = Statement(
        "again", "INSERT INTO users (id, name, user_type) VALUES ($1, 'secret name', 'USER')", WHOLE_NUMBER
    )
    with pytest.raises(IntegrityError) as caught, unit_of_work() as connection:
        ask(connection, again(1))
    assert caught.value.hide_parameters
    assert "secret" not in str(caught.value)


def test_a_connection_that_is_ended_meanwhile_is_told_apart_and_the_next_one_works(database: URL) -> None:
    with db.engine.connect() as connection:
        run_sql(database, f"SELECT pg_terminate_backend({backend(connection)}, 5000)")
        with pytest.raises(DBAPIError) as caught:
            ask(connection, DIVIDE(1), DIVIDE(2))
        assert caught.value.connection_invalidated
    with unit_of_work() as connection:
        assert ask(connection, DIVIDE(1)) == [[(12,)]]


def test_what_cannot_be_sent_ends_the_connection_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """The pipeline has begun by then, so the connection is open but could not even roll back."""
    too_many = Statement("too_many", "SELECT 1", *[WHOLE_NUMBER] * 65_536)
    with pytest.raises(DBAPIError) as caught, unit_of_work() as connection:
        ask(connection, DIVIDE(1), too_many(*range(65_536)))
    assert caught.value.connection_invalidated
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy")] == []
    with unit_of_work() as connection:
        assert ask(connection, DIVIDE(1)) == [[(12,)]]


def test_whoever_is_ended_in_the_middle_leaves_no_connection_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: object) -> object:
        raise SystemExit

    with unit_of_work() as connection:
        before = backend(connection)
    with monkeypatch.context() as patched:
        patched.setattr(round_trip, "_results", end)
        with pytest.raises(SystemExit), unit_of_work() as connection:
            ask(connection, DIVIDE(1))
    with unit_of_work() as connection:
        assert backend(connection) != before
        assert ask(connection, DIVIDE(1)) == [[(12,)]]


def test_more_than_both_buffers_hold_goes_out_and_comes_back_at_the_same_time(application: Flask) -> None:
    words = ["x" * 1000] * 4000
    answers: list[object] = []

    def exchange() -> None:
        with application.app_context(), unit_of_work() as connection:
            answers.extend(ask(connection, ECHO(words), ECHO(words), ECHO(words)))

    asking = threading.Thread(target=exchange, daemon=True)
    asking.start()
    asking.join(30)
    assert answers == [[(word,) for word in words]] * 3
