"""More of `examples`: grants that end, and lots."""

from __future__ import annotations

from typing import Any

from wallet_app.api import examples
from wallet_app.api.present import REPLAYED

_ID = "019a202e-4254-7c9c-bda5-498cff37d325"
_OTHER_ID = "019a2031-77aa-7d21-8c15-3b6f0e9d1a42"
_INSTANT = "2026-01-31T12:00:00.000000Z"
_END = "2026-03-31T22:00:00.000000Z"
_LATER = "2026-06-30T22:00:00.000000Z"
_GOLD = {"code": "GOLD", "name": "Gold Coins"}

_LOT = {
    "lotId": _ID,
    "kind": "bonus",
    "amount": 100,
    "available": 70,
    "held": 0,
    "consumed": 30,
    "expired": 0,
    "revoked": 0,
    "expiresAt": _END,
    "createdAt": _INSTANT,
    "changedAt": "2026-02-02T09:30:00.000000Z",
    "walletId": 3,
    "userId": 2,
    "asset": _GOLD,
    "seq": 2,
    "type": "BONUS",
    "transactionId": _ID,
}
_STANDING = _LOT | {
    "lotId": "00000000-0000-0000-0000-000000000003",
    "amount": 60,
    "available": 50,
    "consumed": 10,
    "expiresAt": None,
    "seq": None,
    "type": None,
    "transactionId": None,
}
_POSTED = {"ok": True, "idempotent": False, "transactionId": _OTHER_ID, "createdAt": _INSTANT}
_EXTENDED = _POSTED | {
    "referenceId": "longer-1001",
    "type": "EXTEND",
    "reason": "The season was prolonged",
    "walletId": 3,
    "userId": 2,
    "asset": _GOLD,
    "balance": 570,
    "held": 0,
    "version": 3,
    "lotId": _ID,
    "expiresAt": _LATER,
}
_MOVEMENT = {
    "walletId": 3,
    "userId": 2,
    "asset": _GOLD,
    "balance": 500,
    "held": 0,
    "version": 4,
    "amount": -70,
    "balanceAfter": 500,
    "seq": 4,
    "reversedSeq": 2,
    "owed": 0,
    "remaining": 30,
}
_REVOKED = _POSTED | {
    "referenceId": "back-1001",
    "type": "REVERSAL",
    "reason": "Granted twice",
    "walletId": 3,
    "reverses": _ID,
    "lotId": _ID,
    "movements": [_MOVEMENT],
}


def _replayed(first: dict[str, Any]) -> dict[str, Any]:
    return {"new": first, "replayed": first | {"idempotent": True, "message": REPLAYED}}


_NO_LOT = {"lot": examples.problem(404, "lot_not_found", "Lot not found", f"There is no lot {_ID}.", lotId=_ID)}
_FINISHED = {
    "finished": examples.problem(
        409,
        "lot_finished",
        "Lot is finished",
        f"Nothing is left of lot {_ID}: 30 was used, 70 has expired, 0 was taken back.",
        lotId=_ID,
        consumed=30,
        expired=70,
        revoked=0,
    )
}
_NOT_LATER = {
    "later": examples.problem(
        409,
        "lot_end_not_later",
        "End is not later",
        f"Lot {_ID} can be used until {_END} already: 2026-03-01 (UTC) is not later.",
        lotId=_ID,
        expiresAt=_END,
        until="2026-03-01",
        timeZone="UTC",
    )
}


def _passed(tail: str) -> dict[str, Any]:
    said = "Credit cannot be usable until 2025-12-31 (Europe/Berlin): name an end that is ahead, up to the year 2999"
    told = {"expiresAt": "2025-12-31", "timeZone": "Europe/Berlin"}
    return {"end": examples.problem(409, "lot_end_passed", "End is not ahead", f"{said}{tail}.", **told)}


