"""Examples for the OpenAPI document, by operation and status: what a caller sends, and what comes back.

A test holds every one against the schema that it is an example of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from wallet_app.api.present import REPLAYED

_ID = "019a202e-4254-7c9c-bda5-498cff37d325"
_REQUEST_ID = "cbf8c666619d443e85a41a7347fc046a"
_INSTANT = "2026-01-31T12:00:00.000000Z"
_GOLD = {"code": "GOLD", "name": "Gold Coins"}
_HASH = "5f0c6f3ab7a24f1f0c37de1e8f5a3f1c5b9d0c8fe2f9a1d7c4b6e8a0d2f4c6e8"


_DETAILS: dict[str, Any] = {
    "metadata": {"orderId": "A-1001", "level": 7},
    "occurredAt": "2026-01-31T11:58:30Z",
}


def _request(reference: str, amount: int, note: str) -> dict[str, Any]:
    return {"amount": amount, "referenceId": reference, "note": note}


def _movement(kind: str, reference: str, amount: int, balance: int) -> dict[str, Any]:
    return {
        "ok": True,
        "idempotent": False,
        "walletId": 3,
        "userId": 2,
        "asset": _GOLD,
        "balance": balance,
        "held": 0,
        "version": 2,
        "transactionId": _ID,
        "referenceId": reference,
        "type": kind,
        "amount": amount,
        "balanceAfter": balance,
        "seq": 2,
        "createdAt": _INSTANT,
    }


def _movements(kind: str, reference: str, amount: int, balance: int) -> dict[str, Any]:
    first = _movement(kind, reference, amount, balance)
    # In between somebody topped up 50: the balance is the current one, balanceAfter the transaction's own.
    replay = {**first, "idempotent": True, "message": REPLAYED, "balance": balance + 50, "version": 3}
    return {"new": first, "replayed": replay, "dryRun": {**first, "transactionId": None, "dryRun": True}}


_HOLD: dict[str, Any] = {
    "holdId": _ID,
    "state": "open",
    "amount": 100,
    "captured": 0,
    "released": 0,
    "expired": 0,
    "remaining": 100,
    "expiresAt": "2026-01-31T12:15:00.000000Z",
    "createdAt": _INSTANT,
    "endedAt": None,
}
_CAPTURED = _HOLD | {"state": "captured", "captured": 70, "released": 30, "remaining": 0, "endedAt": _INSTANT}
_RELEASED = _HOLD | {"state": "released", "released": 100, "remaining": 0, "endedAt": _INSTANT}
_LISTED_HOLD = {
    "walletId": 3,
    "userId": 2,
    "asset": _GOLD,
    "referenceId": "hold-1001",
    "note": "Auction 17",
    "metadata": None,
}


def _on_hold(kind: str, reference: str, amount: int, balance: int, hold: dict[str, Any]) -> dict[str, Any]:
    return {**_movement(kind, reference, amount, balance), "held": hold["remaining"], "hold": hold}


def _on_holds(kind: str, reference: str, amount: int, balance: int, hold: dict[str, Any]) -> dict[str, Any]:
    first = {**_on_hold(kind, reference, amount, balance, hold), "version": 4, "seq": 4}
    return {"new": first, "replayed": {**first, "idempotent": True, "message": REPLAYED}}


_BALANCE = {
    "walletId": 3,
    "userId": 2,
    "asset": _GOLD,
    "balance": 500,
    "held": 0,
    "available": 500,
    "bonus": 120,
    "paid": 380,
    "due": 0,
    "total": 500,
    "owed": 0,
    "expiring": {"nextAt": "2026-03-31T22:00:00.000000Z", "nextAmount": 70, "within7d": 0, "within30d": 0},
    "version": 1,
    "updatedAt": _INSTANT,
}
_ENTRY = {
    "walletId": 3,
    "seq": 2,
    "type": "SPEND",
    "amount": -30,
    "balanceAfter": 470,
    "contraWalletId": 11,
    "createdAt": _INSTANT,
    "hash": _HASH,
}
_TRANSACTION = {
    "transactionId": _ID,
    "referenceId": "spend-1001",
    "kind": "SPEND",
    "actor": "key:k3f6m2q7zt5a",
    "note": "Sword",
    "metadata": _DETAILS["metadata"],
    "occurredAt": "2026-01-31T11:58:30.000000Z",
}

_DIAMOND = {"code": "DIAMOND", "name": "Diamonds"}


def _side(wallet: int, user: int, asset: dict[str, str], amount: int, balance: int) -> dict[str, Any]:
    return {
        "walletId": wallet,
        "userId": user,
        "asset": asset,
        "balance": balance,
        "held": 0,
        "version": 2,
        "amount": amount,
        "balanceAfter": balance,
        "seq": 2,
    }


def _posted(kind: str, reference: str, **members: Any) -> dict[str, Any]:
    return {
        "ok": True,
        "idempotent": False,
        "transactionId": _ID,
        "referenceId": reference,
        "createdAt": _INSTANT,
        "type": kind,
        **members,
    }


def _new_and_replayed(first: dict[str, Any]) -> dict[str, Any]:
    return {"new": first, "replayed": {**first, "idempotent": True, "message": REPLAYED}}


_GIFT = {"from": 3, "to": 5, "amount": 120, "referenceId": "gift-1001", "note": "Happy birthday"}
_GIVEN = _posted(
    "TRANSFER",
    "gift-1001",
    amount=120,
    **{"from": _side(3, 2, _GOLD, -120, 380), "to": _side(5, 3, _GOLD, 120, 420)},
)

_SWAP = {"from": 3, "to": 4, "amount": 105, "rate": "1/10", "referenceId": "swap-1001"}
_SWAPPED = _posted(
    "EXCHANGE",
    "swap-1001",
    rate="0.1",
    **{"from": _side(3, 2, _GOLD, -105, 395), "to": _side(4, 2, _DIAMOND, 10, 20)},
)

_BUNDLE = {
    "walletId": 3,
    "legs": [
        {"walletId": 3, "type": "spend", "amount": 200},
        {"walletId": 4, "type": "topup", "amount": 5},
        {"walletId": 3, "type": "bonus", "amount": 20},
    ],
    "referenceId": "bundle-1001",
    "note": "Weekend bundle",
}
_AFTER = {"balance": 320, "version": 3}
_BOUGHT = _posted(
    "PURCHASE",
    "bundle-1001",
    walletId=3,
    legs=[
        {"type": "SPEND", **_side(3, 2, _GOLD, -200, 300), **_AFTER},
        {"type": "TOPUP", **_side(4, 2, _DIAMOND, 5, 15)},
        {"type": "BONUS", **_side(3, 2, _GOLD, 20, 320), **_AFTER, "seq": 3},
    ],
)

_TOP_UP = {"type": "topup", "walletId": 3, **_request("topup-1001", 100, "Starter pack")}
_TOO_MUCH = {"type": "spend", "walletId": 3, **_request("spend-1002", 700, "Castle")}
_MALFORMED = {"type": "spend", "walletId": 3, **_request("spend-1003", 0, "Air")}

_JOHN = {"userId": 2, "name": "John", "externalId": "demo:John", "createdAt": _INSTANT}
_JOHNS_GOLD = {
    **_BALANCE,
    "userName": "John",
    "userType": "USER",
    "scale": 0,
    "status": "ACTIVE",
    "createdAt": _INSTANT,
}
_ADAS_GOLD = {
    **_JOHNS_GOLD,
    "walletId": 21,
    "userId": 11,
    "userName": "Ada",
    "balance": 0,
    "available": 0,
    "bonus": 0,
    "paid": 0,
    "total": 0,
    "expiring": {"nextAt": None, "nextAmount": 0, "within7d": 0, "within30d": 0},
    "version": 0,
}

_KEY = {
    "keyId": "k3f6m2q7zt5a",
    "client": "shop",
    "scopes": ["wallets:read", "wallets:spend"],
    "amountMax": 5_000,
    "assets": ["GOLD"],
    "networks": ["192.0.2.0/24"],
    "rateLimit": None,
    "expiresAt": "2026-07-30T12:00:00.000000Z",
    "live": True,
    "createdAt": _INSTANT,
    "createdBy": "key:q5x2v7m3n4ab",
    "revokedAt": None,
    "lastUsedAt": None,
}
_NEW_KEY = {"ok": True, "key": "dino_live_k3f6m2q7zt5a_...", **_KEY}

REQUESTS: dict[str, dict[str, Any]] = {
    "topUp": {"request": _request("topup-1001", 100, "Starter pack")},
    "grantBonus": {"request": _request("bonus-1001", 25, "Daily login")},
    "spend": {"request": _request("spend-1001", 30, "Sword") | _DETAILS},
    "placeHold": {"request": {"walletId": 3, **_request("hold-1001", 100, "Auction 17"), "expiresIn": 900}},
    "captureHold": {
        "rest": {"referenceId": "sold-1001"},
        "part": {"amount": 70, "final": True, "referenceId": "sold-1001", "note": "Sold"},
    },
    "releaseHold": {"request": {"referenceId": "unsold-1001", "note": "Outbid"}},
    "transfer": {
        "request": _GIFT,
        "upTo": {"from": 3, "to": 5, "amount": {"upTo": 1_000}, "referenceId": "sweep-1001"},
    },
    "exchange": {
        "request": _SWAP,
        "configured": {"from": 3, "to": 4, "amount": 100, "referenceId": "swap-1002"},
    },
    "purchase": {"request": _BUNDLE},
    "createUser": {"request": {"name": "Ada", "externalId": "player-77"}},
    "createWallet": {"request": {"userId": 11, "asset": "GOLD"}},
    "createKey": {
        "request": {
            "client": "shop",
            "scopes": ["wallets:read", "wallets:spend"],
            "amountMax": 5_000,
            "assets": ["GOLD"],
            "networks": ["192.0.2.0/24"],
            "expiresIn": 15_552_000,
        }
    },
    "createToken": {"request": {"scopes": ["wallets:read", "wallets:spend"], "expiresIn": 600}},
    "postBatch": {
        "each": {"mode": "each", "items": [_TOP_UP, _TOO_MUCH, _MALFORMED]},
        "atomic": {
            "mode": "atomic",
            "items": [_TOP_UP, {"type": "spend", "walletId": 3, **_request("spend-1001", 30, "Sword")}],
        },
    },
}

ANSWERS: dict[str, dict[str, Any]] = {
    "topUp": _movements("TOPUP", "topup-1001", 100, 600),
    "grantBonus": _movements("BONUS", "bonus-1001", 25, 525),
    "spend": _movements("SPEND", "spend-1001", -30, 470),
    "placeHold": {"new": _on_hold("HOLD", "hold-1001", -100, 400, _HOLD)},
    "captureHold": _on_holds("CAPTURE", "sold-1001", 30, 430, _CAPTURED),
    "releaseHold": _on_holds("RELEASE", "unsold-1001", 100, 500, _RELEASED),
    "getHold": {"open": {"ok": True, **_HOLD, **_LISTED_HOLD}, "captured": {"ok": True, **_CAPTURED, **_LISTED_HOLD}},
    "listHolds": {
        "page": {"ok": True, "walletId": 3, "holds": [_HOLD | _LISTED_HOLD], "next": "AAAAAAAAAAIIsonnxNbTvw=="},
        "none": {"ok": True, "walletId": 3, "holds": []},
    },
    "transfer": _new_and_replayed(_GIVEN),
    "exchange": _new_and_replayed(_SWAPPED),
    "purchase": _new_and_replayed(_BOUGHT),
    "createUser": {"user": {"ok": True, "userId": 11, "name": "Ada", "externalId": "player-77", "createdAt": _INSTANT}},
    "createKey": {"key": _NEW_KEY},
    "rotateKey": {"key": _NEW_KEY},
    "getKey": {"key": {"ok": True, **_KEY, "lastUsedAt": "2026-02-03T08:15:00.000000Z"}},
    "listKeys": {
        "page": {"ok": True, "keys": [_KEY], "next": "BQOyYwGmwJQ0s4S2mS0ehA=="},
        "none": {"ok": True, "keys": []},
    },
    "createToken": {
        "token": {
            "ok": True,
            "token": "eyJ0eXAiOiJkaW5v....eyJpc3MiOiJkaW5vLXdh....s_JW_EAS_bLm6aPA",
            "tokenType": "Bearer",
            "userId": 11,
            "scopes": ["wallets:read", "wallets:spend"],
            "expiresIn": 600,
            "expiresAt": "2026-01-31T12:10:00.000000Z",
        }
    },
    "findUsers": {"one": {"ok": True, "users": [_JOHN]}, "none": {"ok": True, "users": []}},
    "getUser": {"user": {"ok": True, **_JOHN}},
    "listAssets": {
        "all": {
            "ok": True,
            "assets": [
                {**_GOLD, "scale": 0, "timeZone": "Europe/Berlin", "bonusDays": 90, "paidDays": None},
                {**_DIAMOND, "scale": 0, "timeZone": "UTC", "bonusDays": None, "paidDays": None},
            ],
        }
    },
    "createWallet": {"wallet": {"ok": True, **_ADAS_GOLD}},
    "listWallets": {
        "page": {"ok": True, "wallets": [_JOHNS_GOLD], "next": "AAAAAAAAAAOHvQBP76JJeQ=="},
        "none": {"ok": True, "wallets": []},
    },
    "getWallet": {"user": {"ok": True, **_JOHNS_GOLD}},
    "getBalance": {
        "user": {"ok": True, **_BALANCE},
        "system": {
            "ok": True,
            **_BALANCE,
            "walletId": 1,
            "userId": 1,
            "balance": -800,
            "available": -800,
            "bonus": 0,
            "paid": -800,
            "total": -800,
            "expiring": _ADAS_GOLD["expiring"],
            "version": None,
        },
    },
    "listEntries": {
        "page": {"ok": True, "walletId": 3, "entries": [_ENTRY | _TRANSACTION], "next": "AAAAAAAAAAIIsonnxNbTvw=="}
    },
    "getTransaction": {
        "spend": {
            "ok": True,
            **_TRANSACTION,
            "walletId": 3,
            "client": "shop",
            "requestId": _REQUEST_ID,
            "reverses": None,
            "reason": None,
            "createdAt": _INSTANT,
            "digest": _HASH[::-1],
            "entries": [_ENTRY],
            "legs": [
                {"walletId": 3, "asset": "GOLD", "amount": -30},
                {"walletId": 11, "asset": "GOLD", "amount": 30},
            ],
            "reversible": [
                {"walletId": 3, "seq": 2, "amount": 30, "reversed": 10, "owed": 0, "expired": 0, "remaining": 20}
            ],
        }
    },
}


def _problem(status: int, code: str, title: str, detail: str, **members: Any) -> dict[str, Any]:
    return {
        "type": f"urn:dino-wallet:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": _REQUEST_ID,
        "ok": False,
        "error": title,
        **members,
    }


def _invalid(pointer: str, code: str, detail: str) -> dict[str, Any]:
    error = {"pointer": pointer, "code": code, "detail": detail}
    return _problem(422, "validation_error", "Validation error", f"{pointer[1:]}: {detail}.", errors=[error])


problem, invalid_field = _problem, _invalid
"""For the examples that stand in modules of their own."""


ANSWERS_AGAIN: dict[str, dict[str, Any]] = {
    "placeHold": {
        "replayed": {
            **_on_hold("HOLD", "hold-1001", -100, 400, _HOLD | {"captured": 70, "state": "partially_captured"}),
            "hold": _HOLD | {"captured": 70, "remaining": 30, "state": "partially_captured"},
            "held": 30,
            "version": 4,
            "idempotent": True,
            "message": REPLAYED,
        }
    }
}
"""What is answered to a repetition, where that is not the same."""

_UNREADABLE = {
    "unreadable": _problem(400, "bad_request", "Bad Request", "The body is not JSON: a key stands twice in one object.")
}
_CURSOR = {
    "cursor": _problem(
        400,
        "bad_cursor",
        "Bad cursor",
        "The cursor was not made by this list with these filters; start again without it.",
    )
}
_NO_WALLET = {"wallet": _problem(404, "wallet_not_found", "Wallet not found", "There is no wallet 99.", walletId=99)}
_NO_USER = {"user": _problem(404, "user_not_found", "User not found", "There is no user 99.", userId=99)}
_NO_ASSET = {"asset": _problem(404, "asset_not_found", "Asset not found", "There is no asset SILVER.", asset="SILVER")}
NO_ASSET = _NO_ASSET
_TAKEN = {
    "taken": _problem(
        409,
        "external_id_taken",
        "External id is taken",
        "External id 'player-77' is that of user 11, whose name is another one.",
        externalId="player-77",
        userId=11,
    )
}
_NO_TRANSACTION = {
    "transaction": _problem(
        404, "transaction_not_found", "Transaction not found", f"There is no transaction {_ID}.", transactionId=_ID
    )
}
_INSUFFICIENT = {
    "balance": _problem(
        409,
        "insufficient_balance",
        "Insufficient balance",
        "Wallet 3 has 20 GOLD, 30 needed.",
        walletId=3,
        balance=20,
        required=30,
        version=7,
    )
}
_SYSTEM = {
    "system": _problem(
        409,
        "system_wallet",
        "System wallet",
        "Wallet 1 belongs to the system: it moves only as the other side of a user's wallet.",
        walletId=1,
    )
}
_SYSTEM_ENTRIES = {
    "system": _problem(
        409,
        "system_wallet_entries",
        "System wallet",
        "Wallet 1 belongs to the system; its movements are read with the user wallets they are against.",
        walletId=1,
    )
}
_TOO_MUCH_THERE = {
    "bound": _problem(
        409,
        "balance_above_bound",
        "Balance would be too large",
        "Wallet 5 has 9007199254740990 GOLD; 120 more would exceed the largest balance, 9007199254740991, for which "
        "held funds count.",
        walletId=5,
        balance=9_007_199_254_740_990,
        amount=120,
        bound=9_007_199_254_740_991,
        version=2,
    )
}
_ASSETS_DIFFER = {
    "assets": _problem(
        422,
        "asset_mismatch",
        "Assets differ",
        "Wallet 3 has GOLD, wallet 4 has DIAMOND: a transfer is of one asset. "
        "Between two assets of one user, use an exchange.",
        walletIds=[3, 4],
        assets=["GOLD", "DIAMOND"],
    )
}
_SAME_WALLET = {
    "wallet": _problem(
        422, "same_wallet", "Same wallet", "Wallet 3 cannot be both sides: name two wallets.", walletId=3
    )
}
_USERS_DIFFER = {
    "users": _problem(
        422,
        "user_mismatch",
        "Users differ",
        "Wallets 3 and 6 belong to two users: this is between wallets of one.",
        walletIds=[3, 6],
    )
}
_NO_LEG = {
    "payer": _problem(
        422,
        "payer_without_leg",
        "Payer has no leg",
        "Wallet 3 is the payer of this, and none of its legs is of it.",
        walletId=3,
    )
}
_NO_RATE = {
    "rate": _problem(
        409,
        "no_exchange_rate",
        "No exchange rate",
        "There is no rate from GOLD to DIAMOND at the moment: give one, or have one configured.",
        assets=["GOLD", "DIAMOND"],
    )
}
_TOO_SMALL = {
    "small": _problem(
        409,
        "exchange_too_small",
        "Too little to exchange",
        "9 GOLD make less than 1 DIAMOND at a rate of 0.1.",
        amount=9,
        assets=["GOLD", "DIAMOND"],
        rate="0.1",
    )
}
_BODY = {"amount": _invalid("/amount", "invalid", "must be a whole number from 1 to 9007199254740991")}
_MISMATCH = {
    "mismatch": _problem(
        422,
        "reference_mismatch",
        "Reference was used for something else",
        "Reference 'order-1001' of wallet 3 already stands for another command: amount differs.",
        walletId=3,
        fields=["amount"],
    )
}
_NO_HOLD = {"hold": _problem(404, "hold_not_found", "Hold not found", f"There is no hold {_ID}.", holdId=_ID)}
_FINISHED = {
    "finished": _problem(
        409,
        "hold_finished",
        "Hold is finished",
        f"Hold {_ID} is released: nothing of it is held any more.",
        holdId=_ID,
        state="released",
    )
}
_OVER_CAPTURE = {
    "over": _problem(
        409,
        "over_capture",
        "More than is held",
        f"Hold {_ID} has 30 left, 40 cannot be captured.",
        holdId=_ID,
        remaining=30,
        amount=40,
    )
}
_SECONDS = {"expiresIn": _invalid("/expiresIn", "invalid", "must be a whole number from 1 to 2592000")}
_STATE = {
    "state": _invalid("/state", "invalid", "must be one of open, partially_captured, captured, released, expired")
}
_PATH = {"walletId": _invalid("/walletId", "invalid", "must be a whole number from 1")}
_OF_USER = {"userId": _invalid("/userId", "invalid", "must be a whole number from 1")}
_ASSET = {
    "asset": _invalid(
        "/asset", "invalid", "must be an asset's code, like GOLD: 2 to 32 capitals, digits and underscores"
    )
}
_NO_KEY = {
    "key": _problem(404, "key_not_found", "Key not found", "There is no key k3f6m2q7zt5a.", keyId="k3f6m2q7zt5a")
}
_KEYS_MAX = {
    "many": _problem(
        409,
        "too_many_keys",
        "Too many keys",
        "Client shop has 2 live keys (k3f6m2q7zt5a, p4w6y2c7hd3e), and may have 2: revoke one first.",
        client="shop",
        keyIds=["k3f6m2q7zt5a", "p4w6y2c7hd3e"],
    ),
    "client": _problem(
        409, "client_revoked", "Client is revoked", "Client shop is revoked: it gets no key any more.", client="shop"
    ),
}
_KEY_REVOKED = {
    "revoked": _problem(
        409, "key_revoked", "Key is revoked", "Key k3f6m2q7zt5a is revoked already.", keyId="k3f6m2q7zt5a"
    )
}
_QUERY = {"parameter": _invalid("/colour", "unknown_parameter", "is not a parameter of this resource")}
_LIMIT = {"limit": _invalid("/limit", "invalid", "must be a whole number from 1 to 100")}
_BUSY = {
    "busy": _problem(
        503,
        "wallet_busy",
        "Wallet is busy",
        "The wallet is held by another posting; nothing was posted. Repeat with the same reference.",
    ),
    "unknown": _problem(
        503,
        "outcome_unknown",
        "Outcome unknown",
        "The database did not confirm whether this was posted. "
        "Repeat with the same reference: it is posted once at most.",
    ),
}
_AWAY = {
    "away": _problem(
        503,
        "database_unavailable",
        "Database unavailable",
        "The database cannot be reached at the moment. Repeat the request in a second.",
    )
}


def _at(problems: dict[str, dict[str, Any]], index: int) -> dict[str, Any]:
    """Return the problems as those of an item of an atomic batch."""
    return {name: {**shown, "index": index} for name, shown in problems.items()}


_FORBIDDEN = {
    "scope": _problem(
        403, "forbidden", "Forbidden", "This credential does not have the scope wallets:spend.", scope="wallets:spend"
    ),
    "asset": _problem(
        403,
        "asset_not_allowed",
        "Asset not allowed",
        "This credential has nothing to do with DIAMOND.",
        asset="DIAMOND",
    ),
}
_GRANTS = {
    "scope": _problem(
        403, "forbidden", "Forbidden", "This credential does not have the scope wallets:spend.", scope="wallets:spend"
    ),
    "limit": _problem(
        403,
        "grants_too_much",
        "Key would allow too much",
        "This credential is limited to amounts of at most 1000, and so must be every key that it makes.",
        limit="amount",
    ),
}
_EVERYWHERE: dict[int, dict[str, Any]] = {
    401: {
        "absent": _problem(
            401,
            "unauthenticated",
            "Not authenticated",
            "This needs an API key, in the header `Authorization: Bearer dino_...`.",
        ),
        "unknown": _problem(
            401,
            "unauthenticated",
            "Not authenticated",
            "This API key is not known, or it has expired or was revoked.",
        ),
    },
    403: _FORBIDDEN,
    412: {
        "version": _problem(
            412,
            "version_mismatch",
            "Version does not match",
            "Wallet 3 is at version 8 with 470 GOLD, not at the version that was asked for. Read it again; a weak tag, "
            'like W/"7", never matches.',
            walletId=3,
            balance=470,
            version=8,
        )
    },
    413: {
        "large": _problem(
            413,
            "request_entity_too_large",
            "Request Entity Too Large",
            "The body is larger than this resource accepts.",
        )
    },
    415: {
        "type": _problem(
            415,
            "unsupported_media_type",
            "Unsupported Media Type",
            "The body must be sent as Content-Type: application/json.",
        )
    },
    429: {
        "limit": _problem(
            429,
            "too_many_requests",
            "Too Many Requests",
            "The limit of 120 requests per minute is used up; repeat after the time in Retry-After.",
        )
    },
}
_MOVEMENT: dict[int, dict[str, Any]] = {
    400: _UNREADABLE,
    404: _NO_WALLET,
    409: _SYSTEM,
    422: _BODY | _MISMATCH,
    503: _BUSY,
}
_READ: dict[int, dict[str, Any]] = {404: _NO_WALLET, 422: _PATH, 503: _AWAY}
PROBLEMS: dict[str, dict[int, dict[str, Any]]] = {
    "topUp": _EVERYWHERE | _MOVEMENT,
    "grantBonus": _EVERYWHERE | _MOVEMENT,
    "spend": _EVERYWHERE | _MOVEMENT | {409: _INSUFFICIENT | _SYSTEM},
    "placeHold": _EVERYWHERE | _MOVEMENT | {409: _INSUFFICIENT | _SYSTEM, 422: _BODY | _SECONDS | _MISMATCH},
    "captureHold": _EVERYWHERE | _MOVEMENT | {404: _NO_HOLD, 409: _FINISHED | _OVER_CAPTURE},
    "releaseHold": _EVERYWHERE | _MOVEMENT | {404: _NO_HOLD, 409: _FINISHED},
    "getHold": _EVERYWHERE | {404: _NO_HOLD, 422: _QUERY, 503: _AWAY},
    "listHolds": _EVERYWHERE | _READ | {400: _CURSOR, 409: _SYSTEM_ENTRIES, 422: _LIMIT | _STATE},
    "transfer": _EVERYWHERE
    | _MOVEMENT
    | {
        404: _NO_WALLET,
        409: _INSUFFICIENT | _TOO_MUCH_THERE | _SYSTEM,
        422: _BODY | _MISMATCH | _ASSETS_DIFFER | _SAME_WALLET,
    },
    "exchange": _EVERYWHERE
    | _MOVEMENT
    | {
        409: _INSUFFICIENT | _NO_RATE | _TOO_SMALL | _TOO_MUCH_THERE | _SYSTEM,
        422: _BODY | _MISMATCH | _USERS_DIFFER | _SAME_WALLET,
    },
    "purchase": _EVERYWHERE
    | _MOVEMENT
    | {
        409: _INSUFFICIENT | _TOO_MUCH_THERE | _SYSTEM,
        422: {"legs": _invalid("/legs", "invalid", "must have at least 1 item")} | _MISMATCH | _USERS_DIFFER | _NO_LEG,
    },
    "getWallet": _EVERYWHERE | _READ,
    "getBalance": _EVERYWHERE | _READ,
    "listEntries": _EVERYWHERE | _READ | {400: _CURSOR, 409: _SYSTEM_ENTRIES, 422: _LIMIT},
    "createUser": _EVERYWHERE
    | {
        400: _UNREADABLE,
        409: _TAKEN,
        422: {"name": _invalid("/name", "missing", "is required")},
        503: _AWAY,
    },
    "listKeys": _EVERYWHERE
    | {
        400: _CURSOR,
        422: _LIMIT | {"withRevoked": _invalid("/withRevoked", "invalid", "must be true or false")},
        503: _AWAY,
    },
    "createKey": _EVERYWHERE
    | {
        400: _UNREADABLE,
        403: _GRANTS,
        409: _KEYS_MAX,
        422: {
            "rateLimit": _invalid(
                "/rateLimit",
                "invalid",
                "must look like '600 per minute': a whole number, and second, minute, hour or day",
            ),
            "asset": _problem(
                422,
                "bad_key_settings",
                "Bad key settings",
                "There is no asset SILVER; there are DIAMOND, GOLD.",
            ),
        },
        503: _AWAY,
    },
    "getKey": _EVERYWHERE | {404: _NO_KEY, 422: _QUERY, 503: _AWAY},
    "rotateKey": _EVERYWHERE | {403: _GRANTS, 404: _NO_KEY, 409: _KEYS_MAX | _KEY_REVOKED, 422: _QUERY, 503: _AWAY},
    "revokeKey": _EVERYWHERE | {404: _NO_KEY, 422: _QUERY, 503: _AWAY},
    "createToken": _EVERYWHERE
    | {
        400: _UNREADABLE,
        404: _NO_USER,
        422: {"expiresIn": _invalid("/expiresIn", "invalid", "must be a whole number from 1 to 3600")},
        503: _AWAY,
    },
    "findUsers": _EVERYWHERE | {422: {"externalId": _invalid("/externalId", "missing", "is required")}, 503: _AWAY},
    "getUser": _EVERYWHERE | {404: _NO_USER, 422: _OF_USER, 503: _AWAY},
    "listAssets": _EVERYWHERE | {400: _CURSOR, 422: _LIMIT, 503: _AWAY},
    "createWallet": _EVERYWHERE | {400: _UNREADABLE, 404: _NO_USER | _NO_ASSET, 422: _OF_USER | _ASSET, 503: _AWAY},
    "listWallets": _EVERYWHERE | {400: _CURSOR, 404: _NO_USER | _NO_ASSET, 422: _OF_USER | _ASSET | _LIMIT, 503: _AWAY},
    "getTransaction": _EVERYWHERE | {404: _NO_TRANSACTION, 422: _QUERY, 503: _AWAY},
    "postBatch": _EVERYWHERE
    | {
        400: _UNREADABLE,
        403: _at(_FORBIDDEN, 1),
        404: _at(_NO_WALLET, 1),
        409: _at(_INSUFFICIENT | _SYSTEM, 1),
        412: _at(_EVERYWHERE[412], 1),
        415: {
            "type": _problem(
                415,
                "unsupported_media_type",
                "Unsupported Media Type",
                "The body must be sent as Content-Type: application/json or application/x-ndjson.",
            )
        },
        422: _at(_BODY | _MISMATCH, 1) | {"items": _invalid("/items", "invalid", "must have at most 1000 items")},
        503: _BUSY
        | {
            "overloaded": _problem(
                503,
                "overloaded",
                "Overloaded",
                "Too many batches are being posted; nothing was posted. Repeat with the same references.",
            )
        },
    },
}


def _batch(mode: str, *answers: dict[str, Any]) -> dict[str, Any]:
    items = [{"status": answer.get("status", 200), "body": answer} for answer in answers]
    refused = sum(item["status"] != 200 for item in items)
    return {
        "ok": True,
        "mode": mode,
        "done": len(items) - refused,
        "replayed": 0,
        "refused": refused,
        "items": items,
    }


def _lines(values: Iterable[object]) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


_TOPPED_UP = _movement("TOPUP", "topup-1001", 100, 600)
_SPENT = {**_movement("SPEND", "spend-1001", -30, 570), "version": 3, "seq": 3}
_REFUSED = _problem(
    409,
    "insufficient_balance",
    "Insufficient balance",
    "Wallet 3 has 600 GOLD, 700 needed.",
    walletId=3,
    balance=600,
    required=700,
    version=2,
)
_EACH = _batch("each", _TOPPED_UP, _REFUSED, _BODY["amount"])

ANSWERS["postBatch"] = {"each": _EACH, "atomic": _batch("atomic", _TOPPED_UP, _SPENT)}
LINES = {"postBatch": {"run": _lines([_TOP_UP, _TOO_MUCH, _MALFORMED])}}
ANSWER_LINES = {"postBatch": {"run": _lines({"index": index, **item} for index, item in enumerate(_EACH["items"]))}}

HEALTHY = {"connected": {"ok": True, "db_status": "connected", "time": "2026-01-31T12:00:00.000Z"}}
SICK = {"disconnected": {"ok": False, "db_status": "disconnected", "time": "2026-01-31T12:00:00.000Z"}}
