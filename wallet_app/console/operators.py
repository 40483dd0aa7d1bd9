"""Operators: who there is, what each may do, and how they come, change and go."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import admin_forms, browser, pages
from wallet_app.console.admin_forms import by, refused
from wallet_app.console.screens import screen
from wallet_app.errors import BadFieldError, FormUsedError, OperatorChangedError, OperatorExistsError
from wallet_app.fields import ID_MAX
from wallet_app.service import Form, OperatorView

_NEW = ("email", "name", "role", "ticket")
_ROLE = ("role", "reason", "ticket")
_WHY = ("reason", "ticket")
_NONE = dict.fromkeys(("role", *_WHY), "")


@screen("GET", "/operators", permission="operators:manage")
def operators() -> Response:
    """List them."""
    return pages.page("operators.html", operators=service.list_operators())


@screen("GET", "/operators/roles", permission="operators:manage")
def operator_roles() -> Response:
    """Show what each role may do, and who has it."""
    return pages.page("operator_roles.html", roles=service.ROLES, operators=service.list_operators())


@screen("GET", "/operators/new", permission="operators:manage", fresh=True)
def new_operator() -> Response:
    """Ask who it is, and for the role."""
    return pages.page("operator_new.html", form=admin_forms.filled_in(*_NEW), roles=service.ROLES)


@screen("POST", "/operators/check", permission="operators:manage", fresh=True)
def check_operator() -> Response:
    """Say what the new operator will be able to do."""
    form = dict(pages.read_form(*_NEW))
    try:
        by(form)
        form["email"], form["name"] = service.preview_operator(
            email=form["email"], name=form["name"], role=form["role"]
        )
    except (BadFieldError, OperatorExistsError) as error:
        return refused("operator_new.html", error, form=form, roles=service.ROLES)
    return pages.page(
        "operator_check.html",
        form=form,
        granted=_granted(form["role"]),
        form_key=service.make_secret_form_key(),
        back=admin_forms.address_of("/console/operators/new", form),
    )


@screen("POST", "/operators", permission="operators:manage", fresh=True)
def post_operator() -> Response:
    """Make them, and show the set-up code: in this answer, because it is kept nowhere."""
    form = pages.read_form(*_NEW, "form_key")
    try:
        sent = Form(browser.session(), form["form_key"])
        code = service.create_operator(
            email=form["email"], name=form["name"], role=form["role"], by=by(form), form=sent
        )
    except (BadFieldError, OperatorExistsError, FormUsedError) as error:
        return refused("operator_new.html", error, form=form, roles=service.ROLES)
    return _code_page(code, form["email"])


@screen("GET", "/operators/<int:operator_id>", permission="operators:manage")
def operator(operator_id: int) -> Response:
    """Show one."""
    found = _find(operator_id)
    return pages.page("operator.html", operator=found, granted=_granted(found.role))


@screen("GET", "/operators/<int:operator_id>/role", permission="operators:manage", fresh=True)
def operator_role(operator_id: int) -> Response:
    """Ask for another role."""
    form = admin_forms.filled_in(*_ROLE)
    return pages.page("operator_role.html", operator=_find(operator_id), form=form, roles=service.ROLES)


@screen("POST", "/operators/<int:operator_id>/role/check", permission="operators:manage", fresh=True)
def check_role(operator_id: int) -> Response:
    """Say what they may do then, and may not any more."""
    found, form = _find(operator_id), pages.read_form(*_ROLE)
    try:
        by(form)
        admin_forms.reason(form)
        _require_another_role(found, form["role"])
    except BadFieldError as error:
        return refused("operator_role.html", error, operator=found, form=form, roles=service.ROLES)
    before, after = service.ROLES[found.role], service.ROLES[form["role"]]
    return pages.page(
        "operator_role_check.html",
        operator=found,
        form=form,
        gained=[name for name in service.PERMISSIONS if name in after - before],
        lost=[name for name in service.PERMISSIONS if name in before - after],
        back=admin_forms.address_of(f"/console/operators/{operator_id}/role", form),
    )


@screen("POST", "/operators/<int:operator_id>/role", permission="operators:manage", fresh=True)
def post_role(operator_id: int) -> Response:
    """Give them the role."""
    found, form = _find(operator_id), pages.read_form(*_ROLE)
    try:
        admin_forms.reason(form)
        if found.role != form["role"]:  # Else it was done just before, by a second click.
            service.change_role(found.email, form["role"], by=by(form), session=browser.session())
    except BadFieldError as error:
        return refused("operator_role.html", error, operator=found, form=form, roles=service.ROLES)
    return pages.go(f"/console/operators/{operator_id}", note="operator-role")


@screen("GET", "/operators/<int:operator_id>/disable", permission="operators:manage", fresh=True)
def operator_disable(operator_id: int) -> Response:
    """Ask why, and say what happens."""
    return pages.page("operator_disable.html", operator=_find(operator_id), form=_NONE)


@screen("POST", "/operators/<int:operator_id>/disable", permission="operators:manage", fresh=True)
def post_disable(operator_id: int) -> Response:
    """Keep them out."""
    found, form = _find(operator_id), pages.read_form(*_WHY)
    try:
        admin_forms.reason(form)
        service.disable_operator(found.email, by=by(form), session=browser.session())
    except BadFieldError as error:
        return refused("operator_disable.html", error, operator=found, form=form)
    return pages.go(f"/console/operators/{operator_id}", note="operator-disabled")


@screen("GET", "/operators/<int:operator_id>/reset", permission="operators:manage", fresh=True)
def operator_reset(operator_id: int) -> Response:
    """Ask why, and say what happens."""
    return pages.page("operator_reset.html", **_reset(_find(operator_id), _NONE))


@screen("POST", "/operators/<int:operator_id>/reset", permission="operators:manage", fresh=True)
def post_reset(operator_id: int) -> Response:
    """Void all that they sign in with, and show a set-up code: in this answer, because it is kept nowhere."""
    found, form = _find(operator_id), pages.read_form(*_WHY, "seen", "form_key")
    try:
        admin_forms.reason(form)
        sent = Form(browser.session(), form["form_key"])
        seen = admin_forms.number(form, "seen", "What you saw")
        code = service.reset_operator(found.email, by=by(form), form=sent, seen=seen or 0)
    except (BadFieldError, OperatorChangedError, FormUsedError) as error:
        return refused("operator_reset.html", error, **_reset(found, form))
    return _code_page(code, found.email)


def _code_page(code: str, email: str) -> Response:
    return pages.page("operator_code.html", code=code, email=email, origin=browser.origin(), hours=service.SET_UP_HOURS)


def _reset(found: OperatorView, form: Any) -> dict[str, Any]:
    return {"operator": found, "form": form, "form_key": service.make_secret_form_key()}


def _find(operator_id: int) -> OperatorView:
    if operator_id > ID_MAX:
        raise NotFound
    return service.get_operator(operator_id)


def _granted(role: str) -> list[str]:
    return [name for name in service.PERMISSIONS if name in service.ROLES[role]]


def _require_another_role(found: OperatorView, role: str) -> None:
    if role not in service.ROLES or role == found.role:
        raise admin_forms.WrongFieldError("Choose another role than the one that they have.", about="role")
