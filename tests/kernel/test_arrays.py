"""What goes to the database as an array comes back as it was, packed by us or by psycopg."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.array import ListBinaryDumper
from sqlalchemy.engine import URL

from tests.conftest import conninfo
from wallet_app.arrays import ListDumper

WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def connections(server: URL) -> Iterator[tuple[Any, Any]]:
    """Two connections to the same server: ours, and one that packs as psycopg does."""
    with psycopg.connect(conninfo(server)) as ours, psycopg.connect(conninfo(server)) as theirs:
        ours.adapters.register_dumper(list, ListDumper)
        theirs.adapters.register_dumper(list, ListBinaryDumper)
        yield ours, theirs


def came_back(connection: Any, values: list[Any], kind: str) -> Any:
    return connection.execute(f"SELECT %s::{kind}[]", (values,)).fetchone()[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.tuples(st.just("bigint"), st.lists(WHOLE)),
        st.tuples(st.just("bigint"), st.lists(st.one_of(st.none(), WHOLE))),
        st.tuples(st.just("numeric"), st.lists(st.integers(-(10**30), 10**30)).map(lambda found: [*map(int, found)])),
        st.tuples(st.just("text"), st.lists(TEXT)),
        st.tuples(st.just("text"), st.lists(st.one_of(st.none(), TEXT))),
        st.tuples(st.just("bytea"), st.lists(st.binary(max_size=40))),
        st.tuples(st.just("boolean"), st.lists(st.booleans())),
        st.tuples(st.just("timestamptz"), st.lists(st.datetimes(timezones=st.just(dt.UTC)))),
    )
)
def test_a_list_comes_back_as_it_was(connections: tuple[Any, Any], sent: tuple[str, list[Any]]) -> None:
    kind, values = sent
    ours, theirs = connections
    assert came_back(ours, values, kind) == came_back(theirs, values, kind)
    assert came_back(ours, values, kind) == ([Decimal(value) for value in values] if kind == "numeric" else values)


def test_lists_of_several_kinds_in_one_statement_do_not_mix(connections: tuple[Any, Any]) -> None:
    ours, _ = connections
    sent = ([1, 2], ["a"], [b"\0\1"], [True], 7, "x", [], [None, 3], [2**40], ["\u00e9" * 300])
    kinds = ("bigint[]", "text[]", "bytea[]", "boolean[]", "int", "text", "bigint[]", "bigint[]", "bigint[]", "text[]")
    for _ in range(7):  # psycopg prepares a statement that comes often.
        assert ours.execute("SELECT " + ", ".join(f"%s::{kind}" for kind in kinds), sent).fetchone() == sent
