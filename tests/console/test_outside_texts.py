"""What comes from outside turns no text of ours, says nothing that was not done, and is there again after a sign-in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import ADJUST, LITTLE, MUCH, Form, open_form, send
from wallet_app import service
from wallet_app.service import By

pytestmark = pytest.mark.wide

TURNED = "\u05d0\u05d1 \u202egnp.exe\u2069"
"""Hebrew letters, then characters that turn what follows, and end an isolation that somebody else began."""
_VOID = {"meta", "link", "input", "img", "br", "wbr", "path"}
_ALONE = {"bdi", "button", "option", "title", "caption", "textarea", "h1", "pre", "code"}
"""Where such a text ends with its element; of a code, only one that says its direction."""


class Loose(HTMLParser):
    """Finds the texts with the mark that stand beside others without being set apart."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark, self.seen, self.loose = mark, 0, list[str]()
        self._open: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self._open.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.mark not in data:
            return
        self.seen += 1
        is_apart = any(tag in _ALONE and (tag != "code" or "dir" in said) for tag, said in self._open)
        # In a sentence of ours the service sets it apart, by characters.
        if not is_apart and f"\u2068{self.mark}" not in data:
            self.loose.append(data)
        if self._open[-1][0] not in {"textarea", "option"} and "\u202e" in data:
            self.loose.append(f"turning: {data!r}")


def loose_in(answer: TestResponse, mark: str = "\u05d0\u05d1") -> tuple[int, list[str]]:
    parser = Loose(mark)
    parser.feed(answer.get_data(as_text=True))
    return parser.seen, parser.loose


@pytest.mark.wide
def test_names_notes_and_references_turn_nothing_beside_them(
    app: Flask, browsers: Callable[..., Browser], sql: Sql
) -> None:
    """On each page that shows some: none stands loose in a line with other words."""
    sql("UPDATE users SET name = %s, external_id = %s WHERE id = 2", TURNED, f"{TURNED} 7")
    origin = service.Origin(client="shop", actor="key:k3f6m2q7zt5a")
    posted = service.execute(
        service.TopUp(wallet_id=3, reference=f"{TURNED} order", origin=origin, amount=500, note=f"{TURNED}; a note")
    )
    service.execute(
        service.PlaceHold(wallet_id=3, reference=f"{TURNED} hold", origin=origin, amount=40, expires_in=3600)
    )
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    asked = send(support, ADJUST, "do", open_form(support, ADJUST), **{**MUCH, "note": f"{TURNED} why"})
    request = asked.location.partition("?")[0]
    checked = send(support, ADJUST, "check", open_form(support, ADJUST), **LITTLE)
    answers = {
        path: browser.get(path)
        for browser, path in (
            (support, "/console/users/2"),
            (support, "/console/wallets/3"),
            (support, "/console/wallets/3/explain"),
            (support, "/console/wallets/3/statement"),
            (support, "/console/transactions"),
            (support, f"/console/transactions/{posted.transaction.transaction_id}"),
            (support, "/console/approvals"),
            (approver, request),
            (approver, f"{request}/approve"),
            (support, "/console/search?q=%D7%90%D7%91"),
            (support, open_form_path(support, ADJUST)),
        )
    }
    for path, answer in {**answers, "check": checked}.items():
        assert answer.status_code == 200, path
        seen, loose = loose_in(answer)
        assert (seen > 0, loose) == (True, []), path


def open_form_path(browser: Browser, path: str) -> str:
    return str(browser.get(path).location)


def test_loose_texts_are_found() -> None:
    """The control."""
    parser = Loose("x")
    parser.feed("<p>of <b>x</b>, <bdi>x</bdi> <code>x</code> <code dir=auto>x</code> \u2068x\u2069</p>")
    assert (parser.seen, parser.loose) == (5, ["x", "x"])


def test_an_address_says_nothing_that_was_not_done(browser: Browser) -> None:
    browser.sign_in("support")
    for note in ("approved", "done", "key-revoked", "Call 555-0100"):
        assert 'role="status"' not in text_of(browser.get(f"/console/wallets/3?note={note}")), note
    freeze = "/console/wallets/3/freeze"
    done = send(browser, freeze, "do", open_form(browser, freeze), side="debits", reason="Chargeback")
    # What was done is said once, on the page that it led to, and not for another word.
    assert "note=done" in done.location
    assert 'role="status">Done.' in text_of(browser.get(done.location))
    assert 'role="status"' not in text_of(browser.get(done.location))


