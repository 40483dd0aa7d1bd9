"""Examples for reports."""

from __future__ import annotations

from typing import Any

from wallet_app.api import examples

_FROM, _TO = "2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z"
_MADE_AT = "2026-02-03T08:12:44.018271Z"


def _sums(name: str, entries: int, credits_: int, debits: int, bonus: int = 0) -> dict[str, Any]:
    net = credits_ - debits
    return {"line": name, "entries": entries, "credits": credits_, "debits": debits, "net": net, "bonus": bonus}


def _by_nature(balance: int, held: int, bonus: int) -> dict[str, Any]:
    return {**_has(balance, held), "bonus": bonus, "paid": balance + held - bonus}


def _age(ends: str, bonus: int, paid: int = 0) -> dict[str, Any]:
    return {"ends": ends, "bonus": bonus, "paid": paid, "total": bonus + paid}


def _has(balance: int, held: int) -> dict[str, Any]:
    return {"balance": balance, "held": held, "total": balance + held}


_RANGE: dict[str, Any] = {
    "ok": True,
    "asset": {"code": "GOLD", "name": "Gold Coins", "scale": 0},
    "at": None,
    "from": _FROM,
    "to": _TO,
    "madeAt": _MADE_AT,
    "final": True,
    "opening": _by_nature(800, 0, 0),
    "lines": [
        _sums("issued", 12, 6_000, 0),
        _sums("bonus", 40, 400, 0, 400),
        _sums("adjusted", 2, 50, 20, 50),
        _sums("exchanged", 1, 0, 100),
        _sums("transferred", 6, 300, 300),
        _sums("spent", 55, 0, 2_310, -300),
        _sums("expired", 3, 0, 30, -30),
        _sums("reversed_issued", 1, 0, 500),
        _sums("reversed_bonus", 0, 0, 0),
        _sums("reversed_adjusted", 0, 0, 0),
        _sums("reversed_exchanged", 0, 0, 0),
        _sums("reversed_transferred", 0, 0, 0),
        _sums("reversed_spent", 2, 60, 0),
        _sums("reversed_expired", 0, 0, 0),
    ],
    "reversed": -440,
    "closing": _by_nature(4_250, 100, 120),
    "holds": [_sums("held", 5, 0, 500), _sums("released", 4, 400, 0)],
    "ageing": [
        _age("due", 0),
        _age("within_7_days", 20),
        _age("within_30_days", 50),
        _age("within_90_days", 0),
        _age("later", 0),
        _age("never", 50, 4_230),
    ],
    "ties": True,
    "compared": {"users": _has(4_250, 100), "system": _has(4_250, 100)},
}
_AT = _RANGE | {
    "at": "2026-01-31T23:59:59.000000Z",
    "from": None,
    "to": None,
    "opening": _by_nature(0, 0, 0),
    "closing": _by_nature(4_250, 100, 120),
    "ties": None,
    "compared": None,
    "lines": [_sums("issued", 14, 6_800, 0), *_RANGE["lines"][1:]],
}
_DAYS = {
    "ok": True,
    "walletId": 1,
    "owner": "Treasury",
    "asset": {"code": "GOLD", "name": "Gold Coins"},
    "balance": -6_300,
    "lateSince": None,
    "days": [
        {"day": "2026-01-31", "entries": 3, "opening": -5_300, "incoming": 500, "outgoing": 1_500, "closing": -6_300},
        {"day": "2026-01-29", "entries": 9, "opening": -800, "incoming": 0, "outgoing": 4_500, "closing": -5_300},
    ],
}
_BEHIND = {
    "behind": examples.problem(
        503,
        "report_behind",
        "Report is behind",
        "The days are added up to 2026-01-31T11:02:09+00:00, and the report goes further. Ask for one that ends "
        "before, or again when the worker has added up the rest.",
        reachesTo="2026-01-31T11:02:09.114000+00:00",
    )
}
_NO_REPORT = {
    "instant": examples.invalid_field(
        "/from",
        "invalid",
        "must be an instant as RFC 3339 has it, with a zone, like 2026-01-31T12:00:00Z; + is %2B here",
    ),
    "ahead": examples.problem(422, "instant_ahead", "Instant in the future", "at: must not lie in the future."),
    "both": examples.problem(
        422,
        "bad_filter",
        "Bad filter",
        "A report is at an instant (`at`), or from one to another (`from`, `to`): leave out one.",
    ),
    "fine": examples.problem(
        422,
        "report_too_fine",
        "Report too fine",
        "More than 50000 transactions lie between 2026-01-31T12:00:00+00:00 and either end of its day: let the report "
        "begin and end with whole days (UTC).",
        transactionsMax=50_000,
    ),
}
_BAD_DAY = {"day": examples.invalid_field("/from", "invalid", "must be a day like 2026-01-31")}
_OF_A_USER = {
    "user": examples.problem(
        409,
        "no_system_wallet",
        "Not a system wallet",
        "Wallet 3 is a user's: it has entries of its own, and statements by entry, and no days.",
        walletId=3,
    )
}


def add() -> None:
    """Add them to the others, which are there by then."""
    problems = examples.PROBLEMS["listEntries"]
    examples.ANSWERS |= {
        "getAssetReport": {"range": _RANGE, "at": _AT},
        "listSystemDays": {"page": _DAYS | {"next": "AAAAAAAAAAIIsonnxNbTvw=="}},
    }
    examples.PROBLEMS |= {
        "getAssetReport": problems | {404: examples.NO_ASSET, 422: _NO_REPORT, 503: problems[503] | _BEHIND},
        "listSystemDays": problems | {409: _OF_A_USER, 422: problems[422] | _BAD_DAY},
    }
