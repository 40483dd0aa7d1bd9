"""Deciding on a request: approving it, rejecting it, or withdrawing one's own; each after a page that shows it."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, drafts, in_doubt, pages, phrases, requests
from wallet_app.console.screens import screen
from wallet_app.errors import DriftedError, OperationInvalidError, WalletServiceError
from wallet_app.fields import ID_MAX
from wallet_app.web import problem_of


@screen("GET", "/approvals/<int:request_id>/approve", permission="approvals:decide", fresh=True)
def approve_form(request_id: int) -> Response:
    """Show what would happen now."""
    return _open("approve", request_id)


@screen("POST", "/approvals/<int:request_id>/approve", permission="approvals:decide", fresh=True, keeps_entries=True)
def approve(request_id: int) -> Response:
    """Do what was asked for, if it is still what the approver saw."""
    form = pages.read_form("comment", "seen", "although_moving")
    try:
        service.approve(
            browser.session(),
            _id(request_id),
            comment=form["comment"],
            seen=form["seen"],
            although_moving=form["although_moving"] == "yes",
            visitor=browser.visitor(),
        )
    except WalletServiceError as error:
        return _form("approve", request_id, form["comment"], error)
    return pages.go(_address(request_id), note="approved")


@screen("GET", "/approvals/<int:request_id>/reject", permission="approvals:decide")
def reject_form(request_id: int) -> Response:
    """Ask why."""
    return _open("reject", request_id)


@screen("POST", "/approvals/<int:request_id>/reject", permission="approvals:decide", keeps_entries=True)
def reject(request_id: int) -> Response:
    """Refuse what was asked for."""
    form = pages.read_form("comment")
    try:
        service.reject(browser.session(), _id(request_id), comment=form["comment"], visitor=browser.visitor())
    except WalletServiceError as error:
        return _form("reject", request_id, form["comment"], error)
    return pages.go(_address(request_id), note="rejected")


@screen("GET", "/approvals/<int:request_id>/withdraw", permission="approvals:own")
def withdraw_form(request_id: int) -> Response:
    """Ask whether it is to be taken back."""
    return _open("withdraw", request_id)


@screen("POST", "/approvals/<int:request_id>/withdraw", permission="approvals:own", keeps_entries=True)
def withdraw(request_id: int) -> Response:
    """Take back what one asked for oneself, also if one may not ask any more."""
    form = pages.read_form("comment")
    try:
        service.withdraw(browser.session(), _id(request_id), comment=form["comment"], visitor=browser.visitor())
    except WalletServiceError as error:
        return _form("withdraw", request_id, form["comment"], error)
    return pages.go(_address(request_id), note="withdrawn")


def _open(verb: str, request_id: int) -> Response:
    """Show the form of the decision; with the comment, if who decides had to prove first who they are."""
    draft = drafts.found()
    if draft is None:
        return _form(verb, request_id)
    return _form(verb, request_id, draft.get("comment", ""), note="back-with-entries")


def _form(
    verb: str, request_id: int, comment: str = "", error: WalletServiceError | None = None, *, note: str | None = None
) -> Response:
    """Show the request with the form of the decision; with the error, if there was one, and what became of it."""
    found = service.get_request(browser.session(), _id(request_id), visitor=browser.visitor())
    is_own = found.request.maker_id == browser.session().operator_id
    may = found.request.is_pending and is_own is (verb == "withdraw")
    if error is None and not may:
        # Whose it is not, or that it is decided, is told there.
        return pages.go(_address(request_id))
    operation = found.request.operation
    if verb == "approve" and isinstance(operation, service.RunOperation):
        # Whoever approves a run has its rows before them.
        return pages.go(f"/console/bulk/{operation.run_id}")
    return pages.page(
        "decision.html",
        200 if error is None else problem_of(error).status,
        note=note,
        verb=verb,
        may=may,
        **requests.context(found),
        comment=comment,
        error=None if error is None else _said(error, found.weighed.effects if found.weighed else ()),
        has_drifted=isinstance(error, DriftedError),
        error_field="comment" if isinstance(error, OperationInvalidError) else None,
    )


def _said(error: WalletServiceError, effects: Sequence[service.Effect]) -> str:
    return in_doubt.said(error) or phrases.of_effects(error, effects)


def _id(request_id: int) -> int:
    if request_id > ID_MAX:
        raise NotFound
    return request_id


def _address(request_id: int) -> str:
    return f"/console/approvals/{request_id}"
