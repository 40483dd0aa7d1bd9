"""What is done with a bulk run from its page: checked, asked for, approved, discarded, stopped, undone.

Whoever clicks twice, or too late, is told on the run's page how it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Response

from wallet_app import service
from wallet_app.console import browser, in_doubt, pages
from wallet_app.console.bulk import find, run_page
from wallet_app.console.screens import screen
from wallet_app.errors import (
    BulkCampaignOpenError,
    BulkInvalidError,
    ConditionError,
    InvalidError,
    RefusedError,
    SelfApprovalError,
    UnavailableError,
)
from wallet_app.web import problem_of

_UNDO = ("reason_code", "reason", "ticket", "on_shortfall")


@screen("POST", "/bulk/<int:run_id>/check", permission="bulk:watch")
def check_bulk(run_id: int) -> Response:
    """Preview the run anew."""
    pages.read_form()
    return _done(run_id, "bulk-checked", lambda: service.check_bulk(*_who(run_id), visitor=browser.visitor()))


@screen("POST", "/bulk/<int:run_id>/ask", permission="bulk:draft")
def ask_bulk(run_id: int) -> Response:
    """Ask others to approve it."""
    pages.read_form()
    return _done(run_id, "bulk-asked", lambda: service.ask_bulk(*_who(run_id), visitor=browser.visitor()))


@screen("POST", "/bulk/<int:run_id>/discard", permission="bulk:draft")
def discard_bulk(run_id: int) -> Response:
    """Let it be over, before anybody was asked."""
    pages.read_form()
    return _done(run_id, "bulk-discarded", lambda: service.discard_bulk(*_who(run_id), visitor=browser.visitor()))


@screen("POST", "/bulk/<int:run_id>/stop", permission="bulk:watch")
def stop_bulk(run_id: int) -> Response:
    """Have it end after the rows that are on their way."""
    pages.read_form()
    return _done(run_id, "bulk-stopping", lambda: service.stop_bulk(*_who(run_id), visitor=browser.visitor()))


@screen("POST", "/bulk/<int:run_id>/approve", permission="approvals:decide", fresh=True)
def approve_bulk(run_id: int) -> Response:
    """Let its rows be posted."""
    form = pages.read_form("seen", "comment")
    return _done(
        run_id,
        "bulk-approved",
        lambda: service.approve_bulk(
            *_who(run_id), seen=form["seen"], comment=form["comment"], visitor=browser.visitor()
        ),
    )


@screen("GET", "/bulk/<int:run_id>/undo", permission="bulk:draft")
def undo_bulk(run_id: int) -> Response:
    """Ask why, and what is to be with what is spent already."""
    return _undo_page(run_id, {**dict.fromkeys(_UNDO, ""), "on_shortfall": "refuse"})


@screen("POST", "/bulk/<int:run_id>/undo", permission="bulk:draft")
def post_undo(run_id: int) -> Response:
    """Make a run of it, which shows what can be reversed and what cannot."""
    form = pages.read_form(*_UNDO)
    find(run_id)
    try:
        undo_id = service.draft_undo(
            browser.session(),
            run_id,
            reason_code=form["reason_code"],
            reason=form["reason"],
            ticket=form["ticket"].strip() or None,
            on_shortfall=form["on_shortfall"],
            visitor=browser.visitor(),
        )
    except BulkInvalidError as wrong:
        return _undo_page(run_id, form, 422, error=wrong.detail, error_field=wrong.field)
    except BulkCampaignOpenError as open_run:
        found = service.get_bulk_run(open_run.run_id)
        if found.undoes == run_id:
            # A double click, or somebody else: there is one on its way.
            return pages.go(f"/console/bulk/{found.run_id}", note=None if _says(found, form) else "undo-on-its-way")
        return _refused(run_id, open_run)
    except (RefusedError, UnavailableError) as refused:
        return _refused(run_id, refused)
    return pages.go(f"/console/bulk/{undo_id}")


def _says(undo: service.BulkRunView, form: Mapping[str, str]) -> bool:
    """Tell whether the undo is what the form asks for."""
    codes = {row.reason_code for row in service.list_bulk_rows(undo.run_id).items}
    said = (undo.reason, undo.ticket or "", undo.on_shortfall)
    return codes == {form["reason_code"]} and said == (
        form["reason"].strip(),
        form["ticket"].strip(),
        form["on_shortfall"],
    )


def _who(run_id: int) -> tuple[service.Session, int]:
    return browser.session(), find(run_id).run_id


def _done(run_id: int, note: str, do: Callable[[], object]) -> Response:
    try:
        do()
    except (RefusedError, ConditionError, InvalidError, UnavailableError, SelfApprovalError) as error:
        return _refused(run_id, error)
    return pages.go(f"/console/bulk/{run_id}", note=note)


def _refused(
    run_id: int, error: RefusedError | ConditionError | InvalidError | UnavailableError | SelfApprovalError
) -> Response:
    """Return the run's page as it stands now, with what was refused and why."""
    return run_page(find(run_id), problem_of(error).status, error=in_doubt.said(error) or error.detail)


def _undo_page(run_id: int, form: Mapping[str, str], status: int = 200, **more: object) -> Response:
    return pages.page(
        "bulk_undo.html",
        status,
        run=find(run_id),
        form=form,
        reasons=[
            (one.code, f"{one.code}: {one.settings.name}") for one in service.list_reasons() if one.settings.is_active
        ],
        **more,
    )
