"""What a test leaves behind is verified: whatever it changed, and by the invariants that look at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine

from tests.conftest import conninfo, lend
from tests.copies import Copies
from tests.verifying import AUDIT, NOT_LOOKED_AT, require_right
from wallet_app import service
from wallet_app.db import READS, Base, db

pytestmark = pytest.mark.tampers


def tamper(url: URL, statement: str) -> None:
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement)  # type: ignore[arg-type]


@contextmanager
def said(*engines: Engine) -> Iterator[list[str]]:
    """Collect the statements that go by these engines."""
    statements: list[str] = []

    def collect(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", collect)


def test_only_what_changed_is_verified_and_a_fault_there_is_found(
    app: Flask, database: URL, database_copies: Copies, client: FlaskClient
) -> None:
    database_copies.changed(database)  # Whoever asks first of a template is told that nobody knows.
    assert database_copies.changed(database) == set()
    with said(db.engine) as statements:
        require_right(set())
    assert statements == []

    assert client.post("/keys", json={"client": "shop", "scopes": ["wallets:read"]}).status_code == 201
    changed = database_copies.changed(database)
    assert changed is not None
    assert {"public.audit_log", "public.api_keys"} <= changed <= NOT_LOOKED_AT | AUDIT
    require_right(changed)
    tamper(database, "UPDATE audit_log SET actor = 'somebody' WHERE id = (SELECT max(id) FROM audit_log)")
    with pytest.raises(AssertionError, match=r"The audit log is not right: audit_chain: .* is not what was chained"):
        require_right(database_copies.changed(database))

    tamper(database, "UPDATE wallet_balances SET balance = balance + 1 WHERE wallet_id = 3")
    changed = database_copies.changed(database)
    assert changed is not None
    assert "public.wallet_balances" in changed
    with pytest.raises(AssertionError, match=r"The books are not right: .*projection: wallet 3"):
        require_right(changed)


def test_of_what_nobody_has_verified_everything_is(
    server: URL, template: str, request: pytest.FixtureRequest, app: Flask
) -> None:
    copies = Copies(server)
    try:
        for url in lend(copies, template, request):
            assert (copies.changed(url), copies.changed(url)) == (None, set())
        for url in lend(copies, template, request):
            assert copies.changed(url) == set()
        assert copies.changed(url) is None, "it is lent no more"
    finally:
        copies.drop_all()
    with said(db.engine) as statements:
        require_right(None)
    assert any("wallet_balances" in one for one in statements)


def test_what_is_said_not_to_be_looked_at_is_not(app: Flask, client: FlaskClient) -> None:
    assert client.post("/wallets/3/topup", json={"amount": 7, "referenceId": "one", "note": "n"}).status_code == 200
    with said(db.engine, db.engines[READS]) as statements:
        service.verify(full=True)
    named = [set(re.findall(r"\w+", one)) for one in statements]
    assert len(named) > 50
    apart = {name.removeprefix("public.") for name in NOT_LOOKED_AT}
    assert [names & apart for names in named if names & apart] == []
    of_audit = {name.removeprefix("public.") for name in AUDIT}
    tables = {name.removeprefix("public.") for name in Base.metadata.tables} - {"verify_runs"}
    assert sum(bool(names & of_audit) for names in named) > 3
    assert [names & tables for names in named if names & of_audit and names & tables - of_audit] == []
