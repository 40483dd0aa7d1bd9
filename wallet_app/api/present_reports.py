"""Reports, from the service's names to the JSON outside."""

from __future__ import annotations

import datetime as dt
from typing import Any

from wallet_app.api.present import instant
from wallet_app.money import json_integer
from wallet_app.service import AssetReport, Outstanding, ReportAge, ReportLine, SystemDays


def asset_report(report: AssetReport, *, at: dt.datetime | None) -> dict[str, Any]:
    """Present a report; `at` is the instant that it was asked for, if not a range."""
    tie, natures = report.tie, report.natures
    return {
        "asset": {"code": report.asset.code, "name": report.asset.name, "scale": report.asset.scale},
        "at": None if at is None else instant(at),
        "from": None if report.since is None else instant(report.since),
        "to": None if at is not None else instant(report.until),
        "madeAt": instant(report.made_at),
        "final": report.is_final,
        "opening": _with_natures(report.opening, None if natures is None else natures.opening),
        "lines": [_line(report, line) for line in report.lines],
        "reversed": json_integer(report.reversed),
        "closing": _with_natures(report.closing, None if natures is None else natures.closing),
        "holds": [_line(report, line) for line in report.holds],
        "ageing": None if natures is None else [_age(age) for age in natures.ages],
        "ties": report.ties,
        "compared": None
        if tie is None
        else {"users": None if tie.users is None else _outstanding(tie.users), "system": _outstanding(tie.system)},
    }


def system_days(found: SystemDays) -> dict[str, Any]:
    """Present days of a SYSTEM wallet."""
    wallet = found.wallet
    return {
        "walletId": wallet.wallet_id,
        "owner": wallet.user_name,
        "asset": {"code": wallet.asset_code, "name": wallet.asset_name},
        "balance": json_integer(wallet.balance),
        "lateSince": None if found.late_since is None else instant(found.late_since),
        "days": [
            {
                "day": each.day.isoformat(),
                "entries": each.entries,
                "opening": json_integer(each.opening),
                "incoming": json_integer(each.incoming),
                "outgoing": json_integer(each.outgoing),
                "closing": json_integer(each.closing),
            }
            for each in found.days
        ],
    }


def _outstanding(found: Outstanding) -> dict[str, Any]:
    return {
        "balance": json_integer(found.balance),
        "held": json_integer(found.held),
        "total": json_integer(found.total),
    }


def _with_natures(found: Outstanding, bonus: Outstanding | None) -> dict[str, Any]:
    told = (None, None) if bonus is None else (bonus.total, found.total - bonus.total)
    return {**_outstanding(found), **dict(zip(("bonus", "paid"), map(_if_told, told), strict=True))}


def _age(age: ReportAge) -> dict[str, Any]:
    return {
        "ends": age.name,
        "bonus": json_integer(age.bonus),
        "paid": json_integer(age.paid),
        "total": json_integer(age.total),
    }


def _if_told(value: int | None) -> int | str | None:
    return None if value is None else json_integer(value)


def _line(report: AssetReport, line: ReportLine) -> dict[str, Any]:
    sums = line.sums
    return {
        "line": line.name,
        "entries": sums.entries,
        "credits": json_integer(sums.credits),
        "debits": json_integer(sums.debits),
        "net": json_integer(sums.net),
        "bonus": _if_told(report.bonus(line.name)),
    }
