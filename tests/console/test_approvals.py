"""Requests for approval in the console: who may decide, what they are shown, what is said when somebody was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy import event
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import ADJUST, LITTLE, MUCH, Form, balance, open_form, send
from wallet_app import service
from wallet_app.db import db
from wallet_app.service import By


@pytest.fixture
def support(browser: Browser) -> Browser:
    return browser.sign_in("support")


@pytest.fixture
def approver(browsers: Callable[..., Browser]) -> Browser:
    return browsers().sign_in("approver")


def ask(support: Browser, path: str = ADJUST, **entered: str) -> str:
    """Ask for an adjustment that needs approval; return the request's page."""
    answer = send(support, path, "do", open_form(support, path), **{**MUCH, **entered})
    assert answer.location is not None, text_of(answer)
    return answer.location.partition("?")[0]


def decide(browser: Browser, request: str, verb: str, **entered: str) -> TestResponse:
    """Decide as the page of the decision has it."""
    page = browser.get(f"{request}/{verb}")
    assert page.status_code == 200, page.location
    return browser.post(f"{request}/{verb}", {**Form(page).fields, **entered})


def audited_of(sql: Sql, request: str) -> list[tuple[str, str]]:
    subject = f"request:{request.rpartition('/')[2]}"
    return sql("SELECT action, outcome FROM audit_log WHERE subject = %s ORDER BY id", subject)  # type: ignore[return-value]


def test_another_approves_and_it_is_done_once(support: Browser, approver: Browser, sql: Sql) -> None:
    before = balance(sql)
    request = ask(support)
    # The maker has no button, is told why, and is refused by the server as well.
    page = text_of(support.get(request))
    assert "/approve" not in page
    assert "is your own: another operator has to decide on it" in page
    for verb in ("approve", "reject"):
        assert support.post(f"{request}/{verb}", {"comment": "me"}).status_code == 403
    assert "Credit 1,000 GOLD to John" in text_of(support.get("/console/wallets/3"))
    page = approver.get(f"{request}/approve")
    assert f"{before + 1_000:,} GOLD" in text_of(page)
    assert balance(sql) == before
    fields = Form(page).fields
    done = approver.post(f"{request}/approve", {**fields, "comment": "Seen the ticket"})
    assert (done.status_code, done.location) == (303, f"{request}?note=approved")
    assert balance(sql) == before + 1_000
    # A double click: the same end, and nothing more.
    again = approver.post(f"{request}/approve", {**fields, "comment": "Seen the ticket"})
    assert again.location == f"{request}?note=approved"
    assert balance(sql) == before + 1_000
    shown = text_of(approver.get(request))
    assert "Seen the ticket" in shown
    assert "by <bdi>Olga approver</bdi>" in shown
    assert audited_of(sql, request) == [("approval:approve", "done")]
    # Whoever comes back to decide is led to what became of it.
    assert approver.get(f"{request}/reject").location == request


def test_an_approver_who_asked_is_refused(support: Browser, browsers: Callable[..., Browser], sql: Sql) -> None:
    """Somebody who asked, and became an approver since."""
    request = ask(support)
    before = balance(sql)
    service.change_role("support@wallet.example", role="approver", by=By(actor="test"))
    self = browsers().sign_in("support")
    shown = text_of(self.get(request))
    assert f'href="{request}/approve"' not in shown
    assert "another operator has to decide on it" in shown
    assert self.get(f"{request}/approve").location == request
    for verb in ("approve", "reject"):
        answer = self.post(
            f"{request}/{verb}", {"comment": "me", "seen": "x"} if verb == "approve" else {"comment": "me"}
        )
        assert answer.status_code == 403
        assert "is your own" in text_of(answer)
    assert balance(sql) == before
    assert {outcome for _, outcome in audited_of(sql, request)} == {"denied"}


