"""The first sign-in: with a set-up code an operator chooses a password and connects an authenticator app."""

from __future__ import annotations

import io
from typing import Any

import segno
from flask import Response
from markupsafe import Markup

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.refusals import again
from wallet_app.console.screens import ANYONE, AT_SET_UP, screen
from wallet_app.errors import SignInRefusedError, TooManyAttemptsError, WeakPasswordError


@screen("GET", "/set-up", permission=ANYONE)
def set_up() -> Response:
    """Ask for the set-up code and a password."""
    return pages.page("set_up.html", email="")


@screen("POST", "/set-up", permission=ANYONE)
def post_set_up() -> Response:
    """Take them."""
    form = pages.read_form("email", "code", "password")
    email = form["email"][:300]
    try:
        cookie = service.begin_set_up(email, form["code"], form["password"], visitor=browser.visitor())
    except (SignInRefusedError, TooManyAttemptsError, WeakPasswordError) as error:
        field = "password" if isinstance(error, WeakPasswordError) else "code"
        return again("set_up.html", error, field=field, email=email)
    return browser.set_session(pages.go("/console/set-up/app"), cookie)


@screen("GET", "/set-up/app", permission=AT_SET_UP)
def set_up_app() -> Response:
    """Show the secret for the authenticator app, and ask for a code of it."""
    return pages.page("set_up_app.html", **_app())


@screen("POST", "/set-up/app", permission=AT_SET_UP)
def post_set_up_app() -> Response:
    """Take the code, and show the recovery codes: in this answer, because they are kept nowhere."""
    form = pages.read_form("code")
    try:
        done = service.finish_set_up(browser.session(), form["code"], visitor=browser.visitor())
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("set_up_app.html", error, field="code", **_app())
    return browser.set_signed_in(pages.page("recovery_codes.html", codes=done.recovery_codes, is_first=True), done)


def _app() -> dict[str, Any]:
    found = service.app_secret(browser.session())
    return {"secret": " ".join(found.secret[at : at + 4] for at in range(0, len(found.secret), 4)), "qr": _qr(found)}


def _qr(found: service.AppSecret) -> Markup:
    """Return the QR code as an SVG element without any style of its own."""
    out = io.BytesIO()
    segno.make(found.address, error="m").save(
        out, kind="svg", xmldecl=False, svgns=False, nl=False, omitsize=True, svgclass="qr", lineclass=None, border=4
    )
    return Markup(out.getvalue().decode())  # noqa: S704 - made by us from what we made
