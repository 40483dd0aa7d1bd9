"""What an operator is told where nobody can tell whether their form was carried out: what to look at, for every form.

It happens when the connection to the database breaks before the answer to a COMMIT, or a standby does not confirm one.
"""

from __future__ import annotations

from typing import NamedTuple

from flask import request

from wallet_app.errors import OutcomeUnknownError, WalletServiceError

_CODE = OutcomeUnknownError.code
_DOUBT = "This may or may not have been done: the database did not confirm it."


class Look(NamedTuple):
    """What to do about it, and where to look: a path with the names of the form's own path, "" for this very page."""

    advice: str
    path: str = ""


_ACT = Look(
    "Send this form again as it is: it is done once at most, and you are led to what came of it. "
    "The wallet's page shows it too."
)
_DECISION = Look(
    "Look at how the request stands before you decide again. It is decided once at most.",
    "/console/approvals/{request_id}",
)
_RUN = Look("Look at how the run stands before you do it again. Each of its rows is posted once at most.")
_KEY = Look(
    "Go back and send the form again as it is: within 15 minutes it shows the same key and makes no other. "
    "A key that nobody has seen is to be revoked: look in the list, newest first.",
    "/console/keys",
)
_CODE_OF_OPERATOR = Look(
    "Go back and send the form again as it is: within 15 minutes it shows the same set-up code and does nothing more. "
    "Or look how the operator stands.",
    "/console/operators",
)
_PASSKEYS = Look("Look at your passkeys. One that is missing can be added again.", "/console/account")
_SIGN_IN = Look("See whether you are signed in. If not, sign in again, with the next code.", "/console")
_PROOF = Look("Go on with what you were about to do: you are asked again if it was not taken.", "/console")
_SWITCHES = Look("Look at what is stopped now. The very same is stopped once, however often.", "/console/switches")
_REASONS = Look("Look at what the reason code says now.", "/console/reasons")
_ASSETS = Look("Look whether the asset is there, and as you want it.", "/console/assets")
_NOTHING = Look("Nothing was to be changed by it: go back and do it again.", "/console")

LOOK = {
    **dict.fromkeys(
        (
            "adjust",
            "transfer",
            "freeze",
            "unfreeze",
            "close",
            "reverse",
            "release",
            "extend",
            "revoke",
            "raise_limits",
            "end_raise",
        ),
        _ACT,
    ),
    **dict.fromkeys(("approve", "reject", "withdraw"), _DECISION),
    **dict.fromkeys(("approve_bulk", "ask_bulk", "check_bulk", "discard_bulk", "stop_bulk"), _RUN),
    "post_undo": Look("Look at the list for the undo of this run. A run has one at a time.", "/console/bulk"),
    "post_bulk": Look("Look at the list for the file, newest first. A file runs once at most.", "/console/bulk"),
    **dict.fromkeys(("post_key", "post_rotate"), _KEY),
    "post_revoke": Look("Look at the key. While it is shown as working, revoke it again.", "/console/keys/{key_id}"),
    **dict.fromkeys(("post_operator", "post_reset"), _CODE_OF_OPERATOR),
    **dict.fromkeys(
        ("post_disable", "post_role"), Look("Look how the operator stands.", "/console/operators/{operator_id}")
    ),
    **dict.fromkeys(("post_switch", "post_lift"), _SWITCHES),
    **dict.fromkeys(("post_reason", "post_reason_change"), _REASONS),
    "post_day_bound": Look("Look at the bounds.", "/console/reasons"),
    **dict.fromkeys(("post_asset", "post_asset_change"), _ASSETS),
    "post_integrity": Look("Look at the list of verifications.", "/console/integrity"),
    "post_limits": Look("Look at what holds for the asset now.", "/console/assets/{code}/limits"),
    "see_import": Look("Look whether the import is still told on the first page, and do it again.", "/console"),
    **dict.fromkeys(("post_passkey_enrolment", "remove_passkey"), _PASSKEYS),
    "post_password": Look(
        "Sign in again: with the new password, and if that is wrong with the one before.", "/console/sign-in"
    ),
    "post_recovery_codes": Look(
        "The codes that you had may be void, and you have seen no new ones: make new ones.",
        "/console/account/recovery-codes",
    ),
    "end_sessions": Look("If you are still signed in, do it again.", "/console/account"),
    "sign_out": Look("If you are still signed in, do it again.", "/console"),
    "post_set_up": Look("Enter the set-up code again: it is good until your app is connected.", "/console/set-up"),
    "post_set_up_app": Look(
        "Sign in with your password and your app. If you get in, make new recovery codes in your account; if not, "
        "begin again with the set-up code.",
        "/console/sign-in",
    ),
    **dict.fromkeys(("post_sign_in", "post_second_factor", "post_recovery", "post_passkey"), _SIGN_IN),
    **dict.fromkeys(("post_confirm", "post_confirm_passkey"), _PROOF),
    **dict.fromkeys(
        (
            "check_key",
            "check_operator",
            "check_role",
            "check_switch",
            "enrol_options",
            "confirm_options",
            "sign_in_options",
        ),
        _NOTHING,
    ),
}
"""By the name of the view that takes the form."""


def said(error: WalletServiceError) -> str | None:
    """Return what the page says of this error instead of its own words; None if the outcome is in no doubt."""
    return in_words() if error.code == _CODE else None


def in_words() -> str:
    """Return the sentences for the form of this request."""
    found = _look()
    return _DOUBT if found is None else f"{_DOUBT} {found.advice}"


def place() -> str | None:
    """Return the page on which this request's operator sees what came of it, if it is another one."""
    found = _look()
    return None if found is None or not found.path else found.path.format(**request.view_args or {})


def _look() -> Look | None:
    return LOOK.get((request.endpoint or "").rpartition(".")[2])
