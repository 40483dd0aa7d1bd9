"""A report adds up, whatever the instants are and however far the daily totals have come; and says when it does not."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
import pytest
from flask import Flask
from psycopg.rows import namedtuple_row
from sqlalchemy.engine import URL

from tests.conftest import Tamper, conninfo, run_sql
from tests.history import ORIGIN, History
from tests.kernel.test_expiry import never, wait_for
from tests.test_daily_totals import some_of_each
from wallet_app import service
from wallet_app.errors import InstantAheadError, ReportBehindError, ReportTooFineError
from wallet_app.service import AssetReport, daily_totals, execution, lot_totals, reports, settled, totals_at
from wallet_app.service.commands import Command, ExtendLot

pytestmark = pytest.mark.wide

BEGIN = dt.datetime(2025, 2, 1, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)


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


class Movement(NamedTuple):
    at: dt.datetime
    asset: str
    line: str | None
    lot: tuple[int, int, int]
    lot_kind: str
    kind: str
    amount: int
    ends_at: dt.datetime | None


AVAILABLE = {"grant": 1, "restore": 1, "release": 1, "consume": -1, "hold": -1, "expire": -1, "revoke": -1, "extend": 0}
HELD = {"hold": 1, "release": -1}


@pytest.fixture
def movements(app: Flask, database: URL) -> Iterator[Callable[[], list[Movement]]]:
    """Read all movements of lots."""
    with psycopg.connect(conninfo(database), autocommit=True, row_factory=namedtuple_row) as connection:

        def read() -> list[Movement]:
            rows = connection.execute("""
                SELECT moved.created_at, asset_types.code, entries.entry_type, owners.name, moved.wallet_id, lot_seq,
                       lot_part, lots.kind AS lot_kind, moved.kind, moved.amount, moved.expires_at
                  FROM lot_movements AS moved
                  JOIN lots ON lots.wallet_id = moved.wallet_id AND lots.seq = lot_seq AND lots.part = lot_part
                  JOIN wallets ON wallets.id = moved.wallet_id
                  JOIN asset_types ON asset_types.id = wallets.asset_type_id
                  LEFT JOIN ledger_entries AS entries ON entries.wallet_id = moved.wallet_id
                        AND entries.seq = moved.seq AND moved.kind <> 'extend'
                  LEFT JOIN wallets AS contra ON contra.id = entries.contra_wallet_id
                  LEFT JOIN users AS owners ON owners.id = contra.user_id
            """)
            return [
                Movement(
                    *(row.created_at, row.code, row.entry_type and _line(row.entry_type, row.name)),
                    *((row.wallet_id, row.lot_seq, row.lot_part), row.lot_kind, row.kind, row.amount, row.expires_at),
                )
                for row in rows
            ]

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


def require_same_natures(report: AssetReport, movements: Sequence[Movement], *, until: dt.datetime | None) -> None:
    """Compare what of a report is bonus, and when it ends, with what all movements of lots say, one by one."""
    natures = report.natures
    assert natures is not None
    own = [one for one in movements if one.asset == report.asset.code and (until is None or one.at < until)]
    begin = report.since or dt.datetime.min.replace(tzinfo=dt.UTC)
    for found, there in ((natures.opening, [one for one in own if one.at < begin]), (natures.closing, own)):
        bonus = [one for one in there if one.lot_kind == "bonus"]
        assert found.balance == sum(AVAILABLE[one.kind] * one.amount for one in bonus)
        assert found.held == sum(HELD.get(one.kind, 0) * one.amount for one in bonus)
    for name, net in natures.lines.items():
        within = [one for one in own if one.line == name and one.lot_kind == "bonus" and one.at >= begin]
        assert net == sum(AVAILABLE[one.kind] * one.amount for one in within), name
    left: Counter[str] = Counter({"never": report.closing.total})
    today = (until or report.until).date()
    for lot in {one.lot for one in own}:
        of_lot = [one for one in own if one.lot == lot]
        end = max(one.ends_at for one in of_lot if one.ends_at is not None)
        days = ((end - dt.timedelta(microseconds=1)).date() - today).days
        ages = {"due": 0, "within_7_days": 7, "within_30_days": 30, "within_90_days": 90, "later": 9_999}
        name = "never" if end.year == 9999 else next(name for name, most in ages.items() if days < most)
        there = sum((AVAILABLE[one.kind] + HELD.get(one.kind, 0)) * one.amount for one in of_lot)
        left[name] += there
        left["never"] -= there
    assert {age.name: age.total for age in natures.ages if age.total} == {name: n for name, n in left.items() if n}
    assert sum(age.bonus for age in natures.ages) == natures.closing.total


def added_up() -> bool:
    daily_totals.add_up(never)
    lot_totals.add_up(never)
    return not (settled._has_more(daily_totals.NAME) or settled._has_more(lot_totals.NAME))


def test_reports_at_any_instant_are_what_the_ledger_says(
    app: Flask,
    entries: Callable[[], list[Entry]],
    movements: Callable[[], list[Movement]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While nothing is added up, when some is, and when all is, with the newest movements always above it."""
    monkeypatch.setattr(settled, "ROWS_MAX", 40)
    history, dice = History(BEGIN), random.Random(7)
    history.post(20)
    there, moved = entries(), movements()
    assert {one.line for one in there} >= {*LINE_OF.values()} - {"adjusted"} | {"held", "released", "reversed_issued"}
    assert {one.kind for one in moved} == {*AVAILABLE}
    exact = [one.at for one in there] + [one.at + dt.timedelta(microseconds=1) for one in there]
    for step in range(5):
        if step == 4:
            wait_for(added_up)
        elif step > 1:
            daily_totals.add_up(never)
            lot_totals.add_up(never)
        if step == 3:
            some_of_each()
            there, moved = entries(), movements()
        for _ in range(4):
            ends: list[dt.datetime | None] = [
                dice.choice([BEGIN + dice.random() * 22 * DAY, dice.choice(exact), BEGIN + dice.randrange(22) * DAY])
                for _ in range(2)
            ]
            since, until = dice.choice([sorted(ends), [None, ends[0]], [ends[0], None], [None, None]])  # type: ignore[type-var]
            for code in ("GOLD", "DIAMOND"):
                report = service.get_asset_report(code, since=since, until=until)
                require_same(report, there, until=until)
                require_same_natures(report, moved, until=until)
    assert service.get_asset_report("GOLD", until=BEGIN + 20 * DAY).is_final
    assert not service.get_asset_report("GOLD").is_final


