"""What a standby did not confirm: done or not, nobody can tell, and the console says so."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, event

from tests.api.support import assert_problem
from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import open_form
from tests.console.test_cli_operators import run
from wallet_app.console import in_doubt
from wallet_app.console.screens import SCREENS
from wallet_app.db import db
from wallet_app.errors import OutcomeUnknownError


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


@pytest.fixture
def cut(app: Flask) -> Iterator[None]:
    """Each connection breaks at its COMMIT of something."""

    def end(connection: Connection) -> None:
        if connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL").scalar():
            connection.exec_driver_sql("RESET ROLE")
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    event.listen(db.engine, "commit", end)
    yield
    event.remove(db.engine, "commit", end)


def test_every_form_says_what_to_look_at_then(app: Flask) -> None:
    forms = {each.endpoint: each.path for each in SCREENS.values() if each.method == "POST"}
    missing = {endpoint.removeprefix("console.") for endpoint in forms} - set(in_doubt.LOOK)
    assert not missing, "say in console/in_doubt.py what to look at when nobody knows whether it was done"
    pages = {each.path for each in SCREENS.values() if each.method == "GET"}
    for endpoint, path in forms.items():
        place = in_doubt.LOOK[endpoint.removeprefix("console.")].path
        names = dict(re.findall(r"<(?:(?:int|uuid):)?(\w+)()>", path))
        place.format(**names)
        assert not place or re.sub(r"{(\w+)}", "#", place) in {re.sub("<[^>]+>", "#", one) for one in pages}, endpoint


DOUBT = "This may or may not have been done: the database did not confirm it. "


@pytest.mark.parametrize("how", ["no_standby", "cut"])
def test_what_is_told_where_the_answer_to_a_commit_is_lost(
    browser: Browser, request: pytest.FixtureRequest, how: str
) -> None:
    browser.sign_in("admin")
    token = browser.token()
    request.getfixturevalue(how)
    answer = browser.post("/console/operators/1/disable", {"reason": "Left the company", "ticket": "T-1"}, token=token)
    assert answer.status_code == 503
    assert f"{DOUBT}Look how the operator stands." in text_of(answer)
    assert 'href="/console/operators/1"' in text_of(answer)


def test_an_act_is_sent_again_then(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutcomeUnknownError("Repeat with the same reference.")

    browser.sign_in("support")
    path = "/console/wallets/3/freeze"
    fields = {**open_form(browser, path), "side": "debits", "reason": "Chargeback", "step": "do"}
    monkeypatch.setattr("wallet_app.service.carry_out", fail)
    answer = browser.post(path, fields)
    assert answer.status_code == 503
    assert f"{DOUBT}Send this form again as it is: it is done once at most" in text_of(answer)
    monkeypatch.undo()
    assert browser.post(path, fields).location.startswith("/console/transactions/")


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
