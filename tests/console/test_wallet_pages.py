"""What a wallet's pages tell is what the books say: the timeline, the explanation, the statement, a transaction."""

from __future__ import annotations

import contextvars
import csv
import datetime as dt
import io
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import quote

import psycopg
import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from tests.conftest import conninfo
from tests.console.conftest import Browser, Sql, text_of
from wallet_app import service
from wallet_app.console import exports
from wallet_app.db import db
from wallet_app.service import explanations, queries

ORIGIN = service.Origin(client="shop", actor="key:k3f6m2q7zt5a", request_id="request-1")


def execute(kind: type[service.Command], reference: str, wallet_id: int = 3, **values: object) -> service.Receipt:
    return service.execute(kind(wallet_id=wallet_id, reference=reference, origin=ORIGIN, **values))


def a_life() -> dict[str, uuid.UUID]:
    """Everything that can happen to John's GOLD wallet, 3, which was seeded; each transaction's id by a name."""
    done = {
        "topup": execute(service.TopUp, "topup-1", amount=5_000, note="=cmd|' /C calc'!A0", metadata='{"order": 7}'),
        "bonus": execute(service.Bonus, "bonus-1", amount=25),
        "spend": execute(service.Spend, "spend-1", amount=700, note="<b>lunch</b>"),
        "hold": execute(service.PlaceHold, "hold-1", amount=300, expires_in=3_600),
        "transfer": execute(service.Transfer, "transfer-1", to_wallet_id=5, amount=40),
    }
    ids = {name: receipt.transaction.transaction_id for name, receipt in done.items()}
    more = {
        "capture": execute(service.CaptureHold, "capture-1", hold_id=ids["hold"], amount=100),
        "part": execute(
            service.ReverseTransaction, "reversal-1", transaction_id=ids["topup"], amount=1_000, reason="Charged back"
        ),
        "rest": execute(
            service.ReverseTransaction, "reversal-2", transaction_id=ids["topup"], amount=500, reason="Again"
        ),
        "freeze": execute(service.Freeze, "freeze-1", side="debits", reason="Account taken over"),
    }
    return ids | {name: receipt.transaction.transaction_id for name, receipt in more.items()}


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect what the database is asked, one way or the other."""
    asked: list[str] = []

    def collect(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    real = queries.ask

    def ask(connection: object, *questions: object) -> object:
        asked.extend(str(question) for question in questions)
        return real(connection, *questions)  # type: ignore[arg-type]

    engines = list(db.engines.values())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(queries, "ask", ask)
        for engine in engines:
            event.listen(engine, "before_cursor_execute", collect)
        yield asked
        for engine in engines:
            event.remove(engine, "before_cursor_execute", collect)


def rows_of(page: str, caption: str) -> list[list[str]]:
    """The cells of the table with that caption, as texts."""
    table = re.search(rf"<caption[^>]*>{re.escape(caption)}</caption>(.*?)</table>", page, re.DOTALL)
    assert table is not None, caption
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table[1].split("<tbody>")[1], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells]


def test_the_timeline_has_movements_and_states_with_the_balance_after_each(browser: Browser, app: Flask) -> None:
    ids = a_life()
    browser.sign_in("viewer")
    page = text_of(browser.get("/console/wallets/3"))
    told = [(row[1], *row[2:5]) for row in rows_of(page, "What happened to wallet 3")]
    assert (
        told
        == [
            ("Freeze debits", "nothing moved", "freeze-1", "key:k3f6m2q7zt5a"),
            ("Reversal of another", "\u2212500", "2,985", "reversal-2"),
            ("Reversal of another", "\u22121,000", "3,485", "reversal-1"),
            ("Spend of a capture", "\u2212100", "4,485", "capture-1"),
            ("Release of a capture", "+100", "4,585", "capture-1"),
            ("Transfer", "\u221240", "4,485", "transfer-1"),
            ("Hold", "\u2212300", "4,525", "hold-1"),
            ("Spend", "\u2212700", "4,825", "spend-1"),
            ("Bonus", "+25", "5,525", "bonus-1"),
            ("Top-up Reversed in part", "+5,000", "5,500", "topup-1"),
            ("Seeded balance", "+500", "500", "sys:seed"),
        ]
        or [row[1:] for row in told] == []
    )
    assert "Debits are frozen until it is lifted." in page
    assert "<b>lunch</b>" not in browser.get("/console/wallets/3").get_data(as_text=True)
    for name in ("freeze", "part", "topup"):
        assert f"/console/transactions/{ids[name]}" in page


FILTERS = {
    "kind=REVERSAL": ["reversal-2", "reversal-1"],
    "kind=FREEZE": ["freeze-1"],
    "reference=spend-1": ["spend-1"],
    "least=700&most=1000": ["reversal-1", "spend-1"],
    "to=2020-01-31": [],
    "from=2020-01-31&kind=BONUS": ["bonus-1"],
}


def test_filters_narrow_the_timeline_stay_in_every_address_and_are_explained_when_wrong(
    browser: Browser, app: Flask, sql: Sql
) -> None:
    a_life()
    browser.sign_in("finance")
    for query, references in FILTERS.items():
        page = text_of(browser.get(f"/console/wallets/3?{query}"))
        rows = rows_of(page, "What happened to wallet 3") if references else []
        assert [row[-3] for row in rows] == references, query
        assert f"/console/wallets/3.csv?{query.replace('&kind=BONUS', '')}"[:20] in page
        file = browser.get(f"/console/wallets/3.json?{query}")
        assert [row["reference"] for row in json.loads(file.data)] == references
        assert sql("SELECT after FROM audit_log WHERE action = 'export:begin' ORDER BY id DESC LIMIT 1")[0][0] == {
            "filters": dict(pair.split("=") for pair in query.split("&"))
        }
        assert sql("SELECT outcome, after FROM audit_log ORDER BY id DESC LIMIT 1") == [
            ("done", {"rows": len(references)})
        ]
    wrong = browser.get("/console/wallets/3?kind=THEFT&from=yesterday&least=1.5&most=1,00&reference=x")
    assert wrong.status_code == 422
    page = text_of(wrong)
    assert page.count("Choose one of the list.") == 2
    assert page.count("Enter a day like 2026-01-31") == 2
    assert page.count("Enter an amount with no places behind the point") == 2
    assert page.count("Enter an amount in digits, like 1,000, without a sign.") == 2
    assert 'value="yesterday"' in page
    assert browser.get("/console/wallets/3.csv?least=-1").status_code == 422


def test_pages_of_the_timeline_go_on_where_they_ended_with_their_filter(browser: Browser, app: Flask) -> None:
    service.execute_batch(
        [service.Bonus(wallet_id=3, reference=f"page-{n:03}", origin=ORIGIN, amount=1) for n in range(120)]
    )
    execute(service.Freeze, "freeze-1", side="both", reason="To be looked at")
    browser.sign_in("viewer")
    path, seen, pages = "/console/wallets/3?kind=BONUS&least=1", [], 0
    while path:
        page = text_of(browser.get(path))
        seen += [row[-3] for row in rows_of(page, "What happened to wallet 3")]
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path, pages = (following[1] if following else ""), pages + 1
        assert "kind=BONUS&least=1" in path or not path
    assert (seen, pages) == ([f"page-{n:03}" for n in reversed(range(120))], 3)
    # A position that is none is the beginning.
    assert "page-119" in text_of(browser.get("/console/wallets/3?kind=BONUS&before=zz"))


def test_a_wallet_shows_some_of_its_holds_and_debts_and_leads_to_all_of_them(browser: Browser, app: Flask) -> None:
    service.execute_batch(
        [
            service.PlaceHold(wallet_id=3, reference=f"hold-{n:02}", origin=ORIGIN, amount=1, expires_in=3_600)
            for n in range(55)
        ]
    )
    top_ups = [service.TopUp(wallet_id=5, reference=f"top-up-{n:02}", origin=ORIGIN, amount=2) for n in range(55)]
    got = service.execute_batch(top_ups)
    execute(service.Spend, "all", wallet_id=5, amount=service.get_wallet(5).balance)
    for receipt in got:
        assert isinstance(receipt, service.Receipt)
        posted = receipt.transaction
        back = {"transaction_id": posted.transaction_id, "reason": "Charged back", "on_shortfall": "debt"}
        execute(service.ReverseTransaction, f"back-{posted.reference}", wallet_id=5, **back)
    browser.sign_in("viewer")

    def walked(path: str, caption: str, column: int) -> list[list[str]]:
        found = []
        while path:
            page = text_of(browser.get(path))
            found.append([row[column] for row in rows_of(page, caption)])
            following = re.search(r'href="([^"]+)" rel="next"', page)
            path = following[1] if following else ""
        return found

    newest = [f"hold-{n:02}" for n in reversed(range(55))]
    wallet = text_of(browser.get("/console/wallets/3"))
    assert [row[4] for row in rows_of(wallet, "Open holds of wallet 3")] == newest[:10]
    assert '<a href="/console/wallets/3/holds">All 55 open holds</a>' in wallet
    assert walked("/console/wallets/3/holds", "Open holds of wallet 3", 4) == [newest[:50], newest[50:]]

    oldest = [f"top-up-{n:02}" for n in range(55)]
    wallet = text_of(browser.get("/console/wallets/5"))
    assert [row[3] for row in rows_of(wallet, "What wallet 5 owes")] == oldest[:10]
    assert '<a href="/console/wallets/5/debts">All 55 that it owes for</a>' in wallet
    assert walked("/console/wallets/5/debts", "What wallet 5 owes", 3) == [oldest[:50], oldest[50:]]

    for listed in ("holds", "debts"):
        assert "All 55" not in text_of(browser.get("/console/wallets/4"))
        assert browser.get(f"/console/wallets/4/{listed}").status_code == 200
        # The system's own wallets have neither.
        assert browser.get(f"/console/wallets/1/{listed}").status_code == 409
        assert browser.get(f"/console/wallets/99/{listed}").status_code == 404


def test_a_part_of_the_timeline_is_shown_without_what_else_the_wallet_has(browser: Browser, app: Flask) -> None:
    """What stops it and what waits stay: they matter wherever one looks."""
    execute(service.PlaceHold, "hold-1", amount=1, expires_in=3_600)
    execute(service.Bonus, "bonus-1", amount=5, expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=3))
    limit = service.LimitTarget(asset_code="GOLD", wallet_id=3)
    service.set_limits(limit, service.WalletLimits(single=500), by=service.By(actor="test"))
    execute(service.Freeze, "freeze-1", side="debits", reason="Account taken over")
    browser.sign_in("support")
    others = ['<figure class="chart">', 'id="limits"', 'id="holds"', 'id="lots"']
    whole = text_of(browser.get("/console/wallets/3"))
    assert [each for each in others if each not in whole] == []
    assert "This is a part of the timeline" not in whole
    for query in ("kind=BONUS", "least=1000", "before=ffff-ffff"):
        part = text_of(browser.get(f"/console/wallets/3?{query}"))
        assert [each for each in others if each in part] == []
        assert '<a href="/console/wallets/3">the wallet\'s page</a>' in part
        assert "Debits are frozen" in part


def test_a_filter_lies_open_while_it_narrows_something(browser: Browser, app: Flask) -> None:
    browser.sign_in("finance")
    for path, query in (
        ("/console/wallets/3", "kind=BONUS"),
        ("/console/transactions", "reference=none"),
        ("/console/audit", "ticket=T-1"),
        ("/console/approvals", "status=all&wallet=3"),
    ):
        assert '<details class="fold"><summary>Filter</summary>' in text_of(browser.get(path))
        assert '<details class="fold" open><summary>Filter</summary>' in text_of(browser.get(f"{path}?{query}"))
    # What else was asked for stays.
    assert '<a href="/console/approvals?status=all">Show all</a>' in text_of(browser.get(f"{path}?{query}"))


def test_an_explanation_makes_the_balance_to_the_unit_however_it_is_cut(
    browser: Browser, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_life()
    monkeypatch.setattr(explanations, "_SUMMED_AT_ONCE", 3)
    monkeypatch.setattr(explanations, "_READ_AT_ONCE", 3)
    whole = service.explain_balance(3)
    assert (whole.opening, whole.entries, whole.closing) == (0, whole.wallet.version, whole.wallet.balance)
    assert whole.opening + whole.total == whole.closing
    assert whole.is_right
    entries = list(service.walk_statement(3, whole.reach))
    assert [each.entry.seq for each in entries] == list(range(1, whole.wallet.version + 1))
    for each in entries:
        instant = each.entry.created_at
        after = service.explain_balance(3, since=instant)
        before = service.explain_balance(3, until=instant)
        assert after.is_right
        assert before.is_right
        assert (
            before.closing == after.opening == service.get_wallet_at(3, instant - dt.timedelta(microseconds=1)).balance
        )
        assert before.entries + after.entries == whole.entries
    monkeypatch.setattr(explanations, "EXPLAINED_MAX", 4)
    cut = service.explain_balance(3)
    assert (cut.entries, cut.is_cut, cut.is_right) == (4, True, True)
    browser.sign_in("viewer")
    page = text_of(browser.get("/console/wallets/3/explain"))
    assert "Not from the first entry" in page
    # A statement has all of its period, or none of it.
    short = browser.get("/console/wallets/3/statement")
    assert (short.status_code, "choose a later day" in text_of(short)) == (422, True)
    monkeypatch.undo()
    page = text_of(browser.get("/console/wallets/3/explain"))
    assert "+5,000 by top-up (1 entry)" in page
    assert "\u22121,500 by reversal (2 entries)" in page
    assert "Beside the balance: 200 held." in page
    assert "do not make the balance" not in page


@pytest.mark.tampers
def test_what_was_tampered_with_is_said_and_not_explained_away(browser: Browser, app: Flask, database: URL) -> None:
    ids = a_life()
    browser.sign_in("viewer")
    assert "Verified" in text_of(browser.get(f"/console/transactions/{ids['capture']}"))
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger_entries SET amount = amount + 1 WHERE transaction_id = %s", [ids["spend"]])
        connection.execute("UPDATE transactions SET actor = 'key:other' WHERE transaction_id = %s", [ids["bonus"]])
        connection.execute("UPDATE transaction_details SET note = 'x' WHERE transaction_id = %s", [ids["topup"]])
    for name in ("spend", "bonus", "topup"):
        assert "Not as it was written" in text_of(browser.get(f"/console/transactions/{ids[name]}")), name
    # Of the transaction before, it is the next entry that does not build on it.
    evidence = service.get_evidence(ids["bonus"])
    assert [(link.is_right, link.next_is_right) for link in evidence.links] == [(False, False)]
    assert service.get_evidence(ids["capture"]).is_verified
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE transactions SET actor = 'key:other' WHERE transaction_id = %s", [ids["capture"]])
    assert "What comes after it does not build on it" in text_of(
        browser.get(f"/console/transactions/{ids['transfer']}")
    )
    assert "The sums do not make the balance" in text_of(browser.get("/console/wallets/3/explain"))
    assert "do not make the closing balance" in text_of(browser.get("/console/wallets/3/statement"))


def test_a_statement_ties_on_the_page_and_in_the_file(browser: Browser, app: Flask) -> None:
    a_life()
    browser.sign_in("finance")
    page = text_of(browser.get("/console/wallets/3/statement"))
    rows = rows_of(page, "Statement of wallet 3")
    balance = service.get_wallet(3).balance
    assert rows[0][1:] == ["Opening balance", "", "", "0"]
    assert rows[-1][1:] == ["Closing balance", "", f"+{balance:,}", f"{balance:,}"]
    answer = browser.get("/console/wallets/3/statement.csv?from=2020-01-01")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="statement-3.csv"'
    lines = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert (lines[0]["entry_type"], lines[-1]["entry_type"]) == ("OPENING_BALANCE", "CLOSING_BALANCE")
    assert sum(int(line["amount"] or 0) for line in lines) == int(lines[-1]["balance"]) == balance
    assert [line["note"] for line in lines if line["reference"] == "topup-1"] == ["'=cmd|' /C calc'!A0"]
    yesterday = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).date()
    page = text_of(browser.get(f"/console/wallets/3/statement?from={yesterday}&to={yesterday}"))
    assert "Nothing was moved in this time." in page
    assert browser.get("/console/wallets/3/statement?from=2026-02-01&to=2026-01-01").status_code == 422
    assert browser.get("/console/wallets/3/statement.csv?from=2026-02-01&to=2026-01-01").status_code == 422


def test_a_transaction_tells_both_sides_and_is_linked_both_ways_with_what_undid_it(
    browser: Browser, app: Flask
) -> None:
    ids = a_life()
    browser.sign_in("viewer")
    page = text_of(browser.get(f"/console/transactions/{ids['transfer']}"))
    legs = [row[-3:-1] for row in rows_of(page, "Entries")]
    assert [leg[1] for leg in legs] == ["\u221240 GOLD", "+40 GOLD", "+40 GOLD", "\u221240 GOLD"]
    assert [leg[0].split(" ", 1)[1] for leg in legs] == ["John", "Clearing System", "Doe", "Clearing System"]
    page = text_of(browser.get(f"/console/transactions/{ids['topup']}"))
    assert rows_of(page, "What became of its entries")[0][1:] == ["5,000", "1,500", "0", "0", "3,500"]
    assert [row[1] for row in rows_of(page, "Reversed by")] == [str(ids["part"]), str(ids["rest"])]
    assert "request-1" in page
    back = text_of(browser.get(f"/console/transactions/{ids['part']}"))
    assert f'href="/console/transactions/{ids["topup"]}"' in back
    assert "Charged back" in back
    assert "partially captured" in text_of(browser.get(f"/console/transactions/{ids['capture']}"))
    freeze = text_of(browser.get(f"/console/transactions/{ids['freeze']}"))
    assert "Nothing was moved" in freeze
    assert "Account taken over" in freeze
    assert "Verified" in freeze
    service.erase_user(2, by=service.By(actor="test"))
    erased = text_of(browser.get(f"/console/transactions/{ids['topup']}"))
    assert "erased; their hash stays" in erased
    assert "Verified" in erased


def test_users_system_wallets_and_what_is_not_there_have_pages_of_their_own(browser: Browser, app: Flask) -> None:
    a_life()
    browser.sign_in("viewer")
    page = text_of(browser.get("/console/users/2"))
    assert [row[0] for row in rows_of(page, "Wallets of John")] == ["3", "4"]
    new, _ = service.create_user(name="Nobody yet", external_id="new-1")
    assert "This user has no wallet yet." in text_of(browser.get(f"/console/users/{new.user_id}"))
    assert "Nothing has happened to this wallet yet." in text_of(browser.get("/console/wallets/6"))
    assert "nothing was moved ever" in text_of(browser.get("/console/wallets/6/explain"))
    assert "one of the system\u2019s own" in text_of(browser.get("/console/wallets/1")).replace("'", "\u2019")
    switch, _ = service.set_switch(
        service.SwitchSettings(target="asset", side="credits", reason="Under repair", asset_code="GOLD"),
        by=service.By(actor="operator:9"),
    )
    assert "Stopped by a switch" in text_of(browser.get("/console/wallets/3"))
    assert "Stopped by a switch" not in text_of(browser.get("/console/wallets/4"))
    assert switch.is_set
    for path in (
        "/console/users/1",
        "/console/users/0",
        "/console/users/99999",
        f"/console/users/{10**30}",
        "/console/wallets/0",
        "/console/wallets/0.csv",
        "/console/wallets/0/explain",
        "/console/wallets/99999",
        f"/console/wallets/{2**63}",
        f"/console/transactions/{uuid.UUID(int=7)}",
        "/console/wallets/1/explain",
        "/console/wallets/1.csv",
        "/console/wallets/1/statement",
    ):
        browser_answer = browser.get(path)
        assert browser_answer.status_code in {403, 404, 409, 422}, path
        assert "To the console" in text_of(browser_answer), path
    before_all = browser.get("/console/wallets/3/statement?to=0001-01-01T00:00:00Z")
    assert (before_all.status_code, "Enter a day like" in text_of(before_all)) == (422, True)


def test_exports_are_for_whoever_may_and_one_that_breaks_off_is_recorded(
    browsers: Callable[..., Browser], app: Flask, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_life()
    viewer, finance = browsers().sign_in("viewer"), browsers().sign_in("finance")
    assert viewer.get("/console/wallets/3.csv").status_code == 403
    assert "This list as" not in text_of(viewer.get("/console/wallets/3"))
    assert "This list as" in text_of(finance.get("/console/wallets/3"))
    monkeypatch.setattr("wallet_app.service.exports.EXPORT_ROWS_MAX", 5)
    with pytest.raises(Exception, match="at most 5 rows"):
        finance.get("/console/wallets/3.csv")
    told = sql(
        "SELECT action, outcome, after ->> 'rows' FROM audit_log WHERE starts_with(action, 'export:') ORDER BY id"
    )
    assert told == [("export:begin", "done", None), ("export:end", "failed", "5")]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_client_that_leaves_in_the_middle_of_a_file_gives_its_connection_back_and_is_recorded(
    browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    a_life()
    monkeypatch.setattr(exports, "_ROWS_AT_ONCE", 2)
    browser.sign_in("finance")

    def leave() -> None:
        # As the server does when the client is gone: it reads on no more, and closes what the application gave it.
        answer = browser.client.get(f"/console/wallets/3.{form}", buffered=False)
        pieces = answer.iter_encoded()
        assert next(pieces)
        assert next(pieces)
        answer.close()

    contextvars.Context().run(leave)
    in_use = [cast(QueuePool, engine.pool).checkedout() for engine in db.engines.values()]
    assert in_use == [0, 0]
    told = sql("SELECT outcome, after ->> 'rows', after ->> 'cutBy' FROM audit_log WHERE action = 'export:end'")
    assert [(outcome, cut_by) for outcome, _, cut_by in told] == [("failed", "its reader, who left")]
    assert 0 < int(told[0][1]) < 8, "as many as were sent"


PAGES = ("/console/users/2", "/console/wallets/3", "/console/wallets/3/explain", "/console/wallets/3/statement")


def test_the_number_of_statements_of_a_page_does_not_grow_with_the_wallet(browser: Browser, app: Flask) -> None:
    ids = a_life()
    browser.sign_in("viewer")
    pages = (*PAGES, f"/console/transactions/{ids['topup']}", f"/console/wallets/3?reference={quote('topup-1')}")

    def counts() -> dict[str, int]:
        found = {}
        for path in pages:
            with statements() as asked:
                assert browser.get(path).status_code == 200
            found[path] = len(asked)
        return found

    counts()  # The first time, connections ask about themselves.
    few = counts()
    service.execute_batch(
        [service.Bonus(wallet_id=3, reference=f"page-{n}", origin=ORIGIN, amount=1) for n in range(300)]
    )
    many = counts()
    # More entries than a chart has points are found by one statement more.
    assert [(path, few[path], many[path]) for path in pages if many[path] - few[path] not in {0, 1}] == []
    assert max(many.values()) <= 18, many
