"""GET /reports/assets/{code}, and the days of a SYSTEM wallet."""

from __future__ import annotations

import datetime as dt

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, filters, parameters, present_reports
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.report_schemas import AssetReportAnswer, SystemDaysAnswer
from wallet_app.errors import BadFilterError
from wallet_app.web import json_response, permit


@operation(
    "GET",
    "/reports/assets/{assetCode}",
    scope="reports:read",
    tag="Reports",
    answer=AssetReportAnswer,
    parameters=(parameters.ASSET_CODE, filters.REPORT_AT, filters.REPORT_FROM, filters.REPORT_TO),
    problems=(404, 422, 429, 503),
)
def get_asset_report(asset_code: str) -> Response:
    """Report what users have of an asset, and how it came about.

    `from` one instant `to` another, from the beginning to one (`at`), or to now: what users had at the beginning, a
    line for whatever brought or took something, and what they had at the end. By the entries' `createdAt`, to the unit.
    The end is compared with the users' balances and with the SYSTEM wallets', and `ties` tells whether all say the
    same; it is null where that could not be looked at. `final` means that nothing can be added to it any more.

    Whole days (UTC) come from totals that are kept beside the ledger. The part of a day is added up from its
    transactions: 422 `report_too_fine` if these are too many, on both sides of the instant. 503 `report_behind` while
    the totals do not reach as far, and too much came after them.
    """
    refuse_unknown_parameters(("at", "from", "to"))
    code, instant, (since, until) = parameters.asset_code(asset_code), filters.at(), filters.period()
    if instant is not None and (since or until):
        raise BadFilterError("A report is at an instant (`at`), or from one to another (`from`, `to`): leave out one.")
    if instant is not None:
        # What was created in this very microsecond counts.
        until = min(instant, _LAST) + _MICROSECOND
    report = service.get_asset_report(code, since=since, until=until, permit=permit())
    moment = instant or (report.until if since is None and until is None else None)
    return json_response({"ok": True, **present_reports.asset_report(report, at=moment)})


@operation(
    "GET",
    "/reports/wallets/{walletId}/days",
    scope="reports:read",
    tag="Reports",
    answer=SystemDaysAnswer,
    parameters=(parameters.WALLET_ID, filters.FROM_DAY, filters.TO_DAY, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_system_days(wallet_id: str) -> Response:
    """List the days of a SYSTEM wallet, newest first.

    Of each day (UTC) on which something was moved against it: what came in (`incoming`: users' debits), what went out
    (`outgoing`: users' credits), and its balance at the end. Its entries stand with the users' wallets. With
    `lateSince`, what came after that instant is in none of the days yet. While there are more, the answer has `next`:
    repeat the request with the query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("from", "to", "limit", "cursor"))
    wallet, (since, until), limit = parameters.wallet_id(wallet_id), filters.days(), parameters.limit()
    if since is not None and until is not None and until < since:
        raise BadFilterError("The days end before they begin: let `to` not be before `from`.")
    place = parameters.cursor("days", wallet, since, until)
    before = until if place is None else dt.date.fromordinal(min(max(place, 1), _LAST.toordinal()))
    found = service.list_system_days(wallet, since=since, before=before, limit=limit, permit=permit())
    last = found.following
    following = {} if last is None else {"next": cursor.make(last.toordinal(), "days", wallet, since, until)}
    return json_response({"ok": True, **present_reports.system_days(found), **following})


_MICROSECOND = dt.timedelta(microseconds=1)
_LAST = dt.datetime.max.replace(tzinfo=dt.UTC) - _MICROSECOND
