"""Limits in the console: set for an asset and for one wallet, seen with what is used of them, raised by two people."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import Form, open_form, send
from tests.console.test_administration import heading, wrong_field
from wallet_app import service
from wallet_app.errors import LimitExceededError

GOLD = "/console/assets/GOLD/limits"
RAISE = "/console/wallets/3/limits"
ORIGIN = service.Origin(client="test", actor="tester")


def spend(amount: int, reference: str) -> service.Receipt:
    return service.execute(service.Spend(wallet_id=3, amount=amount, reference=reference, origin=ORIGIN))


def cells(answer: TestResponse, row: str) -> list[str]:
    """What stands in the row of the page's tables that begins so."""
    for found in re.findall(r"<tr[^>]*>(.*?)</tr>", text_of(answer), re.S):
        texts = [" ".join(re.sub(r"<[^>]+>", "", one).split()) for one in re.findall(r"<t[hd].*?</t[hd]>", found, re.S)]
        if texts[0] == row:
            return texts[1:]
    raise AssertionError(f"no row {row}: {text_of(answer)}")


@pytest.mark.wide
def test_an_administrator_sets_limits_and_all_of_it_is_recorded(browser: Browser, sql: Sql) -> None:
    admin = browser.sign_in("admin")
    form = {
        "for": "asset",
        "wallet": "",
        "single": "1,000",
        "balance": "",
        "day": "5000",
        "rolling": "",
        "reason": "Law",
    }
    for name, value in (("single", "1,0"), ("day", "-1"), ("rolling", "9" * 17)):
        assert wrong_field(admin.post(f"{GOLD}/set", form | {name: value})) == name
    assert admin.post(f"{GOLD}/set", form).location == f"{GOLD}?note=limits-set"
    assert cells(admin.get(GOLD), "Every wallet of the asset")[:4] == ["1,000", "none", "5,000", "none"]
    opened = Form(admin.get(f"{GOLD}/set?for=asset")).fields
    assert (opened["single"], opened["balance"], opened["day"]) == ("1000", "", "5000")
    for wallet in ("x", "4", "1", "99", "9" * 30):
        assert wrong_field(admin.get(f"{GOLD}/set?for=wallet&wallet={wallet}")) == "wallet"
        assert wrong_field(admin.post(f"{GOLD}/set", form | {"for": "wallet", "wallet": wallet})) == "wallet"
    assert admin.get(f"{GOLD}/set?for=nobody").status_code == 404
    assert admin.get("/console/assets/SILVER/limits").status_code == 404
    assert heading(admin.get(f"{GOLD}/set?for=wallet&wallet=3")) == "Limits: Wallet 3"
    admin.post(f"{GOLD}/set", form | {"for": "wallet", "wallet": "3", "single": "", "day": "7"})
    admin.post(f"{GOLD}/set", form | {"for": "user_type", "single": "9"})
    assert cells(admin.get(GOLD), "3")[:4] == ["none", "none", "7", "none"]
    recorded = sql(
        "SELECT action, subject, reason, after->>'day' FROM audit_log WHERE action = 'limits:set' ORDER BY id"
    )
    assert recorded == [
        ("limits:set", "asset:GOLD", "Law", "5000"),
        ("limits:set", "wallet:3", "Law", "7"),
        ("limits:set", "asset:GOLD", "Law", "5000"),
    ]


@pytest.fixture
def limited(app: Flask) -> None:
    """GOLD has limits, and wallet 3 has used some of them."""
    target = service.LimitTarget(asset_code="GOLD")
    service.set_limits(target, service.WalletLimits(single=100, day=150, rolling=200), by=service.By(actor="tests"))
    spend(70, "first")


@pytest.mark.wide
def test_a_wallets_page_says_what_is_used_and_when_it_is_free_again(browser: Browser, limited: None) -> None:
    support = browser.sign_in("support")
    page = support.get("/console/wallets/3")
    assert cells(page, "At once") == ["100", "", "", "", "Every wallet of the asset"]
    day, rolling = cells(page, "Spent on a day"), cells(page, "Spent within 24 hours")
    assert day[:3] == ["150", "70", "80"]
    assert rolling[:3] == ["200", "70", "130"]
    assert day[3].startswith("70 at ")
    assert f'href="{RAISE}"' in text_of(page)
    assert 'id="limits"' not in text_of(support.get("/console/wallets/4"))


