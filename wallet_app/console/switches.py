"""Stop switches: what is stopped and was, and how a user, an asset or everything is stopped and let go again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import admin_forms, browser, exports, pages
from wallet_app.console.admin_forms import WrongFieldError, by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import AssetNotFoundError, BadFieldError, EndPassedError, UserNotFoundError
from wallet_app.fields import ID_MAX
from wallet_app.service import SwitchSettings, SwitchView, Target
from wallet_app.state_fields import read_side

_ROWS = 25
_NEW = ("target", "user", "asset", "side", "until_date", "until_time", "reason", "ticket")
_WHY = ("reason", "ticket")
_FIELDS: Mapping[type[Exception], str] = {UserNotFoundError: "user", AssetNotFoundError: "asset"}
_COLUMNS = tuple(field.name for field in fields(SwitchView))
_WORD = "everything"
"""What is typed to stop everything, so that nobody does by a slip of the hand."""


@screen("GET", "/switches", permission="switches:read")
def switches() -> Response:
    """List what is stopped, and what was."""
    before = admin_forms.filled_in("before")["before"]
    place = int(before) if before.isascii() and before.isdigit() and int(before) <= ID_MAX else None
    past = service.list_past_switches(before_id=place, limit=_ROWS)
    shown = past[:_ROWS]
    return pages.page(
        "switches.html",
        live=service.list_switches()[: service.PAGE_MAX],
        past=shown,
        next_url=f"/console/switches?before={shown[-1].switch_id}#past" if len(past) > _ROWS else None,
        first_url=None if place is None else "/console/switches#past",
    )


@screen("GET", f"/switches.<{exports.FORMS}:form>", permission="reports:export")
def switches_file(form: str) -> Response:
    """All that were ever set, in that order, as a file."""
    rows = ([getattr(one, name) for name in _COLUMNS] for one in _all())
    return exports.export(form, "switches", _COLUMNS, rows)


@screen("GET", "/switches/new", permission="switches:user")
def new_switch() -> Response:
    """Ask what to stop, and why."""
    form = admin_forms.filled_in(*_NEW)
    return pages.page("switch_new.html", **_choices({**form, "side": form["side"] or "both"}))


@screen("POST", "/switches/check", permission="switches:user")
def check_switch() -> Response:
    """Say what will be stopped."""
    form = pages.read_form(*_NEW)
    return _asked(form, None)


@screen("POST", "/switches", permission="switches:user")
def post_switch() -> Response:
    """Stop it."""
    form = pages.read_form(*_NEW, "word")
    try:
        settings = _settings(form)
        if settings.target == "everything" and form["word"].strip().lower() != _WORD:
            return _asked(form, WrongFieldError(f"Type the word {_WORD} to stop everything.", about="word"))
        service.set_switch(settings, by=by(form), session=browser.session())
    except (BadFieldError, EndPassedError, UserNotFoundError, AssetNotFoundError) as error:
        return _again(form, error)
    return pages.go("/console/switches", note="switch-set")


@screen("GET", "/switches/<int:switch_id>/lift", permission="switches:user", fresh=True)
def switch_lift(switch_id: int) -> Response:
    """Ask why, and say what goes on then."""
    return pages.page("switch_lift.html", switch=_find(switch_id), form=dict.fromkeys(_WHY, ""))


@screen("POST", "/switches/<int:switch_id>/lift", permission="switches:user", fresh=True)
def post_lift(switch_id: int) -> Response:
    """Let it go again."""
    found, form = _find(switch_id), pages.read_form(*_WHY)
    try:
        why = admin_forms.reason(form)
        service.lift_switch(switch_id, reason=why, by=by(form), session=browser.session())
    except BadFieldError as error:
        return refused("switch_lift.html", error, switch=found, form=form)
    return pages.go("/console/switches", note="switch-lifted")


def _asked(form: Mapping[str, str], error: WrongFieldError | None) -> Response:
    """Return the page that says what will be stopped, and with an error why it was not yet."""
    try:
        settings = _settings(form)
        service.require_may_switch(browser.session(), settings.target, by=by(form))
        view, is_new = service.preview_switch(settings, by=by(form))
        user = None if settings.user_id is None else service.get_user(settings.user_id)
    except (BadFieldError, EndPassedError, UserNotFoundError, AssetNotFoundError) as problem:
        return _again(form, problem)
    context = {
        "form": {**form, "word": ""},
        "switch": view,
        "is_new": is_new,
        "user": user,
        "word": _WORD if settings.target == "everything" else None,
        "back": admin_forms.address_of("/console/switches/new", {**form, "word": ""}),
    }
    return (
        pages.page("switch_check.html", **context) if error is None else refused("switch_check.html", error, **context)
    )


def _again(form: Mapping[str, str], error: Any) -> Response:
    about = getattr(error, "about", None) or _FIELDS.get(type(error), "until_date")
    return refused("switch_new.html", WrongFieldError(error.detail, about=about), **_choices(form))


def _choices(form: Mapping[str, str]) -> dict[str, Any]:
    may_all = browser.session().may("switches:manage")
    targets = [("user", "A user", "All their wallets")]
    if may_all:
        targets += [("asset", "An asset", "All wallets of it"), ("everything", "Everything", "All wallets there are")]
    return {"form": form, "targets": targets, "may_all": may_all}


def _settings(form: Mapping[str, str]) -> SwitchSettings:
    """Return what the form asks for; raise WrongFieldError."""
    if form["target"] not in service.SWITCH_TARGETS:
        raise WrongFieldError("Choose what to stop.", about="target")
    target = cast(Target, form["target"])
    try:
        side = read_side(form["side"])
    except ValueError:
        raise WrongFieldError("Choose which side to stop.", about="side") from None
    user_id = admin_forms.number(form, "user", "The user's id") if target == "user" else None
    if target == "user" and (user_id is None or not 1 <= user_id <= ID_MAX):
        raise WrongFieldError("Enter the id of the user to stop.", about="user")
    asset = form["asset"].strip().upper() or None
    if target == "asset" and asset is None:
        raise WrongFieldError("Enter the code of the asset to stop.", about="asset")
    return SwitchSettings(
        target=target,
        side=side,
        reason=admin_forms.reason(form),
        user_id=user_id,
        asset_code=asset if target == "asset" else None,
        until=_until(form),
    )


def _until(form: Mapping[str, str]) -> dt.datetime | None:
    """Return the instant, in UTC, None for no end; raise WrongFieldError."""
    if not form["until_date"].strip():
        if form["until_time"].strip():
            raise WrongFieldError("Enter a day for that time, or neither.", about="until_date")
        return None
    try:
        day = dt.date.fromisoformat(form["until_date"].strip())
        time = dt.time.fromisoformat(form["until_time"].strip() or "00:00")
    except ValueError:
        raise WrongFieldError("Enter a day like 2027-01-31, and a time like 18:00.", about="until_date") from None
    if not 2000 <= day.year <= 2999 or time.tzinfo is not None:
        raise WrongFieldError("Enter a day in the years 2000 to 2999.", about="until_date")
    return dt.datetime.combine(day, time, tzinfo=dt.UTC)


def _all() -> Iterator[SwitchView]:
    after = None
    while page := service.list_switches(with_lifted=True, after_id=after)[: service.PAGE_MAX]:
        yield from page
        after = page[-1].switch_id


def _find(switch_id: int) -> SwitchView:
    if switch_id > ID_MAX:
        raise NotFound
    return service.get_switch(switch_id)
