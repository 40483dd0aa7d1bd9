"""Acts in three pages: enter, check, done. Whatever is clicked twice, reloaded or tampered with is done once or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, text_of
from wallet_app import service
from wallet_app.service import By

STEPS = ("check", "change", "do")


class Form(HTMLParser):
    """The form of a page with what is filled in, as a browser would send it."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.buttons: list[str] = []
        self._is_in = False
        self._textarea = self._select = self._button = ""
        self.feed(answer.get_data(as_text=True))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._is_in = said.get("method") == "post" and said.get("action", "").endswith("sign-out") is False
        if not self._is_in or (name := said.get("name", "")) == "form_token":
            return
        if tag == "input" and (said.get("type") != "radio" or "checked" in said):
            self.fields[name] = said.get("value", "")
        if tag == "textarea":
            self._textarea = name
            self.fields[name] = ""
        if tag == "select":
            self._select = name
            self.fields[name] = ""
        if tag == "option" and "selected" in said:
            self.fields[self._select] = said["value"]
        if tag == "button":
            self._button = said.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.fields[self._textarea] += data
        if self._button == "do" and data.strip():
            self.buttons.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = ""
        if tag == "button":
            self._button = ""
        if tag == "form":
            self._is_in = False


def open_form(browser: Browser, path: str) -> dict[str, str]:
    """Open an act's form, as a link to it does; return its fields with the one-time key."""
    first = browser.get(path)
    assert first.status_code == 303, text_of(first)
    page = browser.get(first.location)
    assert page.status_code == 200, text_of(page)
    return Form(page).fields


def send(browser: Browser, path: str, step: str, fields: dict[str, str], **entered: str) -> TestResponse:
    return browser.post(path, {**fields, **entered, "step": step})


def title_of(answer: TestResponse) -> str:
    found = re.search("<title>(.*?)</title>", text_of(answer))
    assert found is not None
    return found[1]


FREEZE = "/console/wallets/3/freeze"
WHY = {"side": "debits", "reason": "Chargeback", "ticket": "T-17"}


@pytest.fixture
def support(browser: Browser) -> Browser:
    return browser.sign_in("support")


def frozen(sql: Sql) -> bool:
    return bool(sql("SELECT debits_frozen_until IS NOT NULL FROM wallets WHERE id = 3")[0][0])


def test_enter_check_done_and_the_record_of_it(support: Browser, sql: Sql) -> None:
    fields = open_form(support, FREEZE)
    # What is missing is said at its field, and what was entered stays.
    answer = send(support, FREEZE, "check", fields, ticket="T-17", until="tomorrow")
    assert (answer.status_code, title_of(answer)) == (422, "Error: Freeze wallet 3 \u2013 Dino Wallet")
    said = text_of(answer)
    for name in ("side", "reason", "until"):
        assert f'href="#{name}"' in said
        assert f'id="{name}-error"' in said
    assert Form(answer).fields["ticket"] == "T-17"
    checked = send(support, FREEZE, "check", fields, **WHY)
    assert checked.status_code == 200
    assert Form(checked).buttons == ["Freeze debits of wallet 3"]
    assert not frozen(sql)
    # Change: back to the form with what was entered; and on again.
    changed = send(support, FREEZE, "change", Form(checked).fields)
    assert {name: Form(changed).fields[name] for name in WHY} == WHY
    done = send(support, FREEZE, "do", Form(checked).fields)
    assert done.status_code == 303
    found = re.fullmatch(r"/console/transactions/([0-9a-f-]{36})\?note=done", done.location)
    assert found is not None
    assert frozen(sql)
    row = sql(
        "SELECT actor, action, subject, reason, ticket, outcome, after->>'transactionId' FROM audit_log"
        " WHERE starts_with(subject, 'wallet:')"
    )
    (support_actor,) = sql("SELECT 'operator:' || id FROM operators WHERE role = 'support'")[0]
    assert row == [(support_actor, "freeze:post", "wallet:3", "Chargeback", "T-17", "done", found[1])]


