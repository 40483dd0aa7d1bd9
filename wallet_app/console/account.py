"""An operator's own sign-in: where they are signed in, their passkeys, their password, their recovery codes."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.refusals import again
from wallet_app.console.screens import screen
from wallet_app.errors import WeakPasswordError


@screen("GET", "/account", permission="account:own")
def account() -> Response:
    """Show it."""
    session = browser.session()
    return pages.page(
        "account.html",
        sessions=service.list_sessions(session),
        passkeys=service.list_passkeys(session),
        codes_left=service.recovery_codes_left(session),
    )


@screen("POST", "/account/sessions/end", permission="account:own")
def end_sessions() -> Response:
    """Sign the operator out everywhere."""
    service.end_all_sessions(browser.session(), visitor=browser.visitor())
    return browser.drop_session(pages.go("/console/sign-in", note="ended"))


@screen("GET", "/account/password", permission="account:own", fresh=True)
def password() -> Response:
    """Ask for a new password."""
    return pages.page("password.html")


@screen("POST", "/account/password", permission="account:own", fresh=True)
def post_password() -> Response:
    """Take it, and sign the operator out everywhere."""
    form = pages.read_form("password")
    try:
        service.change_password(browser.session(), form["password"], visitor=browser.visitor())
    except WeakPasswordError as error:
        return again("password.html", error, field="password")
    return browser.drop_session(pages.go("/console/sign-in", note="password"))


@screen("GET", "/account/recovery-codes", permission="account:own", fresh=True)
def recovery_codes() -> Response:
    """Say what new recovery codes mean."""
    return pages.page("new_recovery_codes.html", codes_left=service.recovery_codes_left(browser.session()))


@screen("POST", "/account/recovery-codes", permission="account:own", fresh=True)
def post_recovery_codes() -> Response:
    """Make new ones and show them: in this answer, because they are kept nowhere."""
    codes = service.new_recovery_codes(browser.session(), visitor=browser.visitor())
    return pages.page("recovery_codes.html", codes=codes, is_first=False)
