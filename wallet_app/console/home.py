"""The page that a signed-in operator starts from."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.screens import ANYONE, screen


@screen("GET", "", permission="account:own")
def home() -> Response:
    """Greet the operator, and say what their role lets them do."""
    session = browser.session()
    granted = [permission for permission in service.PERMISSIONS if session.may(permission)]
    return pages.page("home.html", granted=granted, has_passkey=bool(service.list_passkeys(session)))


@screen("GET", "/", permission=ANYONE)
def home_with_a_slash() -> Response:
    """Lead whoever typed a slash too many to the home page."""
    return pages.go("/console")
