"""An operator's passkeys: adding one, removing one."""

from __future__ import annotations

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.refusals import again
from wallet_app.console.screens import screen
from wallet_app.errors import PasskeyRefusedError
from wallet_app.fields import ID_MAX

_NAME_MAX = 60


@screen("GET", "/account/passkeys/new", permission="account:own", fresh=True)
def new_passkey() -> Response:
    """Ask what to call it."""
    return pages.page("new_passkey.html", name="")


@screen("POST", "/account/passkeys/options", permission="account:own", fresh=True)
def enrol_options() -> Response:
    """What the script is to ask an authenticator."""
    asked = service.ask_to_enrol(browser.session(), cookie=browser.own_cookie(), origin=browser.origin())
    return pages.options(asked)


@screen("POST", "/account/passkeys", permission="account:own", fresh=True)
def post_passkey_enrolment() -> Response:
    """Keep the passkey that the authenticator made."""
    form = pages.read_form("name", "answer")
    name = "".join(letter for letter in form["name"] if letter.isprintable()).strip()[:_NAME_MAX] or "Passkey"
    try:
        service.enrol_passkey(
            browser.session(),
            form["answer"],
            name=name,
            cookie=browser.own_cookie(),
            origin=browser.origin(),
            visitor=browser.visitor(),
        )
    except PasskeyRefusedError as error:
        return again("new_passkey.html", error, name=name)
    return pages.go("/console/account", note="passkey-added")


@screen("POST", "/account/passkeys/<int:passkey_id>/remove", permission="account:own", fresh=True)
def remove_passkey(passkey_id: int) -> Response:
    """Remove it."""
    if passkey_id > ID_MAX:
        raise NotFound
    service.remove_passkey(browser.session(), passkey_id, visitor=browser.visitor())
    return pages.go("/console/account", note="passkey-removed")
