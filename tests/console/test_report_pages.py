"""Reports and the days of SYSTEM wallets in the console: what they say, as pages and files, in how many statements."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re

import pytest

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_overview_pages import statements
from tests.kernel.test_expiry import wait_for
from tests.test_daily_totals import some_of_each
from tests.test_reports import added_up, no_slack
from tests.test_verify import move
from wallet_app import service
from wallet_app.console import system_wallets
from wallet_app.service import system_days, totals_at

__all__ = ["no_slack"]


def rows_of(answer: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))  # type: ignore[attr-defined]


def test_a_report_as_a_page_and_as_a_file(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.sign_in("finance")
    some_of_each()
    page = text_of(browser.get("/console/reports"))
    assert "Ties to the ledger: yes" in page
    found = service.get_asset_report("GOLD")
    assert f"{found.closing.total:,}" in page
    counted = statements(lambda: browser.get("/console/reports?asset=GOLD"))
    move(3, 5, 6, 7, -8)
    wait_for(added_up)
    move(4, 50, first=9)
    assert statements(lambda: browser.get("/console/reports?asset=GOLD")) == counted
    month = f"{dt.datetime.now(dt.UTC):%Y-%m-01}"
    rows = {row["line"]: row for row in rows_of(browser.get(f"/console/reports.csv?asset=GOLD&from={month}"))}
    assert int(rows["opening"]["amount"]) + sum(
        int(row["amount"]) for name, row in rows.items() if name in service.REPORT_LINES
    ) == int(rows["closing"]["amount"])
    assert "2025-02-01" in text_of(browser.get("/console/reports?asset=DIAMOND&from=2025-02-01&to=2025-02-28"))
    monkeypatch.setattr(totals_at, "PART_MAX", 0)
    behind = browser.get("/console/reports")
    assert behind.status_code == 503
    assert "The days are added up to" in text_of(behind)
    assert "Ties to the ledger: not compared" in text_of(browser.get("/console/reports?from=2025-01-01&to=2025-12-31"))


def test_filters_of_a_report_that_make_no_sense(browser: Browser) -> None:
    browser.sign_in("finance")
    for query in ("asset=SILVER", "from=yesterday", "from=2999-01-01", "from=2026-02-01&to=2026-01-01"):
        answer = browser.get(f"/console/reports?{query}")
        assert answer.status_code == 422, query
        assert "Error" in text_of(answer)
        assert browser.get(f"/console/reports.csv?{query}").status_code == 422
    assert browser.get("/console/reports?to=2999-01-01").status_code == 200, "so far"


def test_a_system_wallet_by_day(browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.sign_in("finance")
    some_of_each()
    for wallet_id in [row[0] for row in sql("SELECT DISTINCT contra_wallet_id FROM ledger_entries")]:
        before = service.list_system_days(wallet_id, limit=10)
        wait_for(added_up)
        found = service.list_system_days(wallet_id, limit=10)
        assert found == before
        assert found.is_right
        assert found.days[0].closing == found.wallet.balance
    page = text_of(browser.get("/console/wallets/1"))
    assert "By day" in page
    counted = statements(lambda: browser.get(f"/console/wallets/1/days/{found.days[0].day}"))
    ((clearing,),) = sql("SELECT contra_wallet_id FROM ledger_entries WHERE entry_type = 'TRANSFER' LIMIT 1")
    for wallet_id, rows_max, limit in ((1, 3, 50), (clearing, 2_000, 3), (clearing, 2, 1)):
        monkeypatch.setattr(system_days, "ROWS_MAX", rows_max)
        monkeypatch.setattr(system_wallets, "ENTRIES", limit)
        seen: list[str] = []
        # More than one where a day began since the books were seeded.
        for each in service.list_system_days(wallet_id, limit=10).days:
            path = f"/console/wallets/{wallet_id}/days/{each.day}"
            while path:
                page = text_of(browser.get(path))
                seen += re.findall(r'href="/console/transactions/([0-9a-f-]+)"', page)
                following = re.search(r'href="([^"]*before=[^"]*)" rel="next"', page)
                path = following[1] if following else ""
        expected = sql(
            "SELECT transaction_id::text FROM ledger_entries WHERE contra_wallet_id = %s ORDER BY 1 DESC", wallet_id
        )
        assert seen == [row[0] for row in expected] != []
    assert statements(lambda: browser.get(f"/console/wallets/1/days/{found.days[0].day}")) == counted
    rows = rows_of(browser.get("/console/wallets/1/days.csv"))
    assert int(rows[0]["closing"]) == service.get_wallet(1).balance
    assert browser.get("/console/wallets/3/days/2026-01-01").status_code == 404
    assert browser.get("/console/wallets/1/days/today").status_code == 404