def test_who_comes_too_late_is_told_what_happened(
    support: Browser, approver: Browser, browsers: Callable[..., Browser], sql: Sql
) -> None:
    service.change_role("finance@wallet.example", role="approver", by=By(actor="test"))
    second = browsers().sign_in("finance")
    before = balance(sql)

    request = ask(support)
    pages = {verb: Form(second.get(f"{request}/{verb}")).fields for verb in ("approve", "reject")}
    mine = Form(support.get(f"{request}/withdraw")).fields
    assert decide(approver, request, "reject", comment="").status_code == 422
    assert decide(approver, request, "reject", comment="Not his sword").location == f"{request}?note=rejected"
    for browser, verb, fields in (
        (second, "approve", pages["approve"]),
        (second, "reject", {**pages["reject"], "comment": "too late"}),
        (support, "withdraw", mine),
    ):
        answer = browser.post(f"{request}/{verb}", fields)
        assert answer.status_code == 409, verb
        assert "is rejected by Olga approver: it cannot be decided again. Nothing was done now." in text_of(answer)
        assert f'href="{request}"' in text_of(answer)

    # Approved while the maker withdraws: one outcome.
    request = ask(support)
    fields = Form(approver.get(f"{request}/approve")).fields
    assert decide(support, request, "withdraw").location == f"{request}?note=withdrawn"
    answer = approver.post(f"{request}/approve", fields)
    assert answer.status_code == 409
    assert "is withdrawn" in text_of(answer)
    assert support.get(f"{request}/withdraw").location == request

    # Approved after its time is over.
    request = ask(support)
    fields = Form(approver.get(f"{request}/approve")).fields
    sql(
        "SET session_replication_role = replica; UPDATE approval_requests"
        " SET created_at = created_at - interval '3 days', expires_at = expires_at - interval '3 days'"
        " WHERE status = 'pending'"
    )
    answer = approver.post(f"{request}/approve", fields)
    assert (answer.status_code, "is expired" in text_of(answer)) == (409, True)
    assert balance(sql) == before


def test_what_has_changed_is_marked_and_must_be_seen(support: Browser, approver: Browser, sql: Sql) -> None:
    request = ask(support)
    before = balance(sql)
    seen = Form(approver.get(f"{request}/approve")).fields
    send(support, ADJUST, "do", open_form(support, ADJUST), direction="credit", amount="50", reason_code="GOODWILL")
    answer = approver.post(f"{request}/approve", seen)
    assert answer.status_code == 412
    shown = text_of(answer)
    assert "is no longer what you saw" in shown
    assert "This has changed since it was asked for" in shown
    assert f"{before + 50:,}" in shown
    assert balance(sql) == before + 50
    # What is shown now is what is approved; or, of a wallet that never rests, the change whatever the balance is.
    again = Form(answer).fields
    send(support, ADJUST, "do", open_form(support, ADJUST), direction="credit", amount="1", reason_code="GOODWILL")
    assert approver.post(f"{request}/approve", {**again, "although_moving": ""}).status_code == 412
    done = approver.post(f"{request}/approve", {**again, "although_moving": "yes"})
    assert done.location == f"{request}?note=approved"
    assert balance(sql) == before + 1_051


def test_an_approval_passes_no_freeze_that_was_not_shown(support: Browser, approver: Browser, sql: Sql) -> None:
    adjust, freeze = "/console/wallets/5/adjust", "/console/wallets/5/freeze"
    request = ask(support, adjust, direction="debit", reason_code="OTHER", amount="100")
    before = balance(sql, 5)
    page = approver.get(f"{request}/approve")
    assert "frozen" not in text_of(page)
    why = {"side": "debits", "reason": "fraud found", "ticket": "T-9"}
    assert send(support, freeze, "do", open_form(support, freeze), **why).status_code == 303
    answer = approver.post(f"{request}/approve", {**Form(page).fields, "although_moving": "yes"})
    assert (answer.status_code, balance(sql, 5)) == (412, before)
    for shown in (text_of(answer), text_of(approver.get(request)), text_of(approver.get(f"{request}/approve"))):
        assert "It is stopped: approving passes that" in shown
        assert "<li>Wallet 5 is frozen: its debits are.</li>" in shown
        assert "It was not so when this was asked for" in shown
    # Whoever has seen it decides; corrections of what is frozen take two for that.
    assert decide(approver, request, "approve").location == f"{request}?note=approved"
    assert balance(sql, 5) == before - 100


