"""How wallets, freezes and refusals are said on the pages of acts: for people, with amounts as they read them.

Pure: what is shown comes from the service, here it is only worded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from wallet_app import service
from wallet_app.console import words
from wallet_app.errors import InsufficientBalanceError, WalletNotEmptyError, WalletServiceError
from wallet_app.service import Effect, Operation, ReasonView, WalletView

SIDES = {
    "debits": "Debits: nothing leaves it",
    "credits": "Credits: nothing comes into it",
    "both": "Both: nothing moves",
}
"""The sides of a freeze as an operator chooses among them."""

SHORTFALLS = {
    "refuse": "Do nothing",
    "partial": "Take what is there, at least 1",
    "debt": "Take what is there; the rest is owed, and repaid by later credits",
}
"""What is to be if less is there than is to be taken back."""


def money(amount: int, wallet: WalletView) -> str:
    """Return the amount of the wallet's asset with its code."""
    return f"{words.amount(amount, wallet.asset_scale)} {wallet.asset_code}"


def of_error(error: WalletServiceError, wallet: WalletView) -> str:
    """Return the error's sentence; where it has amounts, with those as the asset shows them."""
    scale = wallet.asset_scale
    if isinstance(error, InsufficientBalanceError) and int(error.details["wallet_id"]) == wallet.wallet_id:
        return _too_little(error, wallet.asset_code, scale)
    if scale and isinstance(error, InsufficientBalanceError):
        has, needed = (words.amount(int(error.details[name]), scale) for name in ("balance", "required"))
        return f"Wallet {error.details['wallet_id']} has {has}, {needed} needed."
    if scale and isinstance(error, WalletNotEmptyError):
        has, held, owed = (words.amount(int(error.details[name]), scale) for name in ("balance", "held", "owed"))
        return (
            f"Wallet {error.details['wallet_id']} has {has}, {held} held, and owes {owed}: only an empty one can be "
            "closed."
        )
    return error.detail


def of_effects(error: WalletServiceError, effects: Sequence[Effect]) -> str:
    """Return the error's sentence, with amounts as the asset of the wallet shows them that it is about."""
    if isinstance(error, InsufficientBalanceError):
        for one in effects:
            if one.wallet_id == int(error.details["wallet_id"]):
                return _too_little(error, one.asset_code, one.asset_scale)
    return error.detail


def of_reason(reason: ReasonView, wallet: WalletView) -> str:
    """Return a reason code with what it allows of the wallet's asset."""
    settings = reason.settings
    limits = settings.of_assets.get(wallet.asset_code, settings.limits)
    most, above = (words.amount(one, wallet.asset_scale) for one in (limits.amount_max, limits.approval_above))
    allows = [f"at most {most}", f"approval above {above}" if limits.approval_above else "always with approval"]
    if settings.directions != "both":
        allows.insert(0, f"{settings.directions}s alone")
    asked = (("ticket", settings.ticket_required), ("note", settings.note_required))
    asks = [name for name, is_asked in asked if is_asked]
    if asks:
        allows.append(f"{' and '.join(asks)} required")
    return f"{settings.name} ({', '.join(allows)})"


def of_why(operation: Operation, reasons: Sequence[ReasonView]) -> str | None:
    """Return why it is done: the reason code by its name, or the reason in words."""
    code = getattr(operation, "reason_code", None)
    if code is None:
        return getattr(operation, "reason", None)
    return next((f"{one.settings.name} ({code})" for one in reasons if one.code == code), code)


def of_freeze(until: dt.datetime | None) -> str:
    """Return how a side of a wallet stands that is frozen until then; None for one that is not."""
    if until is None:
        return "free"
    return "frozen, until it is lifted" if until == service.NO_END else f"frozen until {words.absolute(until)}"


def of_end(until: dt.datetime | None) -> str:
    """Return when a freeze that is asked for ends."""
    return "when it is lifted" if until is None else words.absolute(until)


def _too_little(error: InsufficientBalanceError, code: str, scale: int) -> str:
    has, needed = (words.amount(int(error.details[name]), scale) for name in ("balance", "required"))
    return f"Wallet {error.details['wallet_id']} has {has} {code}, {needed} needed."
