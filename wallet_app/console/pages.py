"""Pages and redirects: how every answer of the console is made."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from flask import Response, g, redirect, render_template, request

from wallet_app import service
from wallet_app.config import current_settings
from wallet_app.console import browser, navigation
from wallet_app.fields import invalid, printable

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
NOTES = MappingProxyType(
    {
        "signed-out": "You are signed out.",
        "set-up": "Sign in. If you have just been set up and saw no recovery codes, make new ones in your account.",
        "sent-twice": "That code was accepted a moment ago, most likely by the first of two clicks, and its answer did "
        "not arrive here. Sign in again, with the next code of your app.",
        "ended": "You are signed out everywhere.",
        "password": "The password is changed, and you are signed out everywhere. Sign in with the new one.",
        "passkey-added": "The passkey is added. You can sign in with it from now on.",
        "passkey-removed": "The passkey is removed.",
        "done": "Done.",
        "asked": "Asked for. Nothing has moved: it waits until another operator decides on it.",
        "sent-before": "That form was sent before: this is what came of it, and nothing more was done. "
        "To do it once more, begin anew.",
        "approved": "Approved and done.",
        "rejected": "Rejected. Nothing has moved.",
        "withdrawn": "Withdrawn. Nothing has moved.",
        "operator-role": "The role is changed, and they are signed out everywhere.",
        "operator-disabled": "They are kept out from now on, and signed out everywhere.",
        "key-revoked": "The key is revoked. Within five seconds it opens nothing any more, anywhere.",
        "switch-set": "It is stopped from now on, in every process.",
        "switch-lifted": "It is lifted. Others that concern the same wallets stay.",
        "reason-made": "The reason code is made. Operators can choose it now.",
        "reason-changed": "The reason code is changed. What was done under it stays as it is.",
        "bound-set": "The bound holds from now on.",
        "asset-made": "The asset is made, with the system's wallets of it. Services can open users' wallets of it now.",
        "asset-changed": "The asset is changed.",
        "bulk-drafted": "The file is checked, and has no problem. Nothing is posted before somebody else approves it.",
        "bulk-asked": "Others are asked to approve it.",
        "undo-on-its-way": "An undo is on its way already: this is it. It says other than what you have just sent, "
        "which was not taken. If it is not what you want, have it discarded or withdrawn, and begin again.",
        "bulk-approved": "It is approved. The rows are being posted.",
        "bulk-discarded": "It is discarded. Nothing was posted.",
        "bulk-stopping": "It ends after the rows that are being posted at this moment.",
        "bulk-checked": "It was checked again: what you see is as of now.",
        "import-seen": "It is noted that you have looked at it.",
        "verification": "The verification is asked for. The worker begins within seconds.",
        "back-with-entries": "This is what you had entered. Nothing was done with it yet.",
        "session-over": "Your session had ended, so nothing was done. Sign in, and you are back at that form with what "
        "you had entered.",
        "session-over-lost": "Your session had ended, so nothing was done. Sign in, and you are back at that form; "
        "what you had entered has to be entered again.",
        "proof-over": "Nothing was done yet. Confirm that it is you, and you are back at that form with what you had "
        "entered.",
        "confirmed": "Thank you. Do now what you were about to do.",
    }
)
"""What a page says about what was done just before, by the word in its address and in a cookie of ours."""


def page(template: str, status: int = 200, /, **context: Any) -> Response:
    """Return the page; a browser that has no cookie of ours gets one, so that its forms have a token.

    A `note` of the context is the word of what it says was done just before; without one, that of who led here.
    """
    session, own_note = g.get("session"), browser.own_note()
    is_signed_in = session is not None and session.stage == "signed_in"
    body = render_template(
        f"console/{template}",
        session=session,
        lines=navigation.lines_for(session) if is_signed_in else (),
        current_line=navigation.current(request.path),
        can_search=is_signed_in and navigation.may_open(session, "/console/search"),
        searched=request.args.get("q", "")[:200] if request.path == "/console/search" else "",
        environment=current_settings().environment,
        stops_for_all=g.get("stops", ()),
        form_token=browser.form_token,
        token_field=browser.TOKEN_FIELD,
        note=NOTES.get(context.pop("note", None) or own_note or ""),
        permissions=service.PERMISSIONS,
        **context,
    )
    response = Response(body, status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    if g.get("new_cookie") is not None:
        browser.set_first(response, g.new_cookie)
    if own_note is not None:
        browser.drop_cookie(response, browser.NOTE_COOKIE)
    return response


def go(path: str, *, note: str | None = None, form: str | None = None) -> Response:
    """Return what sends the browser on to another page after a form, or to the form with its one-time key."""
    query = {"note": note, "form": form}
    response = _to(path, {name: value for name, value in query.items() if value is not None})
    return response if note is None else browser.set_note(response, note)


def go_and_return(path: str, next_path: str, *, note: str | None = None) -> Response:
    """Return what sends the browser to a page that leads on to `next_path`."""
    query = {"next": None if next_path == "/console" else next_path, "note": note}
    response = _to(path, {name: value for name, value in query.items() if value is not None})
    return response if note is None else browser.set_note(response, note)


def options(json: str) -> Response:
    """Return what a script asks an authenticator."""
    return Response(json, content_type="application/json")


def read_form(*names: str) -> Mapping[str, str]:
    """Return the form's fields, missing ones as empty texts; refuse what the form does not have."""
    for name, values in request.form.lists():
        if name not in names and name != browser.TOKEN_FIELD:
            raise invalid(f"/{printable(name)}", "unknown_field", "is not a field of this form")
        if len(values) > 1:
            raise invalid(f"/{printable(name)}", "repeated", "may be given once")
        if "\0" in values[0]:
            raise invalid(f"/{printable(name)}", "control_character", "has a character that nobody can type")
    return {name: request.form.get(name, "") for name in names}


def _to(path: str, query: Mapping[str, str]) -> Response:
    joined = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
    response = redirect(f"{path}?{joined}" if joined else path, 303)
    assert isinstance(response, Response)  # noqa: S101 - for the type alone: Flask's own class
    return response
