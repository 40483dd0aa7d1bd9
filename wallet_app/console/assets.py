"""Assets: which there are, how much of each is out and how long it lives, and how one is made and changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flask import Response, request
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import admin_forms, browser, pages
from wallet_app.console.admin_forms import WrongFieldError, by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import AssetExistsError, BadFieldError, ScaleFixedError
from wallet_app.fields import ID_MAX
from wallet_app.service import AssetFacts, CreditLife

_ROWS = 25
_CODE = re.compile("[A-Z][A-Z0-9_]{1,31}")
_LIFE = ("time_zone", "bonus_days", "paid_days")
_NEW = ("code", "name", "scale", *_LIFE, "reason", "ticket")
_CHANGE = ("name", "scale", *_LIFE, "reason", "ticket")
_MOST = {"scale_max": service.SCALE_MAX, "days_max": service.LIFE_DAYS_MAX}


@screen("GET", "/assets", permission="assets:manage")
def assets() -> Response:
    """List them."""
    after = admin_forms.filled_in("after")["after"]
    place = int(after) if after.isascii() and after.isdigit() and int(after) <= ID_MAX else None
    found = service.list_asset_facts(after_id=place, limit=_ROWS)
    shown = found[:_ROWS]
    return pages.page(
        "assets.html",
        assets=shown,
        counted_max=service.WALLETS_COUNTED_MAX,
        next_url=f"/console/assets?after={shown[-1].asset_type_id}" if len(found) > _ROWS else None,
        first_url=None if place is None else "/console/assets",
    )


@screen("GET", "/assets/new", permission="assets:manage", fresh=True)
def new_asset() -> Response:
    """Ask what it is to be called."""
    form = admin_forms.filled_in(*_NEW)
    usual = {"scale": "0", **_life_fields(CreditLife())}
    return pages.page("asset_new.html", form={**form, **{name: form[name] or usual[name] for name in usual}}, **_MOST)


@screen("POST", "/assets", permission="assets:manage", fresh=True)
def post_asset() -> Response:
    """Make it, with its SYSTEM wallets."""
    form = _read(_NEW, CreditLife())
    code = form["code"].strip().upper()
    try:
        service.create_asset(
            code=code,
            name=form["name"],
            scale=_scale(form),
            life=_life(form),
            by=by(form),
            session=browser.session(),
        )
    except (BadFieldError, AssetExistsError) as error:
        about = "code" if isinstance(error, AssetExistsError) else error.about
        told = WrongFieldError(error.detail, about=about)
        return refused("asset_new.html", told, form=form, **_MOST)
    return pages.go(f"/console/assets/{code}", note="asset-made")


@screen("GET", "/assets/<code>", permission="assets:manage", fresh=True)
def asset(code: str) -> Response:
    """Show one, and ask what to change."""
    found = find_asset(code)
    form = {"name": found.name, "scale": str(found.scale), **_life_fields(found.life), "reason": "", "ticket": ""}
    return _page(found, form)


@screen("POST", "/assets/<code>", permission="assets:manage", fresh=True)
def post_asset_change(code: str) -> Response:
    """Give it another name or scale, or its credit another life."""
    found = find_asset(code)
    form = _read(_CHANGE, found.life)
    try:
        service.change_asset(
            code,
            name=form["name"],
            scale=_scale(form),
            life=_life(form),
            by=by(form),
            session=browser.session(),
        )
    except (BadFieldError, ScaleFixedError) as error:
        about = "scale" if isinstance(error, ScaleFixedError) else error.about
        return _page(found, form, WrongFieldError(error.detail, about=about))
    return pages.go(f"/console/assets/{code}", note="asset-changed")


def _page(found: AssetFacts, form: Mapping[str, str], error: WrongFieldError | None = None) -> Response:
    context = {"asset": found, "form": form, "counted_max": service.WALLETS_COUNTED_MAX, **_MOST}
    return pages.page("asset.html", **context) if error is None else refused("asset.html", error, **context)


def _read(fields: Sequence[str], life: CreditLife) -> Mapping[str, str]:
    """Return the form. One that has no fields for how long credit lives, from a page before they were, leaves that."""
    form = pages.read_form(*fields)
    return form if "time_zone" in request.form else {**form, **_life_fields(life)}


def _life_fields(life: CreditLife) -> dict[str, str]:
    days = {"bonus_days": life.bonus_days, "paid_days": life.paid_days}
    return {"time_zone": life.time_zone, **{name: "" if value is None else str(value) for name, value in days.items()}}


def _life(form: Mapping[str, str]) -> CreditLife:
    """Return what is filled in; whether there is such a time zone, and who lives so long, the service asks."""
    return CreditLife(
        time_zone=form["time_zone"].strip(),
        bonus_days=admin_forms.number(form, "bonus_days", "The days of a bonus"),
        paid_days=admin_forms.number(form, "paid_days", "The days of paid credit"),
    )


def _scale(form: Mapping[str, str]) -> int:
    scale = admin_forms.number(form, "scale", "The scale")
    if scale is None:
        raise WrongFieldError(f"The scale must be a whole number from 0 to {service.SCALE_MAX}.", about="scale")
    return scale


def find_asset(code: str) -> AssetFacts:
    """Return the asset; raise NotFound for what is no code of any, AssetNotFoundError."""
    if _CODE.fullmatch(code) is None:
        raise NotFound
    return service.get_asset(code)