def test_double_click_reload_back_and_two_tabs_end_on_the_same_page(support: Browser, sql: Sql) -> None:
    fields = open_form(support, FREEZE) | WHY
    first = send(support, FREEZE, "do", fields)
    page = first.location.partition("?")[0]
    again = send(support, FREEZE, "do", fields)  # A double click, or a reload of what is done.
    checked = send(support, FREEZE, "check", fields)  # Back to the check page, and a reload there.
    form = support.get(f"{FREEZE}?form={fields['form']}")  # Back to the form: its address has its key.
    for answer in (again, checked, form):
        assert (answer.status_code, answer.location) == (303, f"{page}?note=sent-before")
    # Another tab that had the same form open, with something else entered.
    other = send(support, FREEZE, "do", fields, reason="Something else")
    assert other.status_code == 409
    assert "This form was sent before, with other entries" in text_of(other)
    assert f'href="{page}"' in text_of(other)
    assert send(support, FREEZE, "check", fields, reason="Something else").location == f"{page}?note=sent-before"
    assert sql("SELECT count(*) FROM transactions WHERE kind = 'FREEZE'") == [(1,)]
    # What was done is recorded once, and so is what was asked in vain.
    recorded = sql("SELECT action FROM audit_log WHERE subject = 'wallet:3' ORDER BY id")
    assert recorded == [("freeze:post",), ("freeze:refuse",)]


def test_a_key_is_for_one_operator_one_act_and_one_wallet(
    support: Browser, browsers: Callable[..., Browser], sql: Sql
) -> None:
    fields = open_form(support, FREEZE) | WHY
    key, proof = fields["form"].split(".")
    bad = ["", "x", key, f"{key}.{'0' * 64}", f"{key[::-1]}.{proof}", f"{fields['form']} "]
    for given in bad:
        answer = send(support, FREEZE, "do", fields, form=given)
        assert answer.status_code == 422, given
        assert "Nothing was done" in text_of(answer)
    for path in ("/console/wallets/5/freeze", "/console/wallets/3/unfreeze"):
        assert send(support, path, "do", fields | {"side": "both"} if "un" in path else fields).status_code in {
            403,
            422,
        }
    service.change_role("approver@wallet.example", role="support", by=By(actor="test"))
    other = browsers().sign_in("approver")
    assert send(other, FREEZE, "do", fields).status_code == 422
    # Who follows a link to another's form gets one of their own.
    assert other.get(f"{FREEZE}?form={fields['form']}").location != f"{FREEZE}?form={fields['form']}"
    assert not frozen(sql)


def test_what_is_declined_comes_back_filled_in(support: Browser) -> None:
    path = "/console/wallets/3/unfreeze"
    fields = open_form(support, path) | {"side": "both", "reason": "Settled"}
    for step in ("check", "do"):
        answer = send(support, path, step, fields)
        assert answer.status_code == 409
        assert "Wallet 3 is not frozen" in text_of(answer)
        assert 'href="#side"' in text_of(answer)
        assert Form(answer).fields["reason"] == "Settled"
    path = "/console/wallets/3/close"
    fields = open_form(support, path) | {"reason": "Left"}
    answer = send(support, path, "check", fields)
    assert answer.status_code == 409
    assert "only an empty one can be closed" in text_of(answer)
    for path in ("/console/wallets/1/freeze", "/console/wallets/99/freeze"):
        assert support.get(path).status_code in {404, 409}


ADJUST = "/console/wallets/3/adjust"
LITTLE = {"direction": "credit", "amount": "50", "reason_code": "GOODWILL", "note": "Sorry", "ticket": "T-1"}
MUCH = {"direction": "credit", "amount": "1,000", "reason_code": "COMPENSATION", "note": "Lost sword", "ticket": "T-2"}


def balance(sql: Sql, wallet_id: int = 3) -> int:
    return int(sql("SELECT balance FROM wallet_balances WHERE wallet_id = %s", wallet_id)[0][0])


def test_adjusting_below_the_threshold_is_done_and_above_it_is_asked_for(support: Browser, sql: Sql) -> None:
    before = balance(sql)
    fields = open_form(support, ADJUST)
    # No minus sign, no rounding, nothing to be guessed at; and no field for what a balance is to be.
    for amount in ("-5", "+5", "1e3", "1.5", "1.000", "10,00", "0", "", "9,007,199,254,740,992", "\u0665"):
        answer = send(support, ADJUST, "check", fields, **{**LITTLE, "amount": amount})
        assert answer.status_code == 422, amount
        assert 'href="#amount"' in text_of(answer)
        assert Form(answer).fields["amount"] == amount
    answer = send(support, ADJUST, "check", fields, direction="credit", amount="10")
    assert 'href="#reason_code"' in text_of(answer)
    checked = send(support, ADJUST, "check", fields, **LITTLE)
    assert Form(checked).buttons == ["Credit 50 GOLD to John"]
    assert f"{before:,} GOLD" in text_of(checked)
    assert f"{before + 50:,} GOLD" in text_of(checked)
    assert balance(sql) == before
    done = send(support, ADJUST, "do", Form(checked).fields)
    assert (done.location.partition("?")[0][:22], done.location[-10:]) == ("/console/transactions/", "?note=done")
    assert balance(sql) == before + 50

    fields = open_form(support, ADJUST)
    checked = send(support, ADJUST, "check", fields, **MUCH)
    assert Form(checked).buttons == ["Ask to credit 1,000 GOLD to John"]
    assert "Somebody else must approve this" in text_of(checked)
    asked = send(support, ADJUST, "do", Form(checked).fields)
    assert re.fullmatch(r"/console/approvals/1\?note=asked", asked.location)
    for step in ("do", "check"):
        again = send(support, ADJUST, step, Form(checked).fields)
        assert again.location == "/console/approvals/1?note=sent-before"
    assert support.get(f"{ADJUST}?form={fields['form']}").location == "/console/approvals/1?note=sent-before"
    assert balance(sql) == before + 50
    assert send(support, ADJUST, "do", Form(checked).fields | {"amount": "1001"}).status_code == 409
    # The very same once more, by a form of its own: refused in words, with what waits.
    answer = send(support, ADJUST, "do", open_form(support, ADJUST), **MUCH)
    assert answer.status_code == 409
    assert "Request 1 of Olga support asks for the very same" in text_of(answer)


