"""Browsers in which an operator has signed in before: known by a signed cookie, of which nothing is stored.

It opens nothing. It tells an operator's own browser from a stranger's, so that whoever guesses a password cannot make
the operator wait (see `throttle`).
"""

from __future__ import annotations

import secrets

from wallet_app.service import sealing

SECONDS_MAX = 90 * 24 * 60 * 60
"""How long the browser is to keep the cookie."""

_PURPOSE = "known browser"


def make_device(operator_id: int, previous: str | None) -> str:
    """Return the cookie for a browser in which the operator has just signed in: the one it has, if it is theirs."""
    known = known_browser(previous, operator_id)
    # Signed anew, in case that the key has changed since.
    named = f"{operator_id}.{secrets.token_hex(16)}" if known is None else known
    return f"{named}.{sealing.signature(named, purpose=_PURPOSE)}"


def known_browser(device: str | None, operator_id: int) -> str | None:
    """Return the browser's name if the cookie is from us and this operator signed in there, else None."""
    named, _, signed = (device or "").rpartition(".")
    if not named.startswith(f"{operator_id}.") or not signed.isascii():
        return None
    return named if sealing.is_signed(named, signed, purpose=_PURPOSE) else None