_USED = {
    "used": examples.problem(
        409,
        "lot_used",
        "Lot is not whole any more",
        f"Of lot {_ID}, 70 is there to be taken back, and 100 would be.",
        lotId=_ID,
        available=70,
        remaining=100,
    )
}
_TOO_MANY = {
    "lots": examples.problem(
        409,
        "too_many_lots",
        "Too many lots",
        "Wallet 3 has 10000 lots that end, and may have no more: some must be used first.",
        walletId=3,
        lotsMax=10_000,
    )
}
_BAD_END = {
    "expiresAt": examples.invalid_field(
        "/expiresAt",
        "invalid",
        "must be an instant like 2026-12-31T23:59:59Z, with an offset, or a day like 2026-12-31, which ends in the "
        "asset's time zone; in the years 2000 to 2999",
    )
}
_GRACE = {
    "graceDays": examples.invalid_field(
        "/graceDays", "invalid", 'must be there with onExpired "regrant", and with nothing else'
    )
}


def add() -> None:
    """Add the examples of this module's operations, and what now can become of the others."""
    bonus = examples.REQUESTS["grantBonus"]["request"]
    examples.REQUESTS["grantBonus"] |= {
        "day": bonus | {"expiresAt": "2026-03-31", "referenceId": "bonus-1002"},
        "instant": bonus | {"expiresAt": _END, "referenceId": "bonus-1003"},
        "never": bonus | {"expiresAt": None, "referenceId": "bonus-1004"},
    }
    granted = examples.ANSWERS["grantBonus"]["new"]
    examples.ANSWERS["grantBonus"] |= {
        "day": granted | {"referenceId": "bonus-1002", "lotId": granted["transactionId"], "expiresAt": _END}
    }
    examples.PROBLEMS["grantBonus"][409] = examples.PROBLEMS["grantBonus"][409] | _passed(", or none") | _TOO_MANY
    examples.PROBLEMS["grantBonus"][422] = examples.PROBLEMS["grantBonus"][422] | _BAD_END
    examples.REQUESTS["reverseTransaction"] |= {
        "regrant": {
            "onExpired": "regrant",
            "graceDays": 14,
            "reason": "The event was called off",
            "referenceId": "refund-1002",
        }
    }
    examples.PROBLEMS["reverseTransaction"][422] = examples.PROBLEMS["reverseTransaction"][422] | _GRACE
    examples.REQUESTS |= {
        "extendLot": {
            "day": {"expiresAt": "2026-06-30", "reason": "The season was prolonged", "referenceId": "longer-1001"},
            "instant": {"expiresAt": _LATER, "reason": "The season was prolonged", "referenceId": "longer-1002"},
        },
        "revokeLot": {
            "request": {"reason": "Granted twice", "referenceId": "back-1001"},
            "rest": {"onShortfall": "partial", "reason": "Granted twice", "referenceId": "back-1002"},
        },
    }
    examples.ANSWERS |= {
        "extendLot": _replayed(_EXTENDED),
        "revokeLot": _replayed(_REVOKED),
        "getLot": {"lot": {"ok": True, **_LOT}, "standing": {"ok": True, **_STANDING}},
        "listLots": {
            "page": {"ok": True, "walletId": 3, "lots": [_LOT, _STANDING], "next": "AAAAAAAAAAIIsonnxNbTvw=="},
            "none": {"ok": True, "walletId": 3, "lots": []},
        },
    }
    reading, moving = examples.PROBLEMS["listHolds"], examples.PROBLEMS["releaseHold"]
    mismatch = {"mismatch": moving[422]["mismatch"]}
    reason = {"reason": examples.invalid_field("/reason", "missing", "is required")}
    stopped = {
        name: shown for name, shown in examples.PROBLEMS["spend"][409].items() if name not in {"balance", "system"}
    }
    examples.PROBLEMS |= {
        "extendLot": moving
        | {404: _NO_LOT, 409: _FINISHED | _NOT_LATER | _passed(""), 422: _BAD_END | reason | mismatch},
        "revokeLot": moving | {404: _NO_LOT, 409: _USED | _FINISHED | stopped, 422: reason | mismatch},
        "getLot": examples.PROBLEMS["getHold"] | {404: _NO_LOT},
        "listLots": reading
        | {
            422: {
                "limit": reading[422]["limit"],
                "state": examples.invalid_field("/state", "invalid", "must be one of open, all"),
            }
        },
    }
