"""Examples of limits for the OpenAPI document, and of what they refuse."""

from __future__ import annotations

from wallet_app.api import examples

_GOLD = {"code": "GOLD", "name": "Gold Coins"}
_AS_OF, _FREES_AT = "2026-01-31T12:00:00.000000Z", "2026-02-01T00:00:00.000000Z"
_ROLLING_AT = "2026-02-01T10:00:00.000000Z"
_WALLET = {"ok": True, "walletId": 3, "userId": 2, "asset": _GOLD, "version": 7, "timeZone": "UTC", "asOf": _AS_OF}

EXCEEDED = {
    "limit": examples.problem(
        409,
        "limit_exceeded",
        "Limit exceeded",
        "Wallet 3 may spend at most 5000 GOLD on a day and has spent 4800: there is no room for 300, it is free at "
        "2026-02-01T00:00:00Z.",
        walletId=3,
        limit="day",
        bound=5000,
        used=4800,
        amount=300,
        freesAt="2026-02-01T00:00:00Z",
        balance=900,
        version=7,
    )
}
_SYSTEM = {
    "system": examples.problem(
        409,
        "system_wallet",
        "System wallet",
        "Wallet 1 belongs to the system: it moves only as the other side of a user's wallet.",
        walletId=1,
    )
}


def add() -> None:
    """Add the examples, and what now can become of the commands that limits bound."""
    examples.ANSWERS["getLimits"] = {
        "limited": {
            **_WALLET,
            "limits": {
                "single": {"max": 1000, "setFor": "asset"},
                "balance": None,
                "day": {
                    "max": 5000,
                    "setFor": "raise",
                    "used": 1200,
                    "left": 3800,
                    "frees": 1200,
                    "freesAt": _FREES_AT,
                },
                "rolling": {
                    "max": 6000,
                    "setFor": "wallet",
                    "used": 1500,
                    "left": 4500,
                    "frees": 300,
                    "freesAt": _ROLLING_AT,
                },
            },
            "raisedUntil": "2026-02-07T12:00:00.000000Z",
        },
        "unlimited": {
            **_WALLET,
            "limits": {"single": None, "balance": None, "day": None, "rolling": None},
            "raisedUntil": None,
        },
    }
    examples.PROBLEMS["getLimits"] = examples.PROBLEMS["getWallet"] | {409: _SYSTEM}
    for name in ("topUp", "grantBonus", "spend", "placeHold", "transfer", "exchange", "purchase"):
        examples.PROBLEMS[name][409] = examples.PROBLEMS[name][409] | EXCEEDED
