"""Limits: how much of a wallet's are used, asking for higher ones, and setting them for an asset or one wallet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import acts, admin_forms, browser, entering, navigation, pages, phrases, subjects
from wallet_app.console.acts import Act, Entries, Subject
from wallet_app.console.admin_forms import WrongFieldError, by, refused
from wallet_app.console.assets import find_asset
from wallet_app.console.screens import screen
from wallet_app.console.weighed import Changes
from wallet_app.errors import BadFieldError, SystemWalletError, WalletNotFoundError
from wallet_app.fields import ID_MAX
from wallet_app.money import read_entered
from wallet_app.service import (
    LIMIT_FIGURES,
    AssetFacts,
    LimitRaiseEndOperation,
    LimitRaiseOperation,
    LimitSetting,
    LimitsView,
    LimitTarget,
    Operation,
    WalletLimits,
    Weighed,
)

_ROWS = 25
_TARGET = ("for", "wallet")
_WHY = ("reason", "ticket")


class Line(NamedTuple):
    """A limit with what is used of it; `used` is None where nothing adds up. `frees` is free again at `frees_at`."""

    name: str
    label: str
    bound: int
    used: int | None
    left: int
    frees: int
    frees_at: dt.datetime | None
    whose: str


# --- on a wallet's page ---


def shown(wallet_id: int) -> dict[str, Any]:
    """Return what a user wallet's page shows of its limits; nothing for a wallet without any."""
    view = service.find_limits(wallet_id)
    if view is None:
        return {"limits": None}
    path = f"/console/wallets/{wallet_id}/limits"
    return {
        "limits": view,
        "limit_lines": lines(view),
        "raise_url": path if navigation.may_open(browser.session(), path) else None,
        "end_url": f"{path}/end" if navigation.may_open(browser.session(), f"{path}/end") else None,
    }


def lines(view: LimitsView) -> list[Line]:
    """Return a line for each limit that the wallet has."""
    windows = {"day": view.day, "rolling": view.rolling}
    found = []
    for name, bound in zip(LIMIT_FIGURES, view.limits.now, strict=True):
        if bound is None:
            continue
        window = windows.get(name)
        used = window.used if window else view.total if name == "balance" else None
        found.append(
            Line(
                name=name,
                label=phrases.LIMITS[name],
                bound=bound,
                used=used,
                left=max(0, bound - (used or 0)),
                frees=window.frees if window else 0,
                frees_at=window.frees_at if window else None,
                whose=phrases.LIMIT_LEVELS[view.set_for[name]],
            )
        )
    return found


