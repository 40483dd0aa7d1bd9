"""Forms of the administration: how they are filled in beforehand, read, and told from whom and why they come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from flask import Response, request

from wallet_app.console import browser
from wallet_app.console.refusals import again
from wallet_app.console.words import plain_amount
from wallet_app.errors import BadFieldError, WalletServiceError
from wallet_app.service import By
from wallet_app.text import clean, is_refused
from wallet_app.web import request_id

REASON_MAX = 500
TICKET_MAX = 100
_FILLED_IN_MAX = 2_000
_DIGITS = re.compile(r"[0-9]{1,16}")


class WrongFieldError(BadFieldError):
    """What stands in a field of a form cannot be read."""

    code = "wrong_field"
    title = "That did not work"


def filled_in(*names: str) -> dict[str, str]:
    """Return what the page's address says is in the form, so that a form can be gone back to, and passed on."""
    found = {name: request.args.get(name, "")[:_FILLED_IN_MAX] for name in names}
    return {name: "" if is_refused(value) else value for name, value in found.items()}


def address_of(path: str, form: Mapping[str, str]) -> str:
    """Return the address of the page with this form filled in."""
    query = urlencode({name: value for name, value in form.items() if value})
    return f"{path}?{query}" if query else path


def by(form: Mapping[str, str] | None = None) -> By:
    """Return which operator asks, and why, if the form has fields for that. Raises WrongFieldError."""
    given = form or {}
    return By(
        actor=browser.session().actor,
        reason=_reason(given.get("reason", ""), low=0) or None,
        ticket=_ticket(given.get("ticket", "")),
        request_id=request_id(),
        address=request.remote_addr or "unknown",
    )


def reason(form: Mapping[str, str]) -> str:
    """Return the reason, without which it is not done. Raises WrongFieldError."""
    return _reason(form["reason"], low=1)


def number(form: Mapping[str, str], name: str, what: str) -> int | None:
    """Return the whole number in the field, None for none. `what` begins the sentence about it. WrongFieldError."""
    value = form[name].strip()
    if value and _DIGITS.fullmatch(value) is None:
        raise WrongFieldError(f"{what} must be a whole number, in digits.", about=name)
    return int(value) if value else None


def plain(amount: int, scale: int) -> str:
    """Return the amount as a field has it, with the asset's decimal places."""
    return f"{plain_amount(amount, scale):f}"


def refused(template: str, error: WalletServiceError, /, **context: object) -> Response:
    """Return the form's page with the error, at the field that it is about, if it is about one."""
    return again(template, error, field=getattr(error, "about", None), **context)


def _reason(value: str, *, low: int) -> str:
    """Return the reason in one line, however many it was typed in."""
    try:
        return clean(" ".join(value.split()), low=low, high=REASON_MAX)
    except ValueError:
        raise WrongFieldError(
            f"Say why, in {low} to {REASON_MAX} characters: it stays with it.", about="reason"
        ) from None


def _ticket(value: str) -> str | None:
    try:
        return clean(value, low=0, high=TICKET_MAX) or None
    except ValueError as problem:
        raise WrongFieldError(f"The ticket {problem}.", about="ticket") from None
