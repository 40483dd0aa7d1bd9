"""Home, integrity and audit: what they say, to whom, in how many statements, and page by page."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.console.conftest import Browser, Sql, text_of
from tests.kernel.test_expiry import never, wait_for
from tests.test_verify import move
from wallet_app import service
from wallet_app.db import READS, db
from wallet_app.service import audit, daily_totals, settled, verification
from wallet_app.service.audit import Act, By
from wallet_app.service.verification import requests

LINK = re.compile(r'href="(/console/audit\?[^"]*before=[^"]*)" rel="next"')


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing is asked for by the night, whenever the tests run."""
    monkeypatch.setattr(requests, "NIGHT_HOUR", 25)


def statements(work: Callable[[], object]) -> int:
    """Count what the service sends to the database for it."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    engines: list[Engine] = [db.engine, db.engines[READS]]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    work()
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
    return count


def test_home_shows_the_economy_exactly_now_and_as_late_as_it_is(
    browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in("viewer")
    move(3, 1_200_000, -34_567)
    page = text_of(browser.get("/console?days=7"))
    assert "The days are behind" not in page
    assert "1,166,233" in page, "outstanding: of 500 and 300, and what was moved"
    counted = statements(lambda: browser.get("/console"))
    move(4, 100, -50, first=3)
    wait_for(lambda: daily_totals.add_up(never) == 0 and not settled._has_more(daily_totals.NAME))
    daily_totals.find_top_movers()
    again = text_of(browser.get("/console?days=90&asset=GOLD"))
    assert "1,166,233" in again, "added up now, and the same"
    assert "Today" in again
    assert 'href="/console/wallets/3"' in again
    assert statements(lambda: browser.get("/console")) == counted
    monkeypatch.setattr("wallet_app.service.overview.TAIL_MAX", 0)
    move(3, 5, first=9)
    assert "The days are behind" in text_of(browser.get("/console"))


def file_of(browser: Browser, path: str) -> list[dict[str, str]]:
    answer = browser.get(path)
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))


def links(page: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'href="(/console/(?:days|movers)\.[^"]*)"', page)]


def test_the_days_and_the_movers_as_files_are_what_the_page_shows(
    browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in("finance")
    assert file_of(browser, "/console/movers.csv") == [], "they were not looked for yet"
    move(3, 1_200_000, -34_567)
    sql("UPDATE users SET name = '=1+1' WHERE id = (SELECT user_id FROM wallets WHERE id = 3)")
    wait_for(lambda: daily_totals.add_up(never) == 0 and not settled._has_more(daily_totals.NAME))
    daily_totals.find_top_movers()
    days, days_json, movers, _ = links(browser.get("/console?days=7&asset=GOLD").get_data(as_text=True))
    rows = file_of(browser, days)
    found = next(own for own in service.get_economy(days=7).assets if own.asset.code == "GOLD")
    assert [(row["day"], row["asset"], int(row["outstanding"])) for row in rows] == [
        (str(each.day), "GOLD", each.outstanding) for each in found.days
    ]
    today = rows[-1]
    assert int(today["outstanding"]) == 1_166_233
    for name in ("issued", "bonus", "spent", "adjusted", "expired", "exchanged", "entries"):
        assert int(today[name]) == getattr(found.days[-1].sums, name), name
    assert int(today["spent"]) == 34_567
    assert {row["late_since"] for row in rows} == {""}
    assert json.loads(browser.get(days_json).get_data())[-1] == {
        **{name: int(value) if value.isdigit() else value for name, value in today.items()},
        "late_since": None,
    }
    moved = file_of(browser, movers)
    assert {(row["days"], row["wallet_id"], row["net"], row["user_name"]) for row in moved} >= {
        ("1", "3", "1165933", "'=1+1"),
        ("7", "3", "1165933", "'=1+1"),
    }
    assert {row["asset"] for row in moved} == {"GOLD"}
    assert len(file_of(browser, "/console/days.csv")) == 30 * len(service.asset_scales())
    assert len(file_of(browser, "/console/movers.csv")) >= len(moved)
    told = sql("SELECT subject, after FROM audit_log WHERE action = 'export:begin' AND subject = 'days' ORDER BY id")
    assert told[0] == ("days", {"filters": {"asset": "GOLD", "days": "7"}})
    monkeypatch.setattr("wallet_app.service.overview.TAIL_MAX", 0)
    move(3, 5, first=9)
    assert file_of(browser, days)[-1]["late_since"]


@pytest.mark.parametrize("query", ["asset=SILVER", "days=8", "days=-7"])
def test_files_of_what_there_is_not_are_refused_in_words(browser: Browser, query: str) -> None:
    browser.sign_in("finance")
    for name in ("days", "movers"):
        answer = browser.get(f"/console/{name}.csv?{query}")
        assert answer.status_code == 422
        assert "Choose one of the list" in text_of(answer)


def test_who_may_not_take_lists_along_is_offered_none(browser: Browser) -> None:
    browser.sign_in("viewer")
    page = browser.get("/console").get_data(as_text=True)
    assert "The economy" in page
    assert links(page) == []
    assert browser.get("/console/days.csv").status_code == 403


def test_who_may_not_read_wallets_sees_no_amounts_and_what_needs_them(browser: Browser) -> None:
    browser.sign_in("admin")
    page = text_of(browser.get("/console"))
    assert "The economy" not in page
    assert "The background work stands still" in page
    assert "The books were never verified" in page


def test_a_verification_is_asked_for_and_shown(browser: Browser, sql: Sql) -> None:
    browser.sign_in("finance")
    assert "Never verified" in text_of(browser.get("/console/integrity"))
    assert browser.post("/console/integrity", {"scope": ""}).status_code == 422
    assert browser.post("/console/integrity", {"scope": "all"}).status_code == 303
    page = text_of(browser.get("/console/integrity"))
    assert "waiting to be verified" in page
    assert "no worker is there" in page
    assert verification.run_requested(never) == 1
    page = text_of(browser.get("/console/integrity"))
    assert "The books are right" in page
    run = service.list_verifications()[0]
    assert "seq counts 1, 2, 3, ... without a gap" in text_of(browser.get(f"/console/integrity/{run.run_id}"))
    assert browser.get("/console/integrity/999").status_code == 404
    rows = json.loads(browser.get("/console/integrity.json").get_data())
    assert (rows[0]["state"], rows[0]["faults"], rows[0]["findings"]) == ("ended", 0, [])
    counted = statements(lambda: browser.get("/console/integrity"))
    for _ in range(3):
        service.verify()
    assert statements(lambda: browser.get("/console/integrity")) == counted


def test_the_state_of_the_books_in_words(browser: Browser, sql: Sql) -> None:
    browser.sign_in("finance")
    service.verify()
    sql("UPDATE verification_runs SET ended_at = ended_at - interval '27 hours'")
    assert "Not verified lately" in text_of(browser.get("/console/integrity"))
    assert "not verified lately" in text_of(browser.get("/console"))
    service.verify()
    sql("UPDATE verification_runs SET faults = 2 WHERE id = (SELECT max(id) FROM verification_runs)")
    assert "found 2 faults" in text_of(browser.get("/console/integrity"))
    assert "The books are not right" in text_of(browser.get("/console"))


def test_the_background_work_in_words(browser: Browser, sql: Sql) -> None:
    """Of two workers and one that is silent: what is done by any is done; what failed, is late or never was shows."""
    now, long_ago = "2999-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"
    done = {job.name: {"at": now, "succeededAt": now, "failed": False} for job in service.JOBS}
    service.beat(uuid.uuid4(), host="first", pid=1, jobs={})
    service.beat(uuid.uuid4(), host="second", pid=2, jobs=done)
    work = service.get_work_state()
    assert work.alive
    assert {job.state for job in work.jobs} == {"ok"}
    wrong = {
        "expire_holds": {"at": now, "succeededAt": long_ago, "failed": True},
        "extend_audit_chain": {"at": long_ago, "succeededAt": long_ago, "failed": False},
        "verify": {"at": long_ago, "succeededAt": long_ago, "since": long_ago, "failed": False},
    }
    sql("DELETE FROM worker_heartbeats")
    service.beat(uuid.uuid4(), host="third", pid=3, jobs={**done, **wrong, "find_top_movers": {}})
    service.beat(uuid.uuid4(), host="silent", pid=4, jobs=done)
    sql("UPDATE worker_heartbeats SET beat_at = beat_at - interval '1 minute' WHERE host = 'silent'")
    states = {job.name: job.state for job in service.get_work_state().jobs if job.state != "ok"}
    assert states == {"expire_holds": "failed", "extend_audit_chain": "late", "find_top_movers": "never"}
    browser.sign_in("admin")
    assert "expire_holds, extend_audit_chain" in text_of(browser.get("/console"))
    page = text_of(browser.get("/console/integrity"))
    assert "Failed" in page
    assert "Late" in page
    assert "Silent" in page


@pytest.fixture
def records(browser: Browser) -> Browser:
    """200 records of Ann and of Bob, with a ticket on each tenth; signed in as who may read and export."""
    browser.sign_in("finance")
    for number in range(200):
        by = By(actor=f"operator:{'ann' if number % 2 else 'bob'}", ticket=f"T-{number}" if number % 10 == 0 else None)
        outcome = "denied" if number % 5 == 0 else "done"
        act = Act(by=by, action="key:create" if number % 3 else "key:revoke", outcome=outcome, subject=f"key:{number}")  # type: ignore[arg-type]
        audit.record_alone(act)
    return browser


FILTERS = [
    ("actor=operator:ann", 100),
    ("actor=operator:ann&outcome=denied", 20),
    ("action=key:create&actor=operator:bob", 66),
    ("action=key", 201),
    ("subject=key:7", 1),
    ("ticket=T-10", 1),
    ("from=2999-01-01", 0),
    ("action=key&to=2000-01-01", 0),
    ("actor=operator%3Anobody", 0),
]


@pytest.mark.parametrize("rows_max", [10_000, 30])
def test_audit_pages_hold_each_record_once(
    records: Browser, monkeypatch: pytest.MonkeyPatch, sql: Sql, rows_max: int
) -> None:
    """Every filter, page by page to the end, with a walk that ends before its page is full as well."""
    monkeypatch.setattr("wallet_app.service.audit_views.ROWS_MAX", rows_max)
    for query, expected in FILTERS:
        seen: list[str] = []
        path, counts = f"/console/audit?{query}", set()
        while path:
            answer = records.get(path)
            assert answer.status_code == 200
            page = answer.get_data(as_text=True)
            seen += re.findall(r'href="/console/audit/([0-9]+)"', page)
            following = LINK.search(page)
            path = following[1].replace("&amp;", "&") if following else ""
            counts.add(statements(partial(records.get, f"/console/audit?{query}")))
        assert len(seen) == len(set(seen)) == expected, query
        assert seen == sorted(seen, key=int, reverse=True)
        assert len(counts) == 1


def test_audit_filters_that_make_no_sense_and_one_record(records: Browser, sql: Sql) -> None:
    for query in ("from=yesterday", "outcome=maybe", "to=2026-13-01"):
        answer = records.get(f"/console/audit?{query}")
        assert answer.status_code == 422
        assert "Error" in text_of(answer)
        assert records.get(f"/console/audit.csv?{query}").status_code == 422
    assert records.get("/console/audit?before=x-y").status_code == 200
    audit.record_alone(
        Act(by=By(actor="operator:ann"), action="asset:change", before={"a": 1, "b": "x"}, after={"a": 2, "c": [1]})
    )
    audit.extend_chain()
    (number,) = sql("SELECT max(id) FROM audit_log")[0]
    page = text_of(records.get(f"/console/audit/{number}"))
    rows = re.findall(r"<th scope=\"row\">(\w)</th>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", page)
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert rows[0][1:] == ("1", "2")
    assert "Link " in page
    assert records.get("/console/audit/99999").status_code == 404


def test_the_log_as_a_file_is_audited_and_harmless(records: Browser, sql: Sql) -> None:
    audit.record_alone(Act(by=By(actor="operator:eve", reason="=cmd|' /C calc'!A0"), action="key:create"))
    answer = records.get("/console/audit.csv?actor=operator:eve")
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert [row["reason"] for row in rows] == ["'=cmd|' /C calc'!A0"]
    everything = json.loads(records.get("/console/audit.json?action=key").get_data())
    assert len(everything) == 202
    told = sql("SELECT action, subject, after FROM audit_log WHERE starts_with(action, 'export:') ORDER BY id")
    assert told[0] == ("export:begin", "audit", {"filters": {"actor": "operator:eve"}})
    assert told[1] == ("export:end", "audit", {"rows": 1})
    assert told[3][2] == {"rows": 202}
