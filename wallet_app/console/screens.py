"""The declaration of each screen: its route, and who may open it, said once. A route without that is refused at import.

Before a screen is shown it is settled here who asks, that a form came from one of our own pages, and that the operator
may. Nothing else of the console decides that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from wallet_app import access, service
from wallet_app.console import browser
from wallet_app.errors import NotSignedInError

PREFIX = "/console"

ANYONE = "anyone"
"""Who is not signed in may open it."""
AT_SECOND_FACTOR = "at the second factor"
"""Who gave the right password, and not yet a second factor."""
AT_SET_UP = "at set-up"
"""Who showed a set-up code, and has not connected an authenticator app yet."""

STAGES = {AT_SECOND_FACTOR: "second_factor", AT_SET_UP: "set_up"}
_READING = {"GET", "HEAD", "OPTIONS"}

View = Callable[..., ResponseReturnValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A route with what it asks for: `permission` of the role or the stage, and whether a fresh proof.

    Its form may have a file where `upload_bytes_max` says how large it may be as a whole. With `keeps_entries` what was
    entered comes back after a sign-in that had to come first: there is no secret in it.
    """

    method: str
    path: str
    endpoint: str
    permission: str
    fresh: bool
    upload_bytes_max: int | None = None
    keeps_entries: bool = False


SCREENS: dict[str, Screen] = {}
"""By endpoint, as Flask names it."""


class _Console(Blueprint):
    """Takes routes from `screen` alone."""

    def add_url_rule(self, rule: str, *args: Any, declared: Screen | None = None, **options: Any) -> None:
        if declared is None:
            raise TypeError(f"{rule} says nothing of who may open it: declare it with @screen(..., permission=...).")
        super().add_url_rule(rule, *args, **options)


blueprint = _Console("console", __name__, url_prefix=PREFIX)


def screen(
    method: str,
    path: str,
    *,
    permission: str,
    fresh: bool = False,
    upload_bytes_max: int | None = None,
    keeps_entries: bool = False,
) -> Callable[[View], View]:
    """Register the view under the path, for operators whose role has the permission, or ANYONE, AT_SECOND_FACTOR, ...

    `fresh` asks for a proof of who they are that is at most five minutes old. With `upload_bytes_max` its form may have
    a file, and be that large. `keeps_entries` as for a Screen; its form is at the same path.
    """
    if permission not in {ANYONE, *STAGES, *service.PERMISSIONS}:
        raise ValueError(f"{path}: there is no permission {permission!r}")

    def register(view: View) -> View:
        endpoint = f"{blueprint.name}.{view.__name__}"
        if endpoint in SCREENS:
            raise ValueError(f"{path}: {endpoint} is declared twice")
        declared = Screen(
            method=method,
            path=PREFIX + path,
            endpoint=endpoint,
            permission=permission,
            fresh=fresh,
            upload_bytes_max=upload_bytes_max,
            keeps_entries=keeps_entries,
        )
        SCREENS[endpoint] = declared
        access.declare(endpoint, access.GUARDS_ITSELF)
        # No row has the number 0, and what is asked for one must not be told as wrong input.
        rule = path.replace("<int:", "<int(min=1):")
        blueprint.add_url_rule(rule, view_func=view, methods=[method], declared=declared)
        return view

    return register


@blueprint.before_request
def _admit() -> None:
    declared = SCREENS[request.endpoint or ""]
    g.cookie, g.session = browser.read_cookie(), None
    try:
        if request.method not in _READING and declared.upload_bytes_max is None:
            is_for_signing_in = declared.permission in {ANYONE, *STAGES}
            browser.require_own_form(g.cookie, may_be_earlier=is_for_signing_in)
        g.session = None if g.cookie is None else service.find_session(g.cookie)
    finally:
        # Counted in any case, and for the operator if one asks: their address may be that of a whole office.
        access.count(service.ANONYMOUS if g.session is None else g.session.caller)
    if g.session is not None:
        g.actor = g.session.actor
    if declared.permission == ANYONE:
        return
    if declared.permission in STAGES:
        if g.session is None or g.session.stage != STAGES[declared.permission]:
            raise NotSignedInError
        return
    if declared.upload_bytes_max is not None and request.method not in _READING:
        _admit_upload(declared.permission, declared.upload_bytes_max)
    service.require_permission(g.session, declared.permission, visitor=browser.visitor(), fresh=declared.fresh)
    # What everybody is to see on every page; a look at an index that is mostly empty.
    g.stops = service.list_stops()


def _admit_upload(permission: str, bytes_max: int) -> None:
    """Settle that a form which may have a file came from one of our own pages; a file is read of who may send one.

    Of anybody else no more is read than of any other form, and nothing of a file.
    """
    browser.require_own_page()
    may_send = g.session is not None and g.session.may(permission)
    if may_send or not browser.is_upload():
        browser.require_own_form(g.cookie, upload_bytes_max=bytes_max if may_send else None)