def test_a_form_that_comes_after_the_session_ended_is_filled_in_again(
    browser: Browser, browsers: Callable[..., Browser], sql: Sql
) -> None:
    browser.sign_in("support")
    fields = open_form(browser, ADJUST)
    before = sql("SELECT count(*) FROM ledger_entries")
    sql("UPDATE sessions SET began_at = began_at - interval '9 hours'")
    answer = send(browser, ADJUST, "check", fields, **LITTLE)
    back = f"{ADJUST}?form={fields['form']}"
    assert (answer.status_code, unquote(answer.location)) == (303, f"/console/sign-in?next={back}&note=session-over")
    assert "you are back at that form with what you had entered" in text_of(browser.get(answer.location))
    # Nothing of it is in an address, and the cookie tells nobody anything.
    cookie = browser.client.get_cookie("__Host-wallet_draft", domain="localhost")
    assert cookie is not None
    assert LITTLE["note"] not in answer.location + cookie.value
    browser.enter_password("support")
    assert browser.enter_code("support").status_code == 303
    page = browser.get(back)
    assert {name: Form(page).fields[name] for name in LITTLE} == LITTLE
    assert "Nothing was done with it yet." in text_of(page)
    assert sql("SELECT count(*) FROM ledger_entries") == before
    # Into this form alone, and for this operator alone: another one has no key for it.
    assert Form(browser.get(browser.get(ADJUST).location)).fields["amount"] == ""
    service.change_role("approver@wallet.example", role="support", by=By(actor="test"))
    other = browsers().sign_in("approver")
    other.client.set_cookie("__Host-wallet_draft", cookie.value, domain="localhost", path="/")
    page = other.get(other.get(back).location)
    assert Form(page).fields["amount"] == ""
    for damaged in ("x", cookie.value[:40], f"{cookie.value[:-6]}AAAAAA", "\u00e9"):
        browser.client.set_cookie("__Host-wallet_draft", damaged, domain="localhost", path="/")
        assert Form(browser.get(back)).fields["amount"] == "", damaged
    # Of a form that keeps nothing, that is said.
    sql("UPDATE sessions SET began_at = began_at - interval '9 hours'")
    answer = browser.post("/console/bulk/1/check", Referer="http://localhost/console/bulk/1")
    assert answer.location == "/console/sign-in?next=/console/bulk/1&note=session-over-lost"


def test_a_comment_is_there_again_after_the_proof_that_had_to_come_first(
    browsers: Callable[..., Browser], sql: Sql
) -> None:
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    asked = send(support, ADJUST, "do", open_form(support, ADJUST), **MUCH)
    approve = f"{asked.location.partition('?')[0]}/approve"
    fields = Form(approver.get(approve)).fields
    sql("UPDATE sessions SET authenticated_at = authenticated_at - interval '6 minutes'")
    answer = approver.post(approve, {**fields, "comment": "Seen the ticket"})
    assert answer.location == f"/console/confirm?next={approve}&note=proof-over"
    sql("UPDATE sessions SET authenticated_at = now()")
    assert Form(approver.get(approve)).fields["comment"] == "Seen the ticket"


@pytest.mark.parametrize("act", ["disable", "role"])
def test_what_nobody_can_approve_has_no_button_and_says_why(browsers: Callable[..., Browser], act: str) -> None:
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    request = send(support, ADJUST, "do", open_form(support, ADJUST), **MUCH).location.partition("?")[0]
    assert f'href="{request}/approve"' in text_of(approver.get(request))
    if act == "disable":
        service.disable_operator("support@wallet.example", by=By(actor="test"))
    else:
        service.change_role("support@wallet.example", role="viewer", by=By(actor="test"))
    page = text_of(approver.get(request))
    said = "is disabled: it cannot be approved" if act == "disable" else "has the role viewer by now"
    assert said in page
    assert f'href="{request}/approve"' not in page
    assert f'href="{request}/reject"' in page
    page = text_of(approver.get(f"{request}/approve"))
    assert said in page
    assert ">Approve:" not in page


@pytest.mark.wide
def test_filters_that_end_before_they_begin_say_so_at_the_field(browser: Browser) -> None:
    browser.sign_in("finance")
    for path in ("/console/wallets/3", "/console/transactions", "/console/audit", "/console/wallets/3/statement"):
        answer = browser.get(f"{path}?from=2026-02-01&to=2026-01-01")
        assert (answer.status_code, 'id="to-error"' in text_of(answer)) == (422, True), path
        assert 'value="2026-02-01"' in text_of(answer)
        assert browser.get(f"{path}?from=2026-02-01&to=2026-02-01").status_code == 200
        assert browser.get(f"{path}.csv?from=2026-02-01&to=2026-01-01").status_code == 422
    for path in ("/console/wallets/3", "/console/transactions"):
        answer = browser.get(f"{path}?least=5&most=4")
        assert (answer.status_code, 'id="most-error"' in text_of(answer)) == (422, True), path
        assert browser.get(f"{path}?least=5&most=5").status_code == 200


def test_instants_of_a_json_file_are_those_of_the_api(browser: Browser, app: Flask) -> None:
    browser.sign_in("finance")
    (row,) = json.loads(browser.get("/console/wallets/3.json").data)
    assert row["created_at"] == row["created_at"].removesuffix("+00:00")
    assert row["created_at"][-8:-1].startswith(".")
    assert row["created_at"].endswith("Z")
    assert uuid.UUID(row["transaction_id"])
