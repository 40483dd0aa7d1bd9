"""Examples of freezes, closings and switches; `add` puts them among all the others."""

from __future__ import annotations

from typing import Any

from wallet_app.api import examples
from wallet_app.api.present import REPLAYED

_ID = "019a202e-4254-7c9c-bda5-498cff37d325"
_INSTANT = "2026-01-31T12:00:00.000000Z"
_UNTIL = "2999-03-01T00:00:00Z"
_UNKNOWN = "Spends the player does not know of"
_OVER = "The account is the player's again"
_UNTIL_TOLD = "2999-03-01T00:00:00.000000Z"


def _answer(kind: str, reference: str, reason: str, status: str, balance: int, **more: Any) -> dict[str, Any]:
    first = {
        "ok": True,
        "idempotent": False,
        "transactionId": _ID,
        "referenceId": reference,
        "createdAt": _INSTANT,
        "type": kind,
        "reason": reason,
        "walletId": 3,
        "userId": 2,
        "balance": balance,
        "held": 0,
        "version": 1,
        "status": status,
        **more,
    }
    return {"new": first, "replayed": {**first, "idempotent": True, "message": REPLAYED}}


_SWITCH = {
    "switchId": 7,
    "target": "asset",
    "userId": None,
    "asset": "GOLD",
    "side": "debits",
    "reason": "Prices are wrong since the release of noon",
    "until": _UNTIL_TOLD,
    "set": True,
    "setBy": "key:k3f6m2q7zt5a",
    "setAt": _INSTANT,
    "liftedBy": None,
    "liftedAt": None,
    "liftReason": None,
}
_LIFTED = {
    **_SWITCH,
    "target": "user",
    "userId": 2,
    "asset": None,
    "reason": "The player does not know of these spends",
    "until": None,
    "set": False,
    "liftedBy": "key:k3f6m2q7zt5a",
    "liftedAt": _INSTANT,
    "liftReason": _OVER,
}
_EVERYTHING = {"target": "everything", "side": "both", "reason": "Moving to another database"}

_REQUESTS: dict[str, dict[str, Any]] = {
    "freezeWallet": {
        "request": {"side": "debits", "reason": _UNKNOWN, "referenceId": "case-17-freeze"},
        "until": {"side": "both", "until": _UNTIL, "reason": "Chargeback pending", "referenceId": "case-18-freeze"},
    },
    "unfreezeWallet": {"request": {"reason": _OVER, "referenceId": "case-17-end"}},
    "closeWallet": {"request": {"reason": "Asked for by the player", "referenceId": "case-19-close"}},
    "setSwitch": {
        "asset": {name: _SWITCH[name] for name in ("target", "asset", "side", "reason")} | {"until": _UNTIL},
        "user": {name: _LIFTED[name] for name in ("target", "userId", "side", "reason")},
        "everything": _EVERYTHING,
    },
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "freezeWallet": _answer("FREEZE", "case-17-freeze", _UNKNOWN, "FROZEN", 500, frozen={"debits": {"until": None}}),
    "unfreezeWallet": _answer("UNFREEZE", "case-17-end", _OVER, "ACTIVE", 500),
    "closeWallet": _answer("CLOSE", "case-19-close", "Asked for by the player", "CLOSED", 0),
    "setSwitch": {"switch": {"ok": True, **_SWITCH}},
    "getSwitch": {"set": {"ok": True, **_SWITCH}, "lifted": {"ok": True, **_LIFTED}},
    "listSwitches": {
        "page": {"ok": True, "switches": [_SWITCH], "next": "AAAAAAAAAAOHvQBP76JJeQ=="},
        "none": {"ok": True, "switches": []},
    },
}


def _refused(code: str, title: str, detail: str, **members: Any) -> dict[str, Any]:
    return examples.problem(409, code, title, detail, **members)


FROZEN = {
    "frozen": _refused(
        "wallet_not_active",
        "Wallet is not active",
        "Wallet 3 is frozen: its debits are.",
        walletId=3,
        walletStatus="FROZEN",
        side="debits",
    ),
    "stopped": _refused(
        "stopped",
        "Stopped",
        "Wallet 3: the debits of its asset are stopped at the moment.",
        walletId=3,
        side="debits",
        target="asset",
    ),
}
_CLOSED = {
    "closed": _refused(
        "wallet_closed", "Wallet is closed", "Wallet 3 is closed, for good.", walletId=3, walletStatus="CLOSED"
    )
}
_NOT_FROZEN = {
    "active": _refused(
        "wallet_not_frozen",
        "Wallet is not frozen",
        "Wallet 3 is not frozen: neither its debits nor its credits are. If they are stopped all the same, a switch "
        "does that.",
        walletId=3,
        side="both",
    )
}
_NOT_EMPTY = {
    "left": _refused(
        "wallet_not_empty",
        "Wallet is not empty",
        "Wallet 3 has 500 GOLD, and 0 held: only an empty one can be closed.",
        walletId=3,
        balance=500,
        held=0,
        owed=0,
        version=1,
    )
}
_PASSED = {
    "end": examples.problem(
        422,
        "end_passed",
        "End has passed",
        "2026-01-31T12:00:00.000000Z has passed: name an end that is ahead, or none.",
        until=_INSTANT,
    )
}
_SIDE = {"side": examples.invalid_field("/side", "invalid", "must be one of debits, credits, both")}
_NO_REASON = {"reason": examples.invalid_field("/reason", "missing", "is required")}
_NO_SWITCH = {
    "switch": examples.problem(404, "switch_not_found", "Switch not found", "There is no switch 99.", switchId=99)
}


def add() -> None:
    """Add the examples of this module's operations, and what now can become of the others."""
    examples.REQUESTS.update(_REQUESTS)
    examples.ANSWERS.update(_ANSWERS)
    examples.PROBLEMS.update(_problems())
    for name in (
        "topUp",
        "grantBonus",
        "spend",
        "placeHold",
        "captureHold",
        "transfer",
        "exchange",
        "purchase",
        "reverseTransaction",
    ):
        examples.PROBLEMS[name][409] = examples.PROBLEMS[name][409] | FROZEN | _CLOSED


def _problems() -> dict[str, dict[int, dict[str, Any]]]:
    moving, reading = examples.PROBLEMS["topUp"], examples.PROBLEMS["createWallet"]
    mismatch = {"mismatch": moving[422]["mismatch"]}
    switch = {status: shown for status, shown in reading.items() if status != 400}
    return {
        "freezeWallet": moving | {409: moving[409] | _CLOSED, 422: _SIDE | _PASSED | mismatch},
        "unfreezeWallet": moving | {409: moving[409] | _NOT_FROZEN | _CLOSED, 422: _NO_REASON | mismatch},
        "closeWallet": moving | {409: moving[409] | _NOT_EMPTY | _CLOSED, 422: _NO_REASON | mismatch},
        "setSwitch": reading | {422: _SIDE | _PASSED},
        "getSwitch": switch | {404: _NO_SWITCH, 422: examples.PROBLEMS["getKey"][422]},
        "liftSwitch": switch | {404: _NO_SWITCH, 422: _NO_REASON},
        "listSwitches": examples.PROBLEMS["listKeys"]
        | {
            422: {
                "limit": examples.PROBLEMS["listKeys"][422]["limit"],
                "withLifted": examples.invalid_field("/withLifted", "invalid", "must be true or false"),
            }
        },
    }
