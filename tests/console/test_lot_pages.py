"""Lots in the console: what a balance is made of, what happened to a lot, extending and revoking, what ends soon."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable

import pytest
from flask import Flask

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import Form, open_form, send
from tests.console.test_approvals import audited_of, decide
from tests.console.test_wallet_pages import rows_of
from wallet_app import service
from wallet_app.service import lot_reads

ORIGIN = service.Origin(client="shop", actor="key:k3f6m2q7zt5a", request_id="request-1")
WHY = {"reason_code": "CORRECTION", "note": "Agreed with the shop", "ticket": "T-9"}


def grant(amount: int, *, days: float | None, reference: str, wallet_id: int = 3) -> uuid.UUID:
    """Grant a bonus that ends so many days from now, None for never; return the id of the lot."""
    ends = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    command = service.Bonus(wallet_id=wallet_id, reference=reference, origin=ORIGIN, amount=amount, expires_at=ends)
    return service.execute(command).transaction.transaction_id


def spend(amount: int, reference: str) -> None:
    service.execute(service.Spend(wallet_id=3, reference=reference, origin=ORIGIN, amount=amount))


@pytest.fixture
def support(browser: Browser) -> Browser:
    return browser.sign_in("support")


@pytest.fixture
def approver(browsers: Callable[..., Browser]) -> Browser:
    return browsers().sign_in("approver")


def test_a_balance_is_told_by_its_ends_and_a_lot_by_what_happened_to_it(app: Flask, support: Browser) -> None:
    assert "Lots</h2>" not in text_of(support.get("/console/wallets/3")), "nothing ends here"
    grant(40, days=None, reference="for-ever")
    late, soon = grant(200, days=20, reference="late"), grant(100, days=3, reference="soon")
    spend(130, "spend-1")
    page = text_of(support.get("/console/wallets/3"))
    lots = rows_of(page, "Lots of wallet 3, as they are taken")
    assert [row[1:4] for row in lots] == [["170", "0", "200"], ["40", "0", "40"]]
    assert re.search(r"bonus .*?210.*? paid .*?500", page, re.DOTALL)
    assert re.search(r">170</data> ends ", page)
    every = rows_of(text_of(support.get("/console/wallets/3/lots?state=all")), "Lots of wallet 3")
    assert [row[1] for row in every] == ["0", "170", "40"]
    events = rows_of(text_of(support.get(f"/console/lots/{late}")), "What happened to this lot")
    assert [(row[1].split(" until")[0], row[2], row[4]) for row in events] == [
        ("Spent", "30", "spend-1"),
        ("Granted", "200", "late"),
    ]
    assert "Nothing left" in text_of(support.get(f"/console/lots/{soon}"))
    explained = text_of(support.get("/console/wallets/3/explain"))
    assert [row[:4] for row in rows_of(explained, "The balance by its ends")] == [
        ["Bonus", "170", "0", "1"],
        ["Bonus", "40", "0", "1"],
    ]
    assert re.search(r"Of it: 500 paid, 170 bonus until [^,]+, [^,]+, 40 bonus without an end\.", explained)
    for path in (f"/console/lots/{uuid.UUID(int=7)}", "/console/lots/x", f"/console/lots/{uuid.UUID(int=7)}/extend"):
        assert support.get(path).status_code == 404, path


def test_extending_takes_two_and_says_both_ends(app: Flask, support: Browser, approver: Browser, sql: Sql) -> None:
    lot = grant(100, days=3, reference="soon")
    path = f"/console/lots/{lot}/extend"
    assert f'href="{path}"' in text_of(support.get(f"/console/lots/{lot}"))
    assert f'href="{path}"' not in text_of(approver.get(f"/console/lots/{lot}"))
    fields, later = open_form(support, path), dt.datetime.now(dt.UTC) + dt.timedelta(days=60)
    for wrong in (
        "",
        "tomorrow",
        "2020-01-01 00:00",
        f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=1):%Y-%m-%d %H:%M}",
    ):
        answer = send(support, path, "check", fields, **WHY, expires_at=wrong)
        assert '<a href="#expires_at">' in text_of(answer), wrong
    entered = {**WHY, "expires_at": f"{later:%Y-%m-%dT%H:%M}"}
    checked = send(support, path, "check", fields, **entered)
    until = f"{later:%-d %b %Y, %H:%M} UTC"
    assert Form(checked).buttons == [f"Ask to extend 100 GOLD until {until}"]
    assert "two people decide on it" in text_of(checked)
    asked = send(support, path, "do", Form(checked).fields)
    request = asked.location.partition("?")[0]
    assert request.startswith("/console/approvals/")
    before = service.get_lot(lot).lot.expires_at
    assert f"Extend a lot of John until {until}" in text_of(support.get("/console/wallets/3"))
    # The very same lot is not asked for twice, whatever the end.
    other = {**entered, "expires_at": f"{later + dt.timedelta(days=1):%Y-%m-%dT%H:%M}"}
    assert send(support, path, "do", open_form(support, path), **other).status_code == 409
    page = text_of(approver.get(f"{request}/approve"))
    assert rows_of(page, "What changes") == [
        ["It can be used until", f"{before:%-d %b %Y, %H:%M} UTC", until],
    ]
    assert decide(approver, request, "approve").location == f"{request}?note=approved"
    lasting = service.get_lot(lot).lot
    assert (lasting.expires_at, lasting.available) == (later.replace(second=0, microsecond=0), 100)
    assert audited_of(sql, request) == [("approval:approve", "done")]
    assert text_of(approver.get(request)).count("It can be used until") == 0, "it is decided"
    events = rows_of(text_of(support.get(f"/console/lots/{lot}")), "What happened to this lot")
    assert [row[1].split(" until")[0] for row in events] == ["Extended", "Granted"]


def test_revoking_takes_back_this_grant_alone(app: Flask, support: Browser, approver: Browser, sql: Sql) -> None:
    lot, other = grant(30, days=3, reference="mis-grant"), grant(50, days=5, reference="right")
    spend(10, "spend-1")
    path = f"/console/lots/{lot}/revoke"
    fields = open_form(support, path)
    answer = send(support, path, "check", fields, **WHY, on_shortfall="refuse")
    assert '<a href="#on_shortfall">' in text_of(answer)
    assert "20 is there to be taken back" in text_of(answer)
    checked = send(support, path, "check", fields, **WHY, on_shortfall="partial")
    assert Form(checked).buttons == ["Revoke this grant of 30 GOLD"]
    assert " (CORRECTION)" in text_of(checked), "the reason by its name"
    done = send(support, path, "do", Form(checked).fields)
    assert "/console/transactions/" in done.location
    assert [service.get_lot(one).lot.available for one in (lot, other)] == [0, 50]
    assert service.get_lot(lot).lot.revoked == 20
    assert service.get_wallet(3).balance == 500 + 80 - 10 - 20
    assert sql("SELECT action, outcome FROM audit_log WHERE action LIKE 'revocation:%%'") == [
        ("revocation:post", "done")
    ]
    assert sql("SELECT kind, amount FROM operator_postings") == [("revocation", 20)]
    assert "/revoke" not in text_of(support.get(f"/console/lots/{lot}")), "nothing is left of it"
    # A large one is asked for, like any reversal of that size.
    large = grant(5_000, days=9, reference="large")
    path = f"/console/lots/{large}/revoke"
    asked = send(support, path, "do", open_form(support, path), **WHY, on_shortfall="refuse")
    request = asked.location.partition("?")[0]
    assert request.startswith("/console/approvals/"), asked.location
    assert "Revoke a lot of John" in text_of(approver.get(request))
    assert decide(approver, request, "approve").location == f"{request}?note=approved"
    assert service.get_lot(large).lot.revoked == 5_000


def test_what_ends_soon_is_told_by_asset_and_wallet(app: Flask, support: Browser) -> None:
    assert "Nothing ends within 30 days." in text_of(support.get("/console/expiring"))
    grant(70, days=3, reference="a")
    grant(5, days=3, reference="b", wallet_id=5)
    grant(900, days=20, reference="c", wallet_id=5)
    grant(1_000, days=40, reference="d")
    grant(9, days=None, reference="e")
    page = text_of(support.get("/console/expiring"))
    assert [row[1:] for row in rows_of(page, "What ends soon, by asset")] == [["75", "2", "975", "2"]]
    listed = rows_of(page, "Wallets of which most ends within 30 days")
    assert [(row[0], row[2], row[3]) for row in listed] == [("5", "905 GOLD", "2"), ("3", "70 GOLD", "1")]
    page = text_of(support.get("/console/expiring?asset=GOLD&days=7"))
    listed = rows_of(page, "Wallets of which most ends within 7 days")
    assert [(row[0], row[2]) for row in listed] == [("3", "70 GOLD"), ("5", "5 GOLD")]
    for query in ("asset=NONE", "days=8", "asset=%00", "days="):
        assert support.get(f"/console/expiring?{query}").status_code == 200, query


def test_what_ends_soon_is_taken_along_lot_by_lot_and_recorded(
    app: Flask, support: Browser, browsers: Callable[..., Browser], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lot_reads, "EXPIRING_LOTS_PAGE", 2)
    path = "/console/expiring"
    first, second = grant(70, days=3, reference="a"), grant(5, days=4, reference="b", wallet_id=5)
    third = grant(900, days=20, reference="c", wallet_id=5)
    other = grant(7, days=2, reference="d", wallet_id=4)
    grant(1_000, days=40, reference="e")
    grant(9, days=None, reference="f")
    spend(30, "spend-1")
    assert f"{path}.csv" not in text_of(support.get(path))
    assert support.get(f"{path}.csv").status_code == 403
    finance = browsers().sign_in("finance")
    links = re.findall(rf'href="({path}\.[^"]*)"', text_of(finance.get(f"{path}?asset=GOLD&days=7")))
    assert links == [f"{path}.csv?asset=GOLD&days=7", f"{path}.json?asset=GOLD&days=7"]
    (head, *rows) = csv.reader(finance.get(links[0]).get_data(as_text=True).splitlines())
    assert [dict(zip(head, row, strict=True)) for row in rows] == [
        {
            "expires_at": service.instant_text(service.get_lot(lot_id).lot.expires_at),
            "wallet_id": wallet_id,
            "user_id": user_id,
            "user_name": name,
            "asset": "GOLD",
            "scale": "0",
            "kind": "bonus",
            "available": available,
            "granted": granted,
            "lot_id": str(lot_id),
        }
        for lot_id, wallet_id, user_id, name, available, granted in (
            (first, "3", "2", "John", "40", "70"),
            (second, "5", "3", "Doe", "5", "5"),
        )
    ]
    for query, lots in (
        ("asset=GOLD&days=30", [first, second, third]),
        ("days=7", [other, first, second]),
        ("", [other, first, second, third]),
        ("asset=DIAMOND", [other]),
    ):
        found = json.loads(finance.get(f"{path}.json?{query}").get_data())
        assert [row["lot_id"] for row in found] == [str(lot) for lot in lots], query
    wrong = finance.get(f"{path}.csv?asset=NONE&days=8")
    assert (wrong.status_code, text_of(wrong).count("Choose one of the list.")) == (422, 2)
    told = sql("SELECT action, outcome, subject, after FROM audit_log WHERE starts_with(action, 'export:') ORDER BY id")
    assert told[:2] == [
        ("export:begin", "done", "expiring", {"filters": {"asset": "GOLD", "days": "7"}}),
        ("export:end", "done", "expiring", {"rows": 2}),
    ]
    assert told[6:8] == [
        ("export:begin", "done", "expiring", {"filters": {"days": "30"}}),
        ("export:end", "done", "expiring", {"rows": 4}),
    ]
    assert len(told) == 10
