"""A report adds up, whatever the instants are and however far the daily totals have come; and says when it does not."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import psycopg
import pytest
from flask import Flask
from psycopg.rows import namedtuple_row
from sqlalchemy.engine import URL

from tests.conftest import Tamper, conninfo
from tests.history import History
from tests.kernel.test_expiry import never, wait_for
from tests.test_daily_totals import some_of_each
from wallet_app import service
from wallet_app.errors import InstantAheadError, ReportBehindError, ReportTooFineError
from wallet_app.service import AssetReport, daily_totals, reports, settled, totals_at

pytestmark = pytest.mark.wide

BEGIN = dt.datetime(2025, 2, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


class Entry(NamedTuple):
    at: dt.datetime
    asset: str
    line: str
    amount: int


LINE_OF = {
    "Treasury": "issued",
    "Promotions": "bonus",
    "Adjustments": "adjusted",
    "Exchange": "exchanged",
    "Clearing": "transferred",
    "Revenue": "spent",
    "Breakage": "expired",
}


@pytest.fixture(autouse=True)
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "SLACK", dt.timedelta(0))


@pytest.fixture
def entries(app: Flask, database: URL) -> Iterator[Callable[[], list[Entry]]]:
    """Read the whole ledger: the naive way to make a report."""
    with psycopg.connect(conninfo(database), autocommit=True, row_factory=namedtuple_row) as connection:

        def read() -> list[Entry]:
            rows = connection.execute("""
                SELECT entries.created_at, asset_types.code, entries.entry_type, users.name, entries.amount
                  FROM ledger_entries AS entries
                  JOIN wallets ON wallets.id = entries.contra_wallet_id
                  JOIN users ON users.id = wallets.user_id
                  JOIN asset_types ON asset_types.id = wallets.asset_type_id
            """)
            return [Entry(row.created_at, row.code, _line(row.entry_type, row.name), row.amount) for row in rows]

        yield read


def _line(entry_type: str, owner: str) -> str:
    if owner == "Holds":
        return "held" if entry_type == "HOLD" else "released"
    return f"reversed_{LINE_OF[owner]}" if entry_type == "REVERSAL" else LINE_OF[owner]


def require_same(report: AssetReport, entries: Sequence[Entry], *, until: dt.datetime | None) -> None:
    """Compare a report with what all entries say, one by one."""
    own = [one for one in entries if one.asset == report.asset.code]
    begin = report.since or dt.datetime.min.replace(tzinfo=dt.UTC)
    before = [one for one in own if one.at < begin]
    within = [one for one in own if begin <= one.at and (until is None or one.at < until)]
    for found, there in ((report.opening, before), (report.closing, [*before, *within])):
        assert found.balance == sum(one.amount for one in there)
        assert found.held == -sum(one.amount for one in there if one.line in {"held", "released"})
    amounts: dict[str, list[int]] = {}
    for one in within:
        amounts.setdefault(one.line, []).append(one.amount)
    for line in (*report.lines, *report.holds):
        moved = amounts.get(line.name, [])
        assert line.sums == (len(moved), sum(n for n in moved if n > 0), -sum(n for n in moved if n < 0)), line
    assert report.opening.total + sum(line.sums.net for line in report.lines) == report.closing.total
    assert report.ties, report.differences


def added_up() -> bool:
    daily_totals.add_up(never)
    return not settled._has_more(daily_totals.NAME)


def test_reports_at_any_instant_are_what_the_ledger_says(
    app: Flask, entries: Callable[[], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is added up, when some is, and when all is, with the newest movements always above it."""
    monkeypatch.setattr(settled, "ROWS_MAX", 40)
    history, dice = History(BEGIN), random.Random(7)
    history.post(30)
    there = entries()
    assert {one.line for one in there} >= {*LINE_OF.values()} - {"expired", "adjusted"} | {
        "held",
        "released",
        "reversed_issued",
    }
    exact = [one.at for one in there] + [one.at + dt.timedelta(microseconds=1) for one in there]
    for step in range(6):
        if step == 5:
            wait_for(added_up)
        elif step > 1:
            daily_totals.add_up(lambda: False)
        if step == 4:
            some_of_each()
            there = entries()
        for _ in range(8):
            ends: list[dt.datetime | None] = [
                dice.choice([BEGIN + dice.random() * 33 * DAY, dice.choice(exact), BEGIN + dice.randrange(33) * DAY])
                for _ in range(2)
            ]
            since, until = dice.choice([sorted(ends), [None, ends[0]], [ends[0], None], [None, None]])  # type: ignore[type-var]
            for code in ("GOLD", "DIAMOND"):
                require_same(service.get_asset_report(code, since=since, until=until), there, until=until)
    assert service.get_asset_report("GOLD", until=BEGIN + 20 * DAY).is_final
    assert not service.get_asset_report("GOLD").is_final


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_day_of_a_year_rolls_forward_to_the_next(app: Flask, entries: Callable[[], list[Entry]]) -> None:
    history = History(BEGIN)
    history.post(365)
    wait_for(added_up)
    there = entries()
    for code in ("GOLD", "DIAMOND"):
        closing = reports.Outstanding(0, 0)
        for day in range(366):
            since, until = BEGIN + day * DAY, BEGIN + (day + 1) * DAY
            report = service.get_asset_report(code, since=since, until=until)
            assert report.opening == closing
            require_same(report, there, until=until)
            closing = report.closing
        assert closing == service.get_asset_report(code, until=BEGIN + 400 * DAY).closing
        assert closing.total > 0


