"""Proving again who one is, before what needs that."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.refusals import again
from wallet_app.console.screens import screen
from wallet_app.errors import NotSignedInError, SignInRefusedError, TooManyAttemptsError


@screen("GET", "/confirm", permission="account:own")
def confirm() -> Response:
    """Ask for a passkey, or password and code."""
    return pages.page("confirm.html", **_context(request.args.get("next")))


@screen("POST", "/confirm", permission="account:own")
def post_confirm() -> Response:
    """Take password and code."""
    form = pages.read_form("password", "code", "next")
    try:
        done = service.confirm_with_password(
            browser.session(), form["password"], form["code"], visitor=browser.visitor()
        )
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("confirm.html", error, field="password", **_context(form["next"]))
    except NotSignedInError:
        # The session was there when the request came, and another request has renewed it: the form was sent twice.
        return pages.go_and_return("/console/sign-in", browser.next_path(form["next"]), note="sent-twice")
    return browser.set_signed_in(pages.go(browser.next_path(form["next"])), done)


@screen("POST", "/confirm/passkey/options", permission="account:own")
def confirm_options() -> Response:
    """What the script is to ask an authenticator."""
    asked = service.ask_to_confirm(browser.session(), cookie=browser.own_cookie(), origin=browser.origin())
    return pages.options(asked)


@screen("POST", "/confirm/passkey", permission="account:own")
def post_confirm_passkey() -> Response:
    """Take what the authenticator answered."""
    form = pages.read_form("answer", "next")
    try:
        done = service.confirm_with_passkey(
            browser.session(),
            form["answer"],
            cookie=browser.own_cookie(),
            origin=browser.origin(),
            visitor=browser.visitor(),
        )
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("confirm.html", error, **_context(form["next"]))
    return browser.set_signed_in(pages.go(browser.next_path(form["next"])), done)


def _context(next_path: str | None) -> dict[str, Any]:
    return {
        "next_path": browser.next_path(next_path),
        "has_passkey": bool(service.list_passkeys(browser.session())),
    }
