"""Signing in and out: password and second factor, or a passkey."""

from __future__ import annotations

from flask import Response, g, request

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.refusals import again
from wallet_app.console.screens import ANYONE, AT_SECOND_FACTOR, screen
from wallet_app.errors import SignInRefusedError, TooManyAttemptsError


@screen("GET", "/sign-in", permission=ANYONE)
def sign_in() -> Response:
    """Ask for e-mail address and password, or a passkey."""
    next_path = browser.next_path(request.args.get("next"))
    if g.session is not None and g.session.stage == "signed_in":
        # Where new recovery codes are made, if they were in the answer that the second of two clicks has thrown away.
        return pages.go("/console/account", note="set-up") if browser.own_note() == "set-up" else pages.go(next_path)
    return pages.page("sign_in.html", next_path=next_path, email="")


@screen("POST", "/sign-in", permission=ANYONE)
def post_sign_in() -> Response:
    """Take e-mail address and password."""
    form = pages.read_form("email", "password", "next")
    next_path = browser.next_path(form["next"])
    try:
        cookie = service.sign_in_with_password(
            form["email"][:300], form["password"], visitor=browser.visitor(), instead_of=g.session
        )
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("sign_in.html", error, next_path=next_path, email=form["email"][:300])
    return browser.set_session(pages.go_and_return("/console/sign-in/code", next_path), cookie)


@screen("GET", "/sign-in/code", permission=AT_SECOND_FACTOR)
def second_factor() -> Response:
    """Ask for a code of the authenticator app."""
    return pages.page("code.html", next_path=browser.next_path(request.args.get("next")))


@screen("POST", "/sign-in/code", permission=AT_SECOND_FACTOR)
def post_second_factor() -> Response:
    """Take the code."""
    form = pages.read_form("code", "next")
    next_path = browser.next_path(form["next"])
    try:
        done = service.finish_with_code(browser.session(), form["code"], visitor=browser.visitor())
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("code.html", error, field="code", next_path=next_path)
    return browser.set_signed_in(pages.go(next_path), done)


@screen("GET", "/sign-in/recovery", permission=AT_SECOND_FACTOR)
def recovery() -> Response:
    """Ask for a recovery code."""
    return pages.page("recovery.html", next_path=browser.next_path(request.args.get("next")))


@screen("POST", "/sign-in/recovery", permission=AT_SECOND_FACTOR)
def post_recovery() -> Response:
    """Take the recovery code."""
    form = pages.read_form("code", "next")
    next_path = browser.next_path(form["next"])
    try:
        done = service.finish_with_recovery_code(browser.session(), form["code"], visitor=browser.visitor())
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("recovery.html", error, field="code", next_path=next_path)
    return browser.set_signed_in(pages.go(next_path), done)


@screen("POST", "/sign-in/passkey/options", permission=ANYONE)
def sign_in_options() -> Response:
    """What the script is to ask an authenticator."""
    asked = service.ask_to_sign_in(cookie=browser.own_cookie(), origin=browser.origin(), visitor=browser.visitor())
    return pages.options(asked)


@screen("POST", "/sign-in/passkey", permission=ANYONE)
def post_passkey() -> Response:
    """Take what the authenticator answered."""
    form = pages.read_form("answer", "next")
    next_path = browser.next_path(form["next"])
    try:
        done = service.sign_in_with_passkey(
            form["answer"],
            cookie=browser.own_cookie(),
            origin=browser.origin(),
            visitor=browser.visitor(),
            instead_of=g.session,
        )
    except (SignInRefusedError, TooManyAttemptsError) as error:
        return again("sign_in.html", error, next_path=next_path, email="")
    return browser.set_signed_in(pages.go(next_path), done)


@screen("POST", "/sign-out", permission=ANYONE)
def sign_out() -> Response:
    """End this session, whatever stage it is at."""
    if g.session is not None:
        service.sign_out(g.session, visitor=browser.visitor())
    return browser.drop_session(pages.go("/console/sign-in", note="signed-out"))