def test_instants_that_have_no_report(
    app: Flask, entries: Callable[[], list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime.now(dt.UTC)
    with pytest.raises(InstantAheadError):
        service.get_asset_report("GOLD", until=now + DAY)
    with pytest.raises(InstantAheadError):
        service.get_asset_report("GOLD", since=now + DAY)
    History(BEGIN).post(10)
    wait_for(added_up)
    monkeypatch.setattr(totals_at, "PART_MAX", 1)
    some_of_each()
    with pytest.raises(ReportBehindError):
        service.get_asset_report("GOLD")
    past = service.get_asset_report("GOLD", until=BEGIN + 5 * DAY)
    assert (past.ties, past.is_final) == (None, True), "what is in the totals is still told"
    wait_for(added_up)
    assert service.get_asset_report("GOLD").ties
    expected_older = settled.expect_older()
    with pytest.raises(ReportBehindError):
        service.get_asset_report("GOLD", until=BEGIN + 5 * DAY)
    settled.older_are_there([expected_older])
    wait_for(added_up)
    today = sorted(one.at for one in entries() if one.at > now - DAY)
    with pytest.raises(ReportTooFineError):
        service.get_asset_report("GOLD", until=today[len(today) // 2])


@pytest.mark.tampers
def test_a_report_that_does_not_tie_says_by_how_much(app: Flask, tamper: Tamper) -> None:
    some_of_each()
    wait_for(added_up)
    breaks = {
        "users": "UPDATE wallet_balances SET balance = balance + 5 WHERE wallet_id = 3",
        "users_held": "UPDATE wallet_balances SET held = held + 7 WHERE wallet_id = 3",
        "system": "UPDATE system_balances SET balance = balance - 3 WHERE wallet_id = 1 AND slot = 0",
    }
    assert service.get_asset_report("GOLD").ties
    for statement in breaks.values():
        tamper(statement)
    for until in (None, BEGIN):
        report = service.get_asset_report("GOLD", until=until)
        assert report.ties is False
        assert report.differences == {"users": 12, "users_held": 7, "system": 3}
    said = app.test_cli_runner().invoke(args=["wallet", "report", "GOLD"])
    assert said.exit_code == 1
    assert "DOES NOT TIE" in said.output
    assert "the system's wallets gave 3 more." in said.output
