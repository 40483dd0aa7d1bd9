"""More of `examples`: reversals and debts. To import it is to add them."""

from __future__ import annotations

from typing import Any

from wallet_app.api import examples
from wallet_app.api.examples import _invalid, _problem
from wallet_app.api.present import REPLAYED

_ID = "019a202e-4254-7c9c-bda5-498cff37d325"
_REVERSAL_ID = "019a202f-1bd0-7f4e-9a52-0d3f8e6c7b11"
_INSTANT = "2026-01-31T12:00:00.000000Z"
_GOLD = {"code": "GOLD", "name": "Gold Coins"}


def _reversal(reference: str, reason: str, **movement: Any) -> dict[str, Any]:
    return {
        "ok": True,
        "idempotent": False,
        "transactionId": _REVERSAL_ID,
        "referenceId": reference,
        "createdAt": _INSTANT,
        "type": "REVERSAL",
        "walletId": 3,
        "reverses": _ID,
        "reason": reason,
        "movements": [
            {"walletId": 3, "userId": 2, "asset": _GOLD, "held": 0, "version": 3, "seq": 3, "reversedSeq": 2} | movement
        ],
    }


_WHOLE = {"reason": "Chargeback of order 1001", "referenceId": "chargeback-1001"}
_TAKEN = _reversal(
    "chargeback-1001",
    "Chargeback of order 1001",
    amount=-100,
    balance=500,
    balanceAfter=500,
    owed=0,
    remaining=0,
)
_OWED = _reversal(
    "chargeback-1002",
    "Chargeback of order 1002",
    amount=-60,
    balance=0,
    balanceAfter=0,
    owed=40,
    remaining=0,
)

examples.REQUESTS["reverseTransaction"] = {
    "request": _WHOLE,
    "part": {"amount": 30, "reason": "Damaged in part", "referenceId": "refund-1001"},
    "debt": {"onShortfall": "debt", "reason": "Chargeback of order 1002", "referenceId": "chargeback-1002"},
}
examples.ANSWERS["reverseTransaction"] = {
    "new": _TAKEN,
    "replayed": _TAKEN | {"idempotent": True, "message": REPLAYED},
    "debt": _OWED,
}
examples.ANSWERS["listDebts"] = {
    "one": {
        "ok": True,
        "walletId": 3,
        "userId": 2,
        "asset": _GOLD,
        "owed": 40,
        "debts": [
            {
                "transactionId": _ID,
                "kind": "TOPUP",
                "referenceId": "order-1002",
                "seq": 2,
                "amount": 100,
                "reversed": 60,
                "owed": 40,
                "since": _INSTANT,
            }
        ],
    },
    "none": {"ok": True, "walletId": 3, "userId": 2, "asset": _GOLD, "owed": 0, "debts": []},
}

_REFUSED = {
    "expired": _problem(
        409,
        "brought_expired",
        "What it brought has expired",
        f"Transaction {_ID} brought wallet 4 credit of which 10 has expired: that cannot be taken back, and "
        'onShortfall "refuse" gives nothing back for it.',
        transactionId=_ID,
        walletId=4,
        seq=2,
        expired=10,
    ),
    "over": _problem(
        409,
        "over_reversal",
        "More than is left to reverse",
        f"Of transaction {_ID}, 20 is left to be reversed, 30 cannot be.",
        transactionId=_ID,
        remaining=20,
        amount=30,
    ),
    "kind": _problem(
        409,
        "not_reversible",
        "Not reversible",
        f"Transaction {_ID} is a HOLD, which cannot be reversed.",
        transactionId=_ID,
        kind="HOLD",
    ),
    "balance": _problem(
        409,
        "insufficient_balance",
        "Insufficient balance",
        "Wallet 3 has 60 GOLD, 100 needed.",
        walletId=3,
        balance=60,
        required=100,
        version=7,
    ),
}
_WRONG = {
    "whole": _problem(
        422,
        "only_as_a_whole",
        "Only as a whole",
        f"Transaction {_ID} is a PURCHASE of several movements: it is reversed as a whole, so name no amount, and do "
        'not choose onShortfall "partial".',
        transactionId=_ID,
        kind="PURCHASE",
    ),
    "debt": _problem(
        422,
        "no_debt_between_users",
        "No debt between users",
        f"Transaction {_ID} is a TRANSFER: who gave gets back what who received still has, so it leaves no debt. "
        'Choose onShortfall "refuse" or "partial".',
        transactionId=_ID,
    ),
    "reason": _invalid("/reason", "missing", "is required"),
    "mismatch": _problem(
        422,
        "reference_mismatch",
        "Reference was used for something else",
        "Reference 'chargeback-1001' of wallet 3 already stands for another command: reason differs.",
        walletId=3,
        fields=["reason"],
    ),
}
examples.PROBLEMS["reverseTransaction"] = examples.PROBLEMS["topUp"] | {
    404: examples.PROBLEMS["getTransaction"][404],
    409: _REFUSED,
    422: _WRONG,
}
examples.PROBLEMS["listDebts"] = examples.PROBLEMS["getWallet"] | {409: examples.PROBLEMS["listHolds"][409]}
