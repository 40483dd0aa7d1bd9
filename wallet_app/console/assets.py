"""Assets: which there are and how much of each is out, and how one is made and changed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import admin_forms, browser, pages
from wallet_app.console.admin_forms import WrongFieldError, by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import AssetExistsError, BadFieldError, ScaleFixedError
from wallet_app.fields import ID_MAX
from wallet_app.service import AssetFacts

_ROWS = 25
_CODE = re.compile("[A-Z][A-Z0-9_]{1,31}")
_NEW = ("code", "name", "scale", "reason", "ticket")
_CHANGE = ("name", "scale", "reason", "ticket")


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
    return pages.page("asset_new.html", form={**form, "scale": form["scale"] or "0"}, scale_max=service.SCALE_MAX)


@screen("POST", "/assets", permission="assets:manage", fresh=True)
def post_asset() -> Response:
    """Make it, with its SYSTEM wallets."""
    form = pages.read_form(*_NEW)
    code = form["code"].strip().upper()
    try:
        service.create_asset(code=code, name=form["name"], scale=_scale(form), by=by(form), session=browser.session())
    except (BadFieldError, AssetExistsError) as error:
        about = "code" if isinstance(error, AssetExistsError) else error.about
        told = WrongFieldError(error.detail, about=about)
        return refused("asset_new.html", told, form=form, scale_max=service.SCALE_MAX)
    return pages.go(f"/console/assets/{code}", note="asset-made")


@screen("GET", "/assets/<code>", permission="assets:manage", fresh=True)
def asset(code: str) -> Response:
    """Show one, and ask what to change."""
    found = _find(code)
    return _page(found, {"name": found.name, "scale": str(found.scale), "reason": "", "ticket": ""})


@screen("POST", "/assets/<code>", permission="assets:manage", fresh=True)
def post_asset_change(code: str) -> Response:
    """Give it another name, or scale."""
    found, form = _find(code), pages.read_form(*_CHANGE)
    try:
        service.change_asset(code, name=form["name"], scale=_scale(form), by=by(form), session=browser.session())
    except (BadFieldError, ScaleFixedError) as error:
        about = "scale" if isinstance(error, ScaleFixedError) else error.about
        return _page(found, form, WrongFieldError(error.detail, about=about))
    return pages.go(f"/console/assets/{code}", note="asset-changed")


def _page(found: AssetFacts, form: Mapping[str, str], error: WrongFieldError | None = None) -> Response:
    context = {
        "asset": found,
        "form": form,
        "scale_max": service.SCALE_MAX,
        "counted_max": service.WALLETS_COUNTED_MAX,
    }
    return pages.page("asset.html", **context) if error is None else refused("asset.html", error, **context)


def _scale(form: Mapping[str, str]) -> int:
    scale = admin_forms.number(form, "scale", "The scale")
    if scale is None:
        raise WrongFieldError(f"The scale must be a whole number from 0 to {service.SCALE_MAX}.", about="scale")
    return scale


def _find(code: str) -> AssetFacts:
    if _CODE.fullmatch(code) is None:
        raise NotFound
    return service.get_asset(code)
