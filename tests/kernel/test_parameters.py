"""What goes to the database as an array comes back as it was."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from tests.conftest import settings_for
from wallet_app import create_app
from wallet_app.db import READS, close_connections, db
from wallet_app.parameters import BYTES, INSTANTS, TEXTS, UUIDS, WHOLE_NUMBERS, Kind
from wallet_app.round_trip import Statement, ask

KINDS = {
    "int8": (WHOLE_NUMBERS, st.integers(-(2**63), 2**63 - 1)),
    "text": (TEXTS, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)),
    "bytea": (BYTES, st.binary(max_size=40)),
    "uuid": (UUIDS, st.uuids()),
    "timestamptz": (INSTANTS, st.datetimes(timezones=st.just(dt.UTC))),
}


def array(name: str) -> st.SearchStrategy[tuple[str, Kind, list[Any]]]:
    kind, values = KINDS[name]
    return st.tuples(st.just(name), st.just(kind), st.lists(st.none() | values))


@pytest.fixture(scope="module")
def connection(server: URL, template: str) -> Iterator[Connection]:
    app: Flask = create_app(settings_for(server.set(database=template)))
    with app.app_context():
        # Without a transaction: in one that idles for long, while examples are made, the server would end it.
        with db.engines[READS].connect() as connection:
            yield connection
        close_connections()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.sampled_from(sorted(KINDS)).flatmap(array))
def test_a_list_comes_back_as_it_was(connection: Connection, sent: tuple[str, Kind, list[Any]]) -> None:
    name, kind, values = sent
    (rows,) = ask(connection, Statement(f"echo_{name}", f"SELECT CAST($1 AS {name}[])", kind)(values))
    assert rows == [(values,)]


@pytest.mark.parametrize("count", [255, 256, 257, 512, 10_000])
def test_a_long_list_comes_back_as_it_was(connection: Connection, count: int) -> None:
    values = list(range(-1, count - 1))
    (rows,) = ask(connection, Statement("echo_int8", "SELECT CAST($1 AS int8[])", WHOLE_NUMBERS)(values))
    assert rows == [(values,)]


def test_to_have_packed_long_lists_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        for count in range(9_975, 10_000):
            WHOLE_NUMBERS.pack(range(count))
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
    finally:
        tracemalloc.stop()
