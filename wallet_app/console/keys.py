"""API keys: who has one, what it allows, and how one is made, replaced and revoked."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Response, current_app, request
from werkzeug.exceptions import NotFound

from wallet_app import access, service
from wallet_app.config import current_settings
from wallet_app.console import admin_forms, browser, pages
from wallet_app.console.admin_forms import by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import (
    BadFieldError,
    ClientRevokedError,
    FormUsedError,
    KeyRevokedError,
    TooManyKeysError,
)
from wallet_app.service import Form, KeySettings, KeyView, NewKey

_ROWS = 50
_KEY_ID = re.compile("[a-z2-7]{12}")
_SCOPES = MappingProxyType(
    {f"scope.{name}": (name, about) for name, about in service.SCOPES.items() if name not in service.NOT_FOR_OPERATORS}
)
"""By the field's name; each scope has a field of its own."""
_NEW = ("client", *_SCOPES, "amount_max", "assets", "networks", "rate_limit", "days", "reason", "ticket")
_WHY = ("reason", "ticket")
_DAYS = MappingProxyType({"30": "30 days", "90": "90 days", "180": "180 days", "365": "A year", "none": "It does not"})
_DAYS_USUAL = "180"
_NONE = dict.fromkeys(_WHY, "")


@screen("GET", "/keys", permission="keys:manage")
def keys() -> Response:
    """List them, without those that work no more unless asked for."""
    form = admin_forms.filled_in("client", "revoked", "after")
    with_revoked = form["revoked"] == "on"
    found = service.list_key_page(
        client=form["client"] or None, with_revoked=with_revoked, after_id=form["after"] or None, limit=_ROWS
    )
    shown = found[:_ROWS]
    following = {**form, "after": shown[-1].key_id} if len(found) > _ROWS else None
    return pages.page(
        "keys.html",
        keys=shown,
        form=form,
        next_url=following and admin_forms.address_of("/console/keys", following),
        first_url=admin_forms.address_of("/console/keys", {**form, "after": ""}) if form["after"] else None,
        now=dt.datetime.now(dt.UTC),
    )


@screen("GET", "/keys/new", permission="keys:manage", fresh=True)
def new_key() -> Response:
    """Ask for whom, and what it is to allow."""
    form = admin_forms.filled_in(*_NEW)
    return pages.page("key_new.html", **_choices({**form, "days": form["days"] or _DAYS_USUAL}))


@screen("POST", "/keys/check", permission="keys:manage", fresh=True)
def check_key() -> Response:
    """Say what the key will allow."""
    form = pages.read_form(*_NEW)
    try:
        by(form)
        settings = service.preview_key(client=form["client"].strip(), settings=_settings(form))
    except (BadFieldError, ClientRevokedError, TooManyKeysError) as error:
        return refused("key_new.html", error, **_choices(form))
    return pages.page(
        "key_check.html",
        form=form,
        settings=settings,
        scopes=service.SCOPES,
        everybodys=current_settings().rate_limit_key,
        form_key=service.make_secret_form_key(),
        back=admin_forms.address_of("/console/keys/new", form),
    )


@screen("POST", "/keys", permission="keys:manage", fresh=True)
def post_key() -> Response:
    """Make it, and show its text: in this answer, because it is kept nowhere."""
    form = pages.read_form(*_NEW, "form_key")
    try:
        sent = Form(browser.session(), form["form_key"])
        made = access.gate_of(current_app).create_key(
            client=form["client"].strip(), settings=_settings(form), by=by(form), form=sent
        )
    except (BadFieldError, ClientRevokedError, TooManyKeysError, FormUsedError) as error:
        return refused("key_new.html", error, **_choices(form))
    return _made(made, replaces=None)


@screen("GET", "/keys/<key_id>", permission="keys:manage")
def key(key_id: str) -> Response:
    """Show one."""
    return pages.page("key.html", key=_find(key_id), **_words())


@screen("GET", "/keys/<key_id>/rotate", permission="keys:manage", fresh=True)
def key_rotate(key_id: str) -> Response:
    """Say what a second key means."""
    return pages.page("key_rotate.html", **_of_key(key_id, _NONE), form_key=service.make_secret_form_key())


@screen("POST", "/keys/<key_id>/rotate", permission="keys:manage", fresh=True)
def post_rotate(key_id: str) -> Response:
    """Make another key that allows the same, and show its text."""
    form = pages.read_form(*_WHY, "form_key")
    context = _of_key(key_id, form)
    try:
        sent = Form(browser.session(), form["form_key"])
        made = access.gate_of(current_app).rotate_key(key_id, by=by(form), form=sent)
    except (BadFieldError, ClientRevokedError, TooManyKeysError, KeyRevokedError, FormUsedError) as error:
        return refused("key_rotate.html", error, **context, form_key=service.make_secret_form_key())
    return _made(made, replaces=key_id)


@screen("GET", "/keys/<key_id>/revoke", permission="keys:manage", fresh=True)
def key_revoke(key_id: str) -> Response:
    """Ask why, and say what happens."""
    return pages.page("key_revoke.html", **_of_key(key_id, _NONE))


@screen("POST", "/keys/<key_id>/revoke", permission="keys:manage", fresh=True)
def post_revoke(key_id: str) -> Response:
    """Revoke it."""
    form = pages.read_form(*_WHY)
    context = _of_key(key_id, form)
    try:
        admin_forms.reason(form)
        if context["key"].revoked_at is None:
            access.gate_of(current_app).revoke_key(key_id, by=by(form), session=browser.session())
    except KeyRevokedError:
        pass  # By another one, in this moment: what was wanted is so.
    except BadFieldError as error:
        return refused("key_revoke.html", error, **context)
    return pages.go(f"/console/keys/{key_id}", note="key-revoked")


def _settings(form: Mapping[str, str]) -> KeySettings:
    """Return what the form asks for; raise WrongFieldError."""
    if form["days"] not in _DAYS:
        raise admin_forms.WrongFieldError("Choose how long the key is to work.", about="days")
    days = int(form["days"]) if form["days"] != "none" else None
    return KeySettings(
        scopes=[name for field, (name, _) in _SCOPES.items() if form[field]],
        amount_max=admin_forms.number(form, "amount_max", "The largest amount"),
        assets=_words_of(form["assets"].upper()),
        networks=_words_of(form["networks"]),
        rate_limit=form["rate_limit"].strip() or None,
        expires_at=None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days),
    )


def _words_of(value: str) -> list[str] | None:
    return value.replace(",", " ").split() or None


def _choices(form: Mapping[str, str]) -> dict[str, Any]:
    options = [(field, name, about) for field, (name, about) in _SCOPES.items()]
    return {
        "form": form,
        "scopes": options,
        "days": list(_DAYS.items()),
        "everybodys": current_settings().rate_limit_key,
        "keys_max": service.KEYS_MAX,
    }


def _words() -> dict[str, Any]:
    return {"scopes": service.SCOPES, "everybodys": current_settings().rate_limit_key, "now": dt.datetime.now(dt.UTC)}


def _of_key(key_id: str, form: Mapping[str, str]) -> dict[str, Any]:
    return {"key": _find(key_id), "form": form}


def _find(key_id: str) -> KeyView:
    if _KEY_ID.fullmatch(key_id) is None:
        raise NotFound
    return service.get_key(key_id)


def _made(made: NewKey, *, replaces: str | None) -> Response:
    return pages.page("key_made.html", made=made, replaces=replaces, host=request.host_url.rstrip("/"))