def test_what_returns_in_place_of_a_used_grant_is_paid_again_on_the_line_of_the_grants_reversal(app: Flask) -> None:
    """And nothing of it stays held; be it added up already or not."""
    history = History(BEGIN)
    wallet_id = history.users[0][0]

    def post(hours: int, kind: type[Command], **said: Any) -> uuid.UUID:
        said = {"wallet_id": wallet_id, "reference": f"{hours}", "origin": ORIGIN, **said}
        (done,) = execution.execute_batch([kind(**said)], clock=lambda: BEGIN + hours * HOUR)
        assert isinstance(done, service.Receipt), done
        return done.transaction.transaction_id

    expected = settled.expect_older()
    post(1, service.TopUp, amount=100)
    lot_id = post(2, service.Bonus, amount=60, expires_at=BEGIN + 30 * DAY)
    hold_id = post(3, service.PlaceHold, amount=40, expires_in=90 * 86_400 // 3)
    spent = post(4, service.Spend, amount=20)
    post(5, service.RevokeLot, lot_id=lot_id, on_shortfall="debt", reason="a test")
    post(6, service.ReleaseHold, hold_id=hold_id)
    post(7, service.ReverseTransaction, transaction_id=spent, reason="a test")
    settled.older_are_there([expected])
    none = dict.fromkeys(service.REPORT_LINES, 0)
    for _ in range(2):
        found = [service.get_asset_report("GOLD", until=BEGIN + hours * HOUR) for hours in (6, 7, 8)]
        assert [report.differences for report in found] == [{}] * 3
        assert [report.natures and report.natures.closing for report in found] == [(0, 40), (0, 0), (0, 0)]
        assert [(report.closing.balance, report.closing.held) for report in found] == [(40, 40), (80, 0), (100, 0)]
        assert found[-1].natures is not None
        assert {name: found[-1].sums(name).net for name in none} == none | {
            "issued": 100,
            "bonus": 60,
            "spent": -20,
            "reversed_bonus": -60,
            "reversed_spent": 20,
        }
        lines = {name: net for name, net in found[-1].natures.lines.items() if net}
        assert lines == {"bonus": 60, "spent": -20, "held": -40, "released": 40, "reversed_bonus": -40}
        wait_for(added_up)
    assert service.verify().broken() == set()


def test_what_was_extended_ends_later_from_then_on_and_not_before(app: Flask, database: URL) -> None:
    """At each instant as it was then, be it added up already or not; what was held or spent meanwhile with it."""
    history = History(BEGIN)
    wallet_id = history.users[0][0]

    def post(hours: int, kind: type[Command], **said: Any) -> uuid.UUID:
        said = {"wallet_id": wallet_id, "reference": f"{hours}", "origin": ORIGIN, **said}
        (done,) = execution.execute_batch([kind(**said)], clock=lambda: BEGIN + hours * HOUR)
        assert isinstance(done, service.Receipt), done
        return done.transaction.transaction_id

    def ages(hours: int) -> dict[str, int]:
        natures = service.get_asset_report("GOLD", until=BEGIN + hours * HOUR).natures
        assert natures is not None
        return {age.name: age.bonus for age in natures.ages if age.bonus}

    expected = settled.expect_older()
    lot_id = post(1, service.Bonus, amount=100, expires_at=BEGIN + 3 * DAY)
    post(2, service.Bonus, amount=7, expires_at=None)
    post(30, service.Spend, amount=10)
    post(31, ExtendLot, lot_id=lot_id, expires_at=BEGIN + 20 * DAY, reason="a test")
    post(32, ExtendLot, lot_id=lot_id, expires_at=BEGIN + 60 * DAY, reason="a test")
    post(33, service.Spend, amount=20)
    hold_id = post(34, service.PlaceHold, amount=5, expires_in=90 * 86_400 // 3)
    post(60, service.ReleaseHold, hold_id=hold_id)
    post(80, service.Spend, amount=15)
    post(24 * 61, service.TopUp, amount=1)
    run_sql(database, "UPDATE asset_types SET paid_days = 10 WHERE code = 'DIAMOND'")
    post(25, service.TopUp, wallet_id=history.users[0][1], amount=50)
    post(26, service.Spend, wallet_id=history.users[0][1], amount=10)
    run_sql(database, "UPDATE asset_types SET paid_days = NULL WHERE code = 'DIAMOND'")
    post(27, service.TopUp, wallet_id=history.users[0][1], amount=2)
    settled.older_are_there([expected])
    for _ in range(2):
        assert ages(30) == {"within_7_days": 100, "never": 7}
        assert ages(31) == {"within_7_days": 90, "never": 7}
        assert ages(32) == {"within_30_days": 90, "never": 7}
        assert ages(33) == {"within_90_days": 90, "never": 7}
        assert ages(48) == ages(34) == {"within_90_days": 70, "never": 7}
        assert ages(24 * 40) == {"within_30_days": 55, "never": 7}
        assert ages(24 * 59) == {"within_7_days": 55, "never": 7}
        assert ages(24 * 60) == {"due": 55, "never": 7}, "nobody has booked it yet"
        assert ages(24 * 62) == {"never": 7}
        natures = service.get_asset_report("DIAMOND", until=BEGIN + 2 * DAY).natures
        assert natures is not None
        assert [age for age in natures.ages if age.total] == [("within_30_days", 0, 40), ("never", 0, 2)]
        wait_for(added_up)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_day_of_a_year_rolls_forward_to_the_next(
    app: Flask, entries: Callable[[], list[Entry]], movements: Callable[[], list[Movement]]
) -> None:
    history = History(BEGIN)
    history.post(365)
    wait_for(added_up)
    there, moved = entries(), movements()
    for code in ("GOLD", "DIAMOND"):
        closing = reports.Outstanding(0, 0)
        for day in range(366):
            since, until = BEGIN + day * DAY, BEGIN + (day + 1) * DAY
            report = service.get_asset_report(code, since=since, until=until)
            assert report.opening == closing
            require_same(report, there, until=until)
            if day % 15 == 0:
                require_same_natures(report, moved, until=until)
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
    today = sorted(one.at for one in entries() if one.at > now - DAY)
    expected_older = settled.expect_older()
    with pytest.raises(ReportBehindError):
        service.get_asset_report("GOLD", until=BEGIN + 5 * DAY)
    settled.older_are_there([expected_older])
    wait_for(added_up)
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
    assert service.verify().is_clean
    tamper("UPDATE bonus_totals SET credits = credits + 1 WHERE entry_type = 'BONUS'")
    assert service.verify().broken() == {"lot_totals"}
    assert service.get_asset_report("DIAMOND").differences == {"bonus": -1}
    tamper("UPDATE bonus_totals SET credits = credits - 1 WHERE entry_type = 'BONUS'")
    tamper("UPDATE lot_ends SET day = day - 1, debits = debits + 1")
    assert service.verify().broken() == {"lot_totals"}
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


@pytest.mark.parametrize("others_max", [reports._OTHERS_MAX, 0])
def test_users_balances_are_summed_up_whichever_wallets_are_fewer(
    app: Flask, monkeypatch: pytest.MonkeyPatch, others_max: int
) -> None:
    monkeypatch.setattr(reports, "_OTHERS_MAX", others_max)
    some_of_each()
    for code in ("GOLD", "DIAMOND"):
        report = service.get_asset_report(code)
        assert report.tie is not None
        assert report.tie.users == report.closing
        assert report.ties, report.differences
        assert report.closing.total > 0
