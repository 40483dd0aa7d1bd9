"""Errors as pages: what happened, and what to do. Who has to sign in, or to prove who they are, is sent to do so."""

from __future__ import annotations

from contextlib import suppress

from flask import Response, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge, TooManyRequests

from wallet_app import service
from wallet_app.console import browser, drafts, in_doubt, pages, screens
from wallet_app.errors import NotSignedInError, OutcomeUnknownError, ProofNeededError
from wallet_app.web import problem_of

_STAGES = {"second_factor": "/console/sign-in/code", "set_up": "/console/set-up/app"}


def page_of(error: Exception) -> Response | None:
    """Return the error as a page if it is the console's, else None."""
    if request.path != screens.PREFIX and not request.path.startswith(f"{screens.PREFIX}/"):
        return None
    if isinstance(error, NotSignedInError):
        return _to_sign_in()
    if isinstance(error, ProofNeededError):
        return _to_confirm()
    if isinstance(error, (NotFound, MethodNotAllowed)):
        _look_who_asks()
    found = problem_of(error)
    if isinstance(error, TooManyRequests):
        found.body["detail"] = f"The limit is {error.description}. Try again in {found.headers['Retry-After']} seconds."
    if isinstance(error, RequestEntityTooLarge):
        most = f"{(request.max_content_length or 0) / 1024:,.0f} KiB"
        found.body["detail"] = f"What was sent is larger than the {most} that this page takes. Nothing was done."
    look = None
    if found.body["code"] == OutcomeUnknownError.code:
        found.body["detail"], look = in_doubt.in_words(), in_doubt.place()
    answer = pages.page("error.html", found.status, problem=found.body, look=look)
    for name in {"Retry-After", "Allow"} & set(found.headers):
        answer.headers[name] = found.headers[name]
    return answer


def _look_who_asks() -> None:
    """Find the session for a path that belongs to no screen, so that the page about it has the operator's menu."""
    cookie = browser.read_cookie()
    with suppress(SQLAlchemyError):
        g.session = None if cookie is None else service.find_session(cookie)


def _to_sign_in() -> Response:
    if (answer := _past_the_step()) is not None:
        return answer
    if request.path == _STAGES["set_up"] and request.method == "POST":
        # Most likely a double click: the first one did it, and its page with the recovery codes was never seen.
        return pages.go("/console/sign-in", note="set-up")
    session = g.get("session")
    waits_at = _STAGES.get(session.stage) if session is not None else None
    if waits_at is not None and request.path != waits_at:
        return pages.go_and_return(waits_at, _where_to_return())
    if request.method in {"GET", "HEAD"}:
        return pages.go_and_return("/console/sign-in", _where_to_return())
    draft, next_path = drafts.sealed(), _where_to_return()
    note = "session-over" if draft is not None else None if next_path == "/console" else "session-over-lost"
    answer = pages.go_and_return("/console/sign-in", next_path, note=note)
    return answer if draft is None else drafts.keep(answer, draft)


def _to_confirm() -> Response:
    draft = drafts.sealed()
    if draft is None:
        return pages.go_and_return("/console/confirm", _where_to_return())
    return drafts.keep(pages.go_and_return("/console/confirm", _where_to_return(), note="proof-over"), draft)


def _past_the_step() -> Response | None:
    """Return what a step of the sign-in answers that was made already, most likely by the first of two clicks."""
    declared, session = screens.SCREENS.get(request.endpoint or ""), g.get("session")
    if declared is None or declared.permission not in screens.STAGES or session is None:
        return None
    next_path = browser.next_path(request.values.get("next"))
    if session.stage == "signed_in":
        # By way of the sign-in, which leads whoever is signed in on; never to this step again, or it went in a circle.
        was_set_up = declared.permission == screens.AT_SET_UP and request.method == "POST"
        return pages.go_and_return("/console/sign-in", next_path, note="set-up" if was_set_up else None)
    if request.method == "POST" and session.stage == screens.STAGES[declared.permission] == "second_factor":
        # It was there when the request came, and another request finished it. This leads on where that one's answer
        # reached the browser, and to the form where it did not.
        return pages.go_and_return("/console/sign-in", next_path, note="sent-twice")
    return None


def _where_to_return() -> str:
    """Return the page that the operator wanted; for a form, the one that it was on."""
    if request.method in {"GET", "HEAD"}:
        query = request.query_string.decode("ascii", "replace")
        return browser.next_path(request.path + (f"?{query}" if query else ""))
    declared = screens.SCREENS.get(request.endpoint or "")
    if declared is None or not declared.keeps_entries:
        return browser.path_of_sender()
    key = request.form.get(drafts.KEY, "")
    return browser.next_path(f"{request.path}?{drafts.KEY}={key}" if key else request.path)