def test_the_transactions_page_has_what_the_audit_log_says_about_it(
    support: Browser, approver: Browser, browsers: Callable[..., Browser], sql: Sql
) -> None:
    request = ask(support)
    drifted = {**Form(approver.get(f"{request}/approve")).fields, "seen": "x"}
    assert approver.post(f"{request}/approve", drifted).status_code == 412
    decide(approver, request, "approve")
    finance = browsers().sign_in("finance")
    ((made,),) = sql("SELECT transaction_id FROM approval_requests")
    path = f"/console/transactions/{made}"
    page = text_of(finance.get(path)).partition("Records about it")[2]
    refused, done = page.partition("Failed")[0], page.partition("Failed")[2]
    assert refused.count("approval:approve") == done.count("approval:approve") == 1
    assert f"request:{request.rpartition('/')[2]}" in done
    assert "In the audit log" not in text_of(support.get(path))
    posted = send(support, ADJUST, "do", open_form(support, ADJUST), **LITTLE).location
    ((little,),) = sql("SELECT transaction_id FROM operator_postings WHERE request_id IS NULL")
    assert posted is not None
    assert "adjustment:post" in text_of(finance.get(f"/console/transactions/{little}"))


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_a_maker_in_another_role_withdraws_and_gets_nothing_approved(
    support: Browser, approver: Browser, browsers: Callable[..., Browser], sql: Sql, role: str
) -> None:
    request, before = ask(support), balance(sql)
    service.change_role("support@wallet.example", role=role, by=By(actor="test"))
    answer = decide(approver, request, "approve")
    assert answer.status_code == 409
    assert f"has the role {role} by now and may not ask for this any more" in text_of(answer)
    maker = browsers().sign_in("support")
    if role == "admin":
        # They see no requests any more, but their own.
        assert f'href="{request}"' in text_of(maker.get("/console"))
        admin = browsers().sign_in("admin")
        assert [admin.get(path).status_code for path in (request, f"{request}/withdraw")] == [403, 403]
        assert admin.post(f"{request}/withdraw", {"comment": ""}).status_code == 403
    assert f'href="{request}/withdraw"' in text_of(maker.get(request))
    assert decide(maker, request, "withdraw").location == f"{request}?note=withdrawn"
    assert balance(sql) == before


def test_what_the_books_refuse_stays_waiting(support: Browser, approver: Browser, sql: Sql) -> None:
    debit = {"direction": "debit", "reason_code": "OTHER"}
    request = ask(support, **debit, amount=str(balance(sql)))
    seen = Form(approver.get(f"{request}/approve")).fields
    less = {**MUCH, **debit, "reason_code": "CORRECTION", "amount": "10"}
    assert send(support, ADJUST, "do", open_form(support, ADJUST), **less).status_code == 303
    page = text_of(approver.get(f"{request}/approve"))
    assert "It cannot be done as things stand" in page
    assert "Approve: " not in page
    assert approver.post(f"{request}/approve", seen).status_code in {409, 412}
    assert sql("SELECT status FROM approval_requests") == [("pending",)]
    assert decide(approver, request, "reject", comment="Too late").location == f"{request}?note=rejected"


