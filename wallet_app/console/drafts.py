"""Forms that came when their sender's session, or proof, was over: what was entered is kept until they are back.

It stays in their browser, sealed, for half an hour. It comes back into the very form that it was entered into, and for
the operator who entered it alone: a form with a one-time key is theirs by that key, another by who was signed in.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, g, request

from wallet_app import service
from wallet_app.console import browser, screens

KEY = "form"
"""The field with a form's one-time key."""

_SECONDS_MAX = 1_800
_BYTES_MAX = 3_800
"""Browsers keep no cookie above 4,096 bytes with its name: what is longer is lost, and that is said."""
_NO_ENTRIES = {browser.TOKEN_FIELD, "step"}
_OPERATOR = "operator"


def sealed() -> str | None:
    """Return what was entered into this request's form, sealed; None where there is nothing that can be kept."""
    declared = screens.SCREENS.get(request.endpoint or "")
    if declared is None or not declared.keeps_entries or request.method == "GET":
        return None
    fields = {name: value for name, value in request.form.items() if name not in _NO_ENTRIES}
    if g.get("session") is not None:
        fields[_OPERATOR] = str(g.session.operator_id)
    if not fields.get(KEY) and _OPERATOR not in fields:
        return None  # Nobody could tell whose it is.
    found = service.seal_draft(fields, about=request.path)
    return found if len(found) <= _BYTES_MAX else None


def keep(response: Response, draft: str) -> Response:
    """Give the browser what was entered."""
    response.set_cookie(
        browser.DRAFT_COOKIE, draft, max_age=_SECONDS_MAX, secure=True, httponly=True, samesite="Lax", path="/"
    )
    return response


def found(key: str | None = None) -> Mapping[str, str] | None:
    """Return what this operator had entered into the form at this address before, None if there is nothing of it.

    `key` is the form's one-time key, which the caller has found to be this operator's.
    """
    given = request.cookies.get(browser.DRAFT_COOKIE)
    draft = None if given is None else service.open_draft(given, about=request.path)
    if draft is None:
        return None
    is_theirs = draft.get(KEY) == key if key else draft.get(_OPERATOR) == str(browser.session().operator_id)
    return draft if is_theirs else None
