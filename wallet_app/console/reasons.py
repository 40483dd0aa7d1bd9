"""Reason codes and the day's bounds: what operators may move, under which name, and from where on two must look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import admin_forms, browser, pages
from wallet_app.console.admin_forms import WrongFieldError, by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import BadFieldError, ReasonExistsError, ReasonInvalidError
from wallet_app.money import read_entered
from wallet_app.service import AssetView, DayBoundView, Limits, ReasonSettings

_CODE = re.compile("[A-Z][A-Z0-9_]{1,31}")
_OF_ALL = ("amount_max", "approval_above")
_SWITCHES = ("ticket_required", "note_required", "is_active")
_WHY = ("reason", "ticket")
_SETTINGS = ("name", "directions", *_OF_ALL, *_SWITCHES)
_BOUNDS = ("operator_day_max", "wallet_day_max")


@screen("GET", "/reasons", permission="reasons:manage")
def reasons() -> Response:
    """List them, and the day's bounds."""
    return pages.page(
        "reasons.html",
        reasons=service.list_reasons(),
        bounds=service.list_day_bounds(),
        assets={one.code: one for one in _assets()},
    )


@screen("GET", "/reasons/new", permission="reasons:manage", fresh=True)
def new_reason() -> Response:
    """Ask what it is for, and what it allows."""
    form = dict.fromkeys(("code", *_SETTINGS, *_WHY), "") | {"directions": "credit", "is_active": "on"}
    return pages.page("reason.html", **_context(None, form, _assets()))


@screen("POST", "/reasons", permission="reasons:manage", fresh=True)
def post_reason() -> Response:
    """Make it."""
    assets = _assets()
    form = pages.read_form("code", *_SETTINGS, *_of_assets(assets), *_WHY)
    code = form["code"].strip().upper()
    try:
        settings = _settings(form, assets)
        try:
            service.create_reason(code, settings, by=by(form), session=browser.session())
        except ReasonExistsError as error:
            if service.get_reason(code).settings != settings:  # Else it was made just before, by a second click.
                raise WrongFieldError(error.detail, about="code") from None
    except (BadFieldError, ReasonInvalidError) as error:
        return _refused(error, **_context(None, form, assets))
    return pages.go("/console/reasons", note="reason-made")


@screen("GET", "/reasons/<code>", permission="reasons:manage", fresh=True)
def reason(code: str) -> Response:
    """Show one, and ask what to change."""
    assets, found = _assets(), _find(code)
    return pages.page("reason.html", **_context(code, _filled_in(found, assets), assets))


@screen("POST", "/reasons/<code>", permission="reasons:manage", fresh=True)
def post_reason_change(code: str) -> Response:
    """Let it allow something else, or nothing any more."""
    assets = _assets()
    _find(code)
    form = pages.read_form(*_SETTINGS, *_of_assets(assets), *_WHY)
    try:
        service.change_reason(code, _settings(form, assets), by=by(form), session=browser.session())
    except (BadFieldError, ReasonInvalidError) as error:
        return _refused(error, **_context(code, form, assets))
    return pages.go("/console/reasons", note="reason-changed")


@screen("GET", "/reasons/bounds", permission="reasons:manage", fresh=True)
def day_bound() -> Response:
    """Ask for the bound of an asset, or, without one, of all that have none of their own."""
    asset = _asked_asset(admin_forms.filled_in("asset")["asset"])
    code = None if asset is None else asset.code
    found = next((one for one in service.list_day_bounds() if one.asset_code == code), None)
    form = dict.fromkeys((*_BOUNDS, *_WHY), "") | {"asset": code or ""}
    if found is not None:
        scale = 0 if asset is None else asset.scale
        form |= {name: admin_forms.plain(getattr(found, name), scale) for name in _BOUNDS}
    return pages.page("day_bound.html", form=form, asset=asset)


@screen("POST", "/reasons/bounds", permission="reasons:manage", fresh=True)
def post_day_bound() -> Response:
    """Let it hold from now on."""
    form = pages.read_form("asset", *_BOUNDS, *_WHY)
    asset = _asked_asset(form["asset"])
    scale = 0 if asset is None else asset.scale
    try:
        most = {name: _amount(form, name, scale, low=0) for name in _BOUNDS}
        bound = DayBoundView(None if asset is None else asset.code, **most)
        service.set_day_bound(bound, by=by(form), session=browser.session())
    except BadFieldError as error:
        return refused("day_bound.html", error, form=form, asset=asset)
    return pages.go("/console/reasons", note="bound-set")


def _settings(form: Mapping[str, str], assets: Sequence[AssetView]) -> ReasonSettings:
    """Return what the form asks for; raise WrongFieldError."""
    of_assets = {}
    for one in assets:
        names = {name: f"{name}.{one.code}" for name in _OF_ALL}
        if any(form[name].strip() for name in names.values()):
            of_assets[one.code] = _limits(form, one.scale, names)
    return ReasonSettings(
        name=form["name"].strip(),
        directions=form["directions"],
        limits=_limits(form, 0, {name: name for name in _OF_ALL}),
        of_assets=of_assets,
        **{name: bool(form[name]) for name in _SWITCHES},
    )


def _limits(form: Mapping[str, str], scale: int, names: Mapping[str, str]) -> Limits:
    return Limits(
        amount_max=_amount(form, names["amount_max"], scale, low=1),
        approval_above=_amount(form, names["approval_above"], scale, low=0),
    )


def _amount(form: Mapping[str, str], name: str, scale: int, *, low: int) -> int:
    try:
        return read_entered(form[name], scale, low=low)
    except ValueError as wrong:
        raise WrongFieldError(f"{wrong}.", about=name) from None


def _filled_in(settings: ReasonSettings, assets: Sequence[AssetView]) -> dict[str, str]:
    form = {"name": settings.name, "directions": settings.directions, **dict.fromkeys(_WHY, "")}
    form |= {name: str(getattr(settings.limits, name)) for name in _OF_ALL}
    form |= {name: "on" if getattr(settings, name) else "" for name in _SWITCHES}
    for one in assets:
        own = settings.of_assets.get(one.code)
        for name in _OF_ALL:
            form[f"{name}.{one.code}"] = "" if own is None else admin_forms.plain(getattr(own, name), one.scale)
    return form


def _context(code: str | None, form: Mapping[str, str], assets: Sequence[AssetView]) -> dict[str, Any]:
    return {"code": code, "form": form, "assets": assets}


def _refused(error: BadFieldError | ReasonInvalidError, **context: object) -> Response:
    told = WrongFieldError(error.detail, about=error.field) if isinstance(error, ReasonInvalidError) else error
    return refused("reason.html", told, **context)


def _of_assets(assets: Sequence[AssetView]) -> list[str]:
    return [f"{name}.{one.code}" for one in assets for name in _OF_ALL]


def _assets() -> list[AssetView]:
    """Return all assets."""
    found: list[AssetView] = []
    while page := service.list_assets(after_id=found[-1].asset_type_id if found else None, limit=service.PAGE_MAX):
        found += page[: service.PAGE_MAX]
        if len(page) <= service.PAGE_MAX:
            break
    return found


def _asked_asset(code: str) -> AssetView | None:
    if not code:
        return None
    found = next((one for one in _assets() if one.code == code), None)
    if found is None:
        raise NotFound
    return found


def _find(code: str) -> ReasonSettings:
    if _CODE.fullmatch(code) is None:
        raise NotFound
    return service.get_reason(code).settings
