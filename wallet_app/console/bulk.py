"""Bulk runs: the list of them, one of them with its rows, and what came of them as a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, exports, pages, words
from wallet_app.console.screens import screen
from wallet_app.fields import ID_MAX
from wallet_app.service import BulkRunView

REFRESH_SECONDS = 5
"""How often the page of a run that is being worked at loads itself again."""

SILENT_SECONDS_MAX = 30
"""After how long without a sign of a worker the page says that none is at it."""

ROW_STATES = {
    "waiting": ("Waiting", "neutral"),
    "done": ("Done", "good"),
    "done_before": ("Done before", "neutral"),
    "refused": ("Refused", "bad"),
    "failed": ("Failed", "bad"),
}

RESULT_COLUMNS = (
    "row",
    *service.BULK_COLUMNS,
    "status",
    "transaction_id",
    "moved",
    "balance_after",
    "error_code",
    "error",
)


@screen("GET", "/bulk", permission="approvals:read")
def bulk() -> Response:
    """List the runs, newest first."""
    page = service.list_bulk_runs(before_id=_number("before"))
    following = page.following
    return pages.page(
        "bulk_runs.html",
        runs=page.items,
        next_url=None if following is None else f"/console/bulk?before={following[0]}",
        first_url=None if _number("before") is None else "/console/bulk",
    )


@screen("GET", "/bulk/<int:run_id>", permission="approvals:read")
def bulk_run(run_id: int) -> Response:
    """Show a run: what it is to do or did, how it stands, and its rows by pages."""
    return run_page(find(run_id))


@screen("GET", f"/bulk/<int:run_id>/result.<{exports.FORMS}:form>", permission="bulk:results")
def bulk_result(run_id: int, form: str) -> Response:
    """Send the rows with what came of each."""
    run = find(run_id)
    return exports.export(
        form,
        f"bulk-{run.run_id}-{run.campaign}",
        RESULT_COLUMNS,
        _results(run),
        filters={"run": run.run_id},
        permission="bulk:results",
    )


def find(run_id: int) -> BulkRunView:
    """Return the run; raise NotFound for a number that no run can have, BulkRunNotFoundError for another."""
    if run_id > ID_MAX:
        raise NotFound
    return service.get_bulk_run(run_id)


def run_page(run: BulkRunView, status: int = 200, **more: Any) -> Response:
    """Return a run's page; `more` may have an `error` and what it is about."""
    after, chosen = _number("after") or 0, request.args.get("status", "")
    rows = service.list_bulk_rows(
        run.run_id,
        after_row=after,
        status=chosen if chosen in service.ROW_STATUSES else None,
        only_expected=chosen == "expected",
        only_changed=chosen == "changed",
    )
    found = (
        None
        if run.request_id is None
        else service.get_request(browser.session(), run.request_id, visitor=browser.visitor())
    )
    answer = pages.page(
        "bulk_run.html",
        status,
        run=run,
        recent=service.recent_rows(run.run_id) if run.state in {"ready", "pending_approval"} else None,
        figures=service.bulk_figures(run.run_id),
        rows=rows.items,
        chosen=chosen,
        row_states=ROW_STATES,
        asked=None if found is None else found.request,
        why_not=None if found is None else found.why_not,
        is_maker=run.maker_id == browser.session().operator_id,
        is_silent=run.state == "running" and (run.silent_seconds or 0) > SILENT_SECONDS_MAX,
        may_undo=run.kind == "adjustment" and run.state in service.UNDOABLE and run.done > 0,
        next_url=None if rows.following is None else _address(run.run_id, chosen, rows.following[0]),
        first_url=_address(run.run_id, chosen, 0) if after else None,
        **more,
    )
    if run.state == "running":
        # By a header and no element: whoever reads the page slowly can stop it in their browser, and nothing is lost.
        answer.headers["Refresh"] = str(REFRESH_SECONDS)
    return answer


def _address(run_id: int, chosen: str, after: int) -> str:
    query = urlencode({name: value for name, value in (("status", chosen), ("after", after)) if value})
    return f"/console/bulk/{run_id}{'?' if query else ''}{query}#rows"


def _number(name: str) -> int | None:
    given = request.args.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None


def _results(run: BulkRunView) -> Iterator[tuple[object, ...]]:
    for row in service.walk_bulk_rows(run.run_id):
        yield (
            row.row_no,
            row.row_ref,
            row.user_id,
            row.external_id,
            row.wallet_id,
            row.asset_code,
            row.direction,
            words.plain_amount(row.amount, row.asset_scale),
            row.reason_code,
            row.ticket,
            row.note,
            row.status,
            row.transaction_id,
            None if row.moved is None else words.plain_amount(row.moved, row.asset_scale),
            None if row.balance_after is None else words.plain_amount(row.balance_after, row.asset_scale),
            row.error_code,
            row.error_message,
        )