def test_higher_limits_are_asked_for_and_approved_by_another(
    browsers: Callable[..., Browser], limited: None, sql: Sql
) -> None:
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(days=7)).strftime("%Y-%m-%dT%H:%M")
    fields = open_form(support, RAISE) | {"reason": "A tournament", "ticket": "T-1"}
    for entered, wrong in (
        ({"day": "500"}, "until"),
        ({"until": until}, "day"),
        ({"until": until, "day": "150"}, "day"),
        ({"until": until, "balance": "500"}, "balance"),
        ({"until": "2020-01-01 00:00", "day": "500"}, "until"),
        ({"until": "2999-01-01 00:00", "day": "500"}, "until"),
    ):
        refused = send(support, RAISE, "check", fields, **{name: "" for name in fields if name == "balance"} | entered)
        assert refused.status_code in {409, 422}, entered
        assert wrong == "balance" or f'href="#{wrong}"' in text_of(refused), entered
    checked = send(support, RAISE, "check", fields, until=until, day="500", single="400")
    assert cells(checked, "Spent on a day") == ["150 GOLD", "500 GOLD"]
    assert cells(checked, "Spent within 24 hours") == ["200 GOLD", "200 GOLD"]
    assert Form(checked).buttons == ["Ask to raise limits of wallet 3"]
    asked = send(support, RAISE, "do", Form(checked).fields)
    request = asked.location.partition("?")[0]
    assert "Raise limits of wallet 3" in text_of(support.get("/console/wallets/3"))
    with pytest.raises(LimitExceededError):
        spend(101, "too much")
    shown = approver.get(f"{request}/approve")
    assert cells(shown, "Spent on a day") == ["150 GOLD", "500 GOLD"]
    done = approver.post(f"{request}/approve", Form(shown).fields)
    assert done.status_code == 303, text_of(done)
    page = support.get("/console/wallets/3")
    assert cells(page, "At once")[0::4] == ["400", "Raised for a while"]
    assert "Raised until" in text_of(page)
    spend(130, "then")
    with pytest.raises(LimitExceededError, match="within 24 hours"):
        spend(1, "at last")
    maker, checker = sql("SELECT maker_id, checker_id FROM approval_requests WHERE kind = 'limit_raise'")[0]
    assert maker != checker
    ((raised,),) = sql("SELECT transaction_id FROM transactions WHERE kind = 'LIMIT_RAISE'")
    told = text_of(support.get(f"/console/transactions/{raised}"))
    assert "Limits raised" in told
    assert "A tournament" in told


def test_one_operator_ends_what_two_raised(browsers: Callable[..., Browser], limited: None, sql: Sql) -> None:
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(days=7)).strftime("%Y-%m-%dT%H:%M")
    path = f"{RAISE}/end"
    assert path not in text_of(support.get("/console/wallets/3"))
    nothing = send(support, path, "check", open_form(support, path), reason="It is off")
    assert (nothing.status_code, "are not raised now" in text_of(nothing)) == (409, True)
    asked = send(support, RAISE, "do", open_form(support, RAISE), until=until, day="500", reason="A tournament")
    request = asked.location.partition("?")[0]
    approver.post(f"{request}/approve", Form(approver.get(f"{request}/approve")).fields)
    spend(100, "much")

    assert f'href="{path}"' in text_of(support.get("/console/wallets/3"))
    assert f'href="{path}"' not in text_of(approver.get("/console/wallets/3"))
    assert approver.get(path).status_code == 403
    fields = open_form(support, path)
    assert 'href="#reason"' in text_of(send(support, path, "check", fields))
    checked = send(support, path, "check", fields, reason="It is off", ticket="T-2")
    assert cells(checked, "Spent on a day") == ["500 GOLD", "150 GOLD"]
    assert Form(checked).buttons == ["End raised limits of wallet 3"]
    done = send(support, path, "do", Form(checked).fields)
    ((ended,),) = sql("SELECT transaction_id FROM transactions WHERE kind = 'LIMIT_RAISE_END'")
    assert done.location == f"/console/transactions/{ended}?note=done"
    assert send(support, path, "do", Form(checked).fields).location == f"/console/transactions/{ended}?note=sent-before"
    shown = text_of(support.get(done.location))
    assert "Raised limits ended" in shown
    assert "It is off" in shown
    page = support.get("/console/wallets/3")
    assert "Raised until" not in text_of(page)
    assert cells(page, "Spent on a day")[:3] == ["150", "170", "0"]
    assert sql(
        "SELECT action, outcome, subject, reason, ticket FROM audit_log WHERE action LIKE 'limit_raise_end:%%'"
    ) == [("limit_raise_end:post", "done", "wallet:3", "It is off", "T-2")]
    assert service.verify(full=True).broken() == set()


@pytest.mark.wide
def test_a_refusal_by_a_limit_is_in_the_units_of_people(browser: Browser, app: Flask, sql: Sql) -> None:
    by = service.By(actor="tests")
    service.create_asset(code="SILVER", name="Silver", scale=2, by=by)
    ((one, _), (two, _)) = (service.create_wallet(user_id=user_id, asset_code="SILVER") for user_id in (2, 3))
    service.execute(service.TopUp(wallet_id=one.wallet_id, amount=1_000, reference="first", origin=ORIGIN))
    service.set_limits(service.LimitTarget(asset_code="SILVER"), service.WalletLimits(day=150), by=by)
    support = browser.sign_in("support")
    path = f"/console/wallets/{one.wallet_id}/transfer"
    fields = open_form(support, path) | {"to_wallet_id": str(two.wallet_id), "amount": "2.00", "note": "x"}
    refused = send(support, path, "check", fields, reason_code="CORRECTION", ticket="T-1")
    assert refused.status_code == 409, text_of(refused)
    assert f"2.00 SILVER is above the limit of wallet {one.wallet_id} (spent on a day), 1.50 SILVER" in text_of(refused)