def test_what_a_reason_asks_for_is_said_at_its_field(support: Browser) -> None:
    fields = open_form(support, ADJUST)
    for entered, field in (
        ({**MUCH, "ticket": ""}, "ticket"),
        ({**LITTLE, "amount": "1001"}, "amount"),
        ({**LITTLE, "direction": "debit"}, "direction"),
        ({**LITTLE, "reason_code": "NO_SUCH"}, "reason_code"),
        ({**LITTLE, "direction": "debit", "reason_code": "CORRECTION", "amount": "1000000"}, "amount"),
        ({**LITTLE, "ticket": "two words"}, "ticket"),
    ):
        answer = send(support, ADJUST, "check", fields, **entered)
        assert f'<a href="#{field}">' in text_of(answer), (entered, text_of(answer))
        assert answer.status_code in {404, 409, 422}


def test_the_other_acts(app: Flask, support: Browser, sql: Sql) -> None:
    """A transfer, the reversal of it in part, and a hold that is released."""
    before = balance(sql), balance(sql, 5)
    path = "/console/wallets/3/transfer"
    entered = {
        "to_wallet_id": "5",
        "amount": "30",
        "reason_code": "CORRECTION",
        "note": "Wrong wallet",
        "ticket": "T-3",
    }
    fields = open_form(support, path)
    for wrong in ("3", "4", "99", "1", "x", ""):
        answer = send(support, path, "check", fields, **{**entered, "to_wallet_id": wrong})
        assert '<a href="#to_wallet_id">' in text_of(answer), wrong
    checked = send(support, path, "check", fields, **entered)
    assert Form(checked).buttons == ["Transfer 30 GOLD to wallet 5"]
    done = send(support, path, "do", Form(checked).fields)
    assert (balance(sql), balance(sql, 5)) == (before[0] - 30, before[1] + 30)

    path = f"{done.location.partition('?')[0]}/reverse"
    entered = {
        "amount": "10",
        "on_shortfall": "refuse",
        "reason_code": "CORRECTION",
        "note": "Too much",
        "ticket": "T-4",
    }
    fields = open_form(support, path)
    assert '<a href="#amount">' in text_of(send(support, path, "check", fields, **{**entered, "amount": "31"}))
    checked = send(support, path, "check", fields, **entered)
    assert Form(checked).buttons == ["Reverse 10 GOLD of this transfer"]
    send(support, path, "do", Form(checked).fields)
    assert (balance(sql), balance(sql, 5)) == (before[0] - 20, before[1] + 20)
    assert support.get("/console/transactions/00000000-0000-7000-8000-000000000000/reverse").status_code == 404

    held = service.execute(
        service.PlaceHold(
            wallet_id=3, reference="hold-1", origin=service.Origin(client="t", actor="t"), amount=40, expires_in=3600
        )
    )
    assert held.hold is not None
    path = f"/console/holds/{held.hold.hold_id}/release"
    entered = {"reason_code": "CORRECTION", "note": "Cancelled", "ticket": "T-5"}
    checked = send(support, path, "check", open_form(support, path), **entered)
    assert Form(checked).buttons == ["Release 40 GOLD to John"]
    assert send(support, path, "do", Form(checked).fields).status_code == 303
    assert balance(sql) == before[0] - 20
    # Released already: said in words.
    assert "is released" in text_of(send(support, path, "check", open_form(support, path), **entered))
    assert support.get("/console/holds/00000000-0000-7000-8000-000000000000/release").status_code == 404
