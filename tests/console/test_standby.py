"""What a standby did not confirm: done or not, nobody can tell, and the console says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, event

from tests.api.support import assert_problem
from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_cli_operators import run
from wallet_app.db import db


@pytest.fixture
def no_standby(app: Flask) -> Iterator[None]:
    """Each COMMIT of something succeeds with the server's warning, as that of `tests/kernel/test_standby.py` does."""

    def warned(connection: Connection) -> None:
        if connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL").scalar():
            connection.info["not_replicated"] = True

    event.listen(db.engine, "commit", warned)
    yield
    event.remove(db.engine, "commit", warned)


def test_a_form_is_answered_by_a_page_that_says_so(browser: Browser, request: pytest.FixtureRequest, sql: Sql) -> None:
    browser.sign_in("viewer")
    token = browser.token()
    request.getfixturevalue("no_standby")
    answer = browser.post("/console/account/sessions/end", token=token)
    assert (answer.status_code, answer.content_type) == (503, "text/html; charset=utf-8")
    assert "<h1>Outcome unknown</h1>" in text_of(answer)
    assert "This may or may not have been done" in text_of(answer)
    assert answer.headers["Retry-After"] == "1"
    assert sql("SELECT count(*) FROM sessions") == [(0,)], "here it was"


def test_a_page_is_shown_all_the_same(browser: Browser, request: pytest.FixtureRequest, sql: Sql) -> None:
    browser.sign_in("viewer")
    sql("UPDATE sessions SET last_seen_at = now() - interval '2 minutes'")
    request.getfixturevalue("no_standby")
    assert browser.get("/console").status_code == 200
    assert sql("SELECT count(*) FROM sessions WHERE last_seen_at > now() - interval '1 minute'") == [(1,)]


def test_a_key_that_may_have_been_made_is_found_in_the_list(client: FlaskClient, no_standby: None) -> None:
    body = {"client": "shop", "scopes": ["wallets:read"]}
    told = assert_problem(client.post("/keys", json=body), 503, "outcome_unknown")
    assert "Look whether it was" in told["detail"]
    (found,) = client.get("/keys?client=shop").json["keys"]
    assert_problem(client.delete(f"/keys/{found['keyId']}"), 503, "outcome_unknown")
    assert client.delete(f"/keys/{found['keyId']}").status_code == 204, "it was done already"


def test_the_command_line_says_so_in_a_sentence(app: Flask, operators: None, no_standby: None) -> None:
    status, said = run(app, "disable", "viewer@wallet.example")
    assert status == 1
    assert said.startswith("This may or may not have been done")
    assert "Traceback" not in said