@screen("GET", "/wallets/<int:wallet_id>/limits", permission="limits:request")
def raise_form(wallet_id: int) -> Response:
    """Ask which limits are to be higher, how high, until when, and why."""
    return acts.enter(_RAISE, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/limits", permission="limits:request")
def raise_limits(wallet_id: int) -> Response:
    """Show what would hold then, then ask for it."""
    return acts.take(_RAISE, subjects.wallet(wallet_id))


@screen("GET", "/wallets/<int:wallet_id>/limits/end", permission="limits:request")
def end_raise_form(wallet_id: int) -> Response:
    """Ask why higher limits are to end before their time."""
    return acts.enter(_END, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/limits/end", permission="limits:request")
def end_raise(wallet_id: int) -> Response:
    """Show what holds then, then do it: it allows nothing more, so one person may."""
    return acts.take(_END, subjects.wallet(wallet_id))


def _read(subject: Subject, entries: Entries) -> Operation:
    amount = entering.amount_if_given(subject.wallet.asset_scale)
    figures = {name: entries.read(name, amount) for name in LIMIT_FIGURES}
    until = entries.read("until", _until)
    reason = entries.read("reason", entering.required_text("a reason"))
    said = acts.read_said(entries)
    entries.require_good()
    return LimitRaiseOperation(wallet_id=subject.wallet.wallet_id, until=until, reason=reason, **figures, **said)


def _until(value: str) -> dt.datetime:
    found = entering.instant_if_given(value)
    if found is None:
        raise ValueError(f"Enter until when, at most {service.RAISE_DAYS_MAX} days from now")
    return found


def _facts(_: Subject, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(LimitRaiseOperation, operation)
    return [("It ends", phrases.of_end(asked.until)), *acts.facts_of(asked)]


def _changes(_: Subject, operation: Operation, __: Weighed) -> Changes:
    return changes(cast(LimitRaiseOperation, operation))


def changes(asked: LimitRaiseOperation) -> Changes:
    """Return the limits as they are now, and as the raise would make them."""
    view = service.get_limits(asked.wallet_id)
    then = view.limits.raised_to(asked.figures).now
    return _told(view, view.limits.now), _told(view, then)


def _told(view: LimitsView, limits: WalletLimits) -> dict[str, str]:
    pairs = zip(LIMIT_FIGURES, limits, strict=True)
    return {phrases.LIMITS[name]: phrases.of_limit(figure, view) for name, figure in pairs if figure is not None}


def _context(subject: Subject) -> Mapping[str, object]:
    view = service.get_limits(subject.wallet.wallet_id)
    return {
        "limits": view,
        "limit_lines": lines(view),
        "days_max": service.RAISE_DAYS_MAX,
        "now": view.as_of,
        "example": entering.example(view.asset_scale),
    }


_RAISE = Act(
    name="limits",
    title=lambda subject: f"Raise limits of wallet {subject.wallet.wallet_id}",
    template="limits_raise.html",
    fields=(*LIMIT_FIGURES, "until", "reason", "note", "ticket"),
    read=_read,
    button=lambda subject, _: f"Raise limits of wallet {subject.wallet.wallet_id}",
    facts=_facts,
    changes=_changes,
    context=_context,
    field_of={"end_passed": "until", "raise_too_long": "until"},
)


def _read_end(subject: Subject, entries: Entries) -> Operation:
    reason = entries.read("reason", entering.required_text("a reason"))
    said = acts.read_said(entries)
    entries.require_good()
    return LimitRaiseEndOperation(wallet_id=subject.wallet.wallet_id, reason=reason, **said)


def _changes_of_end(subject: Subject, _: Operation, __: Weighed) -> Changes:
    view = service.get_limits(subject.wallet.wallet_id)
    return _told(view, view.limits.now), _told(view, view.limits.base)


_END = Act(
    name="limits-end",
    title=lambda subject: f"End raised limits of wallet {subject.wallet.wallet_id}",
    template="limits_end.html",
    fields=("reason", "note", "ticket"),
    read=_read_end,
    button=lambda subject, _: f"End raised limits of wallet {subject.wallet.wallet_id}",
    facts=lambda _, operation: acts.facts_of(operation),
    changes=_changes_of_end,
    context=_context,
)


# --- as the administration sets them ---


@screen("GET", "/assets/<code>/limits", permission="assets:manage")
def asset_limits(code: str) -> Response:
    """List what is set for the asset, and for single wallets of it."""
    asset = find_asset(code)
    after = admin_forms.filled_in("after")["after"]
    place = int(after) if after.isascii() and after.isdigit() and int(after) <= ID_MAX else None
    found = service.list_limit_settings(code, after_wallet_id=place, limit=_ROWS)
    wide = [one for one in found if one.wallet_id is None]
    own = [one for one in found if one.wallet_id is not None]
    path = f"/console/assets/{code}/limits"
    return pages.page(
        "asset_limits.html",
        asset=asset,
        wide=[(level, phrases.LIMIT_LEVELS[level], _of_level(wide, level)) for level in ("asset", "user_type")],
        own=own[:_ROWS],
        labels=phrases.LIMITS,
        next_url=f"{path}?after={own[_ROWS - 1].wallet_id}" if len(own) > _ROWS else None,
        first_url=None if place is None else path,
    )


@screen("GET", "/assets/<code>/limits/set", permission="assets:manage", fresh=True)
def limits_form(code: str) -> Response:
    """Ask for the limits of all wallets, of those of a type of users, or of one."""
    asset, given = find_asset(code), admin_forms.filled_in(*_TARGET)
    try:
        target = _target(asset, given)
        found = service.get_limit_setting(target)
    except (BadFieldError, WalletNotFoundError, SystemWalletError) as error:
        return refused("limits_of_wallet.html", _about_wallet(error, asset), asset=asset, form=given)
    form = {**given, **dict.fromkeys(_WHY, "")}
    figures = WalletLimits() if found is None else found.figures
    for name, figure in zip(LIMIT_FIGURES, figures, strict=True):
        form[name] = "" if figure is None else admin_forms.plain(figure, asset.scale)
    return pages.page("limits_set.html", **_set_context(asset, target, form))


@screen("POST", "/assets/<code>/limits/set", permission="assets:manage", fresh=True)
def post_limits(code: str) -> Response:
    """Let them hold from now on."""
    asset, form = find_asset(code), pages.read_form(*_TARGET, *LIMIT_FIGURES, *_WHY)
    try:
        target = _target(asset, form)
        service.get_limit_setting(target)
    except (BadFieldError, WalletNotFoundError, SystemWalletError) as error:
        return refused("limits_of_wallet.html", _about_wallet(error, asset), asset=asset, form=form)
    try:
        figures = WalletLimits(**{name: _figure(form, name, asset.scale) for name in LIMIT_FIGURES})
        service.set_limits(target, figures, by=by(form), session=browser.session())
    except BadFieldError as error:
        return refused("limits_set.html", error, **_set_context(asset, target, form))
    return pages.go(f"/console/assets/{code}/limits", note="limits-set")


def _of_level(found: Sequence[LimitSetting], level: str) -> LimitSetting | None:
    return next((one for one in found if one.level == level), None)


def _target(asset: AssetFacts, given: Mapping[str, str]) -> LimitTarget:
    """Return for what limits are to be set; raise WrongFieldError for a wallet's number that is none."""
    if given["for"] == "asset":
        return LimitTarget(asset_code=asset.code)
    if given["for"] == "user_type":
        return LimitTarget(asset_code=asset.code, user_type=service.USER_TYPES[0])
    if given["for"] != "wallet":
        raise NotFound
    try:
        return LimitTarget(asset_code=asset.code, wallet_id=entering.wallet_id(given["wallet"]))
    except ValueError as wrong:
        raise WrongFieldError(f"{wrong}.", about="wallet") from None


def _about_wallet(error: BadFieldError | WalletNotFoundError | SystemWalletError, asset: AssetFacts) -> WrongFieldError:
    if isinstance(error, WalletNotFoundError):
        return WrongFieldError(f"There is no such wallet of {asset.code}.", about="wallet")
    return WrongFieldError(error.detail, about="wallet")


def _set_context(asset: AssetFacts, target: LimitTarget, form: Mapping[str, str]) -> dict[str, Any]:
    whose = f"Wallet {target.wallet_id}" if target.wallet_id is not None else phrases.LIMIT_LEVELS[target.level]
    return {"asset": asset, "form": form, "whose": whose, "labels": phrases.LIMITS, "hints": phrases.LIMIT_HINTS}


def _figure(form: Mapping[str, str], name: str, scale: int) -> int | None:
    if not form[name].strip():
        return None
    try:
        return read_entered(form[name], scale, low=0)
    except ValueError as wrong:
        raise WrongFieldError(f"{wrong}.", about=name) from None