def test_amounts_in_refusals_are_as_people_read_them(support: Browser, approver: Browser, sql: Sql) -> None:
    said = {**MUCH, "reason_code": "CORRECTION"}
    sentence = "Wallet 3 has {} GOLD, {} needed."
    has = balance(sql)
    refused = send(
        support, ADJUST, "check", open_form(support, ADJUST), **{**said, "direction": "debit", "amount": "1000000"}
    )
    assert sentence.format(f"{has:,}", "1,000,000") in text_of(refused)
    assert send(support, ADJUST, "do", open_form(support, ADJUST), **said).status_code == 303
    asked = {"direction": "debit", "reason_code": "CORRECTION", "amount": str(has + 1_000)}
    request = ask(support, **asked)
    less = {**said, "direction": "debit", "amount": "10"}
    seen = Form(approver.get(f"{request}/approve")).fields
    assert send(support, ADJUST, "do", open_form(support, ADJUST), **less).status_code == 303
    sentence = sentence.format(f"{has + 990:,}", f"{has + 1_000:,}")
    for answer in (
        approver.get(request),
        approver.get(f"{request}/approve"),
        approver.post(f"{request}/approve", seen),
    ):
        assert sentence in text_of(answer)


def test_closing_a_wallet_takes_two(app: Flask, support: Browser, approver: Browser, sql: Sql) -> None:
    user, _ = service.create_user(name="Ada", external_id="ada")
    wallet, _ = service.create_wallet(user_id=user.user_id, asset_code="GOLD")
    path = f"/console/wallets/{wallet.wallet_id}/close"
    checked = send(support, path, "check", open_form(support, path), reason="Left")
    assert Form(checked).buttons == [f"Ask to close wallet {wallet.wallet_id} for good"]
    request = send(support, path, "do", Form(checked).fields).location.partition("?")[0]
    shown = text_of(approver.get(f"{request}/approve"))
    assert f"Approve: Close wallet {wallet.wallet_id} of Ada" in shown
    assert "closed, for good" in shown
    assert decide(approver, request, "approve").location == f"{request}?note=approved"
    assert sql("SELECT status FROM wallets WHERE id = %s", wallet.wallet_id) == [("CLOSED",)]
    assert "is closed" in text_of(send(support, path, "check", open_form(support, path), reason="Again"))


@contextmanager
def counting(app: Flask) -> Iterator[list[str]]:
    sent: list[str] = []

    def note(*given: object) -> None:
        sent.append(str(given[2]))

    with app.app_context():
        engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield sent
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def test_the_list_by_status_maker_wallet_and_ticket(
    app: Flask, support: Browser, approver: Browser, browsers: Callable[..., Browser]
) -> None:
    def numbers(browser: Browser, query: str) -> list[int]:
        answer = browser.get(f"/console/approvals?{query}")
        assert answer.status_code == 200
        shown = text_of(answer)
        return [number for number in range(1, 70) if f'<a href="/console/approvals/{number}">' in shown]

    assert numbers(support, "ticket=%00&wallet=%E2%80%AE") == []

    first = ask(support)
    with counting(app) as few:
        assert numbers(approver, "") == [1]
    for amount in range(1_001, 1_060):
        # Below the day's bound and above the reason's threshold: each becomes a request.
        ask(support, amount=str(amount))
    decide(approver, first, "reject", comment="no")
    ask(support, "/console/wallets/5/adjust", ticket="T-9")
    with counting(app) as many:
        assert numbers(approver, "") == list(range(12, 62))
    assert len(many) == len(few), "a query for each row"
    assert numbers(approver, "before=12") == list(range(2, 12))
    assert numbers(approver, "status=rejected") == [1]
    assert numbers(approver, "status=all&before=3") == [1, 2]
    assert numbers(approver, "wallet=5") == [61]
    assert numbers(approver, "ticket=T-9&status=all") == [61]
    assert numbers(approver, "maker=me") == []
    assert len(numbers(approver, "maker=others")) == 50
    assert numbers(support, "maker=others") == []
    for bad in ("status=odd", "wallet=x"):
        assert approver.get(f"/console/approvals?{bad}").status_code == 422
    assert approver.get("/console/approvals/999").status_code == 404
    finance = browsers().sign_in("finance")
    rows = finance.get("/console/approvals.csv?status=rejected").get_data(as_text=True).splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("1,rejected,adjustment,3,John,GOLD,1000,COMPENSATION,T-2,Olga support,")
    assert approver.get("/console/approvals.csv").status_code == 403
