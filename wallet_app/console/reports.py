"""Reports: what users have of an asset and how it came about, to be read, printed or taken along."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from flask import Response

from wallet_app import report_rows, service
from wallet_app.console import exports, pages
from wallet_app.console.asked import Asked
from wallet_app.console.screens import screen
from wallet_app.errors import ReportBehindError, ReportTooFineError
from wallet_app.service import AssetReport, AssetView

_NAMES = ("asset", "from", "to")


@screen("GET", "/reports", permission="reports:read")
def reports() -> Response:
    """Show a report on an asset: opening, what brought and took something, closing; and whether that ties."""
    asked, assets = Asked(*_NAMES), service.list_assets(after_id=None, limit=service.PAGE_MAX)
    code, since, until = _choice(asked, assets)
    found, problem = None, None
    if code and not asked.errors:
        found, problem = _report(code, since, until)
    return pages.page(
        "reports.html",
        _status(asked, problem),
        asked=asked,
        code=code,
        assets=[(each.code, f"{each.name} ({each.code})") for each in assets],
        # Without a choice, the form shows the days that were taken.
        period={"from": asked.values["from"] or f"{since:%Y-%m-%d}", "to": asked.values["to"]},
        report=found,
        problem=problem,
        movements=[] if found is None else report_rows.movements(found),
        holds=[] if found is None else report_rows.holds(found),
        ages=[] if found is None else report_rows.ages(found),
        verdict=[] if found is None else report_rows.verdict(found),
        csv_url=asked.url("/console/reports.csv"),
        json_url=asked.url("/console/reports.json"),
    )


@screen("GET", f"/reports.<{exports.FORMS}:form>", permission="reports:export")
def report_file(form: str) -> Response:
    """The report as a file."""
    asked, assets = Asked(*_NAMES), service.list_assets(after_id=None, limit=service.PAGE_MAX)
    code, since, until = _choice(asked, assets)
    if asked.errors or not code:
        return pages.page("bad_filter.html", 422, asked=asked, back="/console/reports")
    found = service.get_asset_report(code, since=since, until=until)
    told = {"asset": code, "from": service.instant_text(since), "to": service.instant_text(found.until)}
    return exports.export(form, f"report-{code}", report_rows.COLUMNS, report_rows.cells(found), filters=told)


def _choice(asked: Asked, assets: Sequence[AssetView]) -> tuple[str, dt.datetime, dt.datetime | None]:
    """Return the asset, and from when until when, None for now. Without a choice the first one, this month so far."""
    code = asked.choice("asset", [each.code for each in assets]) or (assets[0].code if assets else "")
    now = dt.datetime.now(dt.UTC)
    since, until = asked.begin("from"), asked.end("to")
    if since is None:
        since = min(until or now, now) - dt.timedelta(microseconds=1)
        since = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    elif since > now:
        asked.errors["from"] = "Enter a day that has begun."
    if until is not None and since > until and not asked.errors:
        asked.errors["to"] = "Enter a day that is not before the first one."
    # The end of today is not there yet: so far, that is now.
    return code, since, None if until is not None and until > now else until


def _report(
    code: str, since: dt.datetime, until: dt.datetime | None
) -> tuple[AssetReport | None, ReportBehindError | ReportTooFineError | None]:
    """Return the report, or why there is none for these instants."""
    try:
        return service.get_asset_report(code, since=since, until=until), None
    except (ReportBehindError, ReportTooFineError) as error:
        return None, error


def _status(asked: Asked, problem: ReportBehindError | ReportTooFineError | None) -> int:
    if isinstance(problem, ReportBehindError):
        return 503
    return 422 if asked.errors or problem else 200
