"""One good request for every route that is a command, one record for each type: so that a new one is not forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from flask.testing import FlaskClient

from tests.api.support import DOE_GOLD, JOHN_DIAMOND, JOHN_GOLD, new_reference
from wallet_app import records
from wallet_app.api.operations import OPERATIONS

Request = tuple[str, dict[str, Any]]
"""A path, and the body to post there."""


def _hold(client: FlaskClient) -> str:
    asked = {"walletId": JOHN_GOLD, "amount": 5, "expiresIn": 600, "referenceId": new_reference()}
    hold: str = client.post("/holds", json=asked).json["hold"]["holdId"]
    return hold


def _spent(client: FlaskClient) -> str:
    asked = {"amount": 5, "referenceId": new_reference()}
    transaction: str = client.post(f"/wallets/{JOHN_GOLD}/spend", json=asked).json["transactionId"]
    return transaction


_LEGS = [
    {"walletId": JOHN_GOLD, "type": "spend", "amount": 2},
    {"walletId": JOHN_DIAMOND, "type": "bonus", "amount": 1},
]


def _frozen(client: FlaskClient) -> int:
    body = {"side": "debits", "reason": "A test", "referenceId": new_reference()}
    assert client.post(f"/wallets/{JOHN_GOLD}/freeze", json=body).status_code == 200
    return JOHN_GOLD


def _empty(client: FlaskClient) -> int:
    user = client.post("/users", json={"name": "Ada", "externalId": new_reference()}).json["userId"]
    wallet: int = client.post("/wallets", json={"userId": user, "asset": "GOLD"}).json["walletId"]
    return wallet


def _lot(client: FlaskClient) -> str:
    asked = {"amount": 5, "expiresAt": "2099-12-31", "referenceId": new_reference()}
    lot: str = client.post(f"/wallets/{JOHN_GOLD}/bonus", json=asked).json["lotId"]
    return lot


REQUESTS: dict[str, Callable[[FlaskClient], Request]] = {
    "topUp": lambda _: (f"/wallets/{JOHN_GOLD}/topup", {"amount": 7}),
    "grantBonus": lambda _: (f"/wallets/{JOHN_GOLD}/bonus", {"amount": 7}),
    "spend": lambda _: (f"/wallets/{JOHN_GOLD}/spend", {"amount": 7}),
    "transfer": lambda _: ("/transfers", {"from": JOHN_GOLD, "to": DOE_GOLD, "amount": 7}),
    "exchange": lambda _: ("/exchanges", {"from": JOHN_GOLD, "to": JOHN_DIAMOND, "amount": 7, "rate": "1"}),
    "purchase": lambda _: ("/purchases", {"walletId": JOHN_GOLD, "legs": _LEGS}),
    "placeHold": lambda _: ("/holds", {"walletId": JOHN_GOLD, "amount": 7, "expiresIn": 600}),
    "captureHold": lambda client: (f"/holds/{_hold(client)}/capture", {"amount": 3, "final": True}),
    "releaseHold": lambda client: (f"/holds/{_hold(client)}/release", {}),
    "reverseTransaction": lambda client: (
        f"/transactions/{_spent(client)}/reversal",
        {"amount": 3, "reason": "a test"},
    ),
    "extendLot": lambda client: (f"/lots/{_lot(client)}/extend", {"expiresAt": "2100-01-01", "reason": "A test"}),
    "revokeLot": lambda client: (f"/lots/{_lot(client)}/revoke", {"reason": "A test"}),
    "freezeWallet": lambda _: (f"/wallets/{JOHN_GOLD}/freeze", {"side": "credits", "reason": "A test"}),
    "unfreezeWallet": lambda client: (f"/wallets/{_frozen(client)}/unfreeze", {"reason": "A test"}),
    "closeWallet": lambda client: (f"/wallets/{_empty(client)}/close", {"reason": "A test"}),
}
"""By operation: each does something to wallet JOHN_GOLD, which is its anchor. The reference is still to be named."""
OF_NO_ENTRY = {"freezeWallet", "unfreezeWallet", "freeze", "unfreeze", "extendLot", "extend"}
"""Operations and types that move nothing: the wallet has the same version before and after."""
OF_ANOTHER = {"closeWallet", "close"}
"""Operations and types whose anchor is an empty wallet of its own: it moves nothing, either."""

RECORDS: dict[str, Callable[[FlaskClient], dict[str, Any]]] = {
    "topup": lambda _: {"walletId": JOHN_GOLD, "amount": 7},
    "bonus": lambda _: {"walletId": JOHN_GOLD, "amount": 7},
    "spend": lambda _: {"walletId": JOHN_GOLD, "amount": 7},
    "transfer": lambda _: {"from": JOHN_GOLD, "to": DOE_GOLD, "amount": 7},
    "exchange": lambda _: {"from": JOHN_GOLD, "to": JOHN_DIAMOND, "amount": 7, "rate": "1"},
    "purchase": lambda _: {"walletId": JOHN_GOLD, "legs": _LEGS},
    "hold": lambda _: {"walletId": JOHN_GOLD, "amount": 7, "expiresIn": 600},
    "capture": lambda client: {"holdId": _hold(client), "amount": 3, "final": True},
    "release": lambda client: {"holdId": _hold(client)},
    "reversal": lambda client: {"transactionId": _spent(client), "amount": 3, "reason": "a test"},
    "extend": lambda client: {"lotId": _lot(client), "expiresAt": "2100-01-01", "reason": "A test"},
    "revoke": lambda client: {"lotId": _lot(client), "reason": "A test"},
    "freeze": lambda _: {"walletId": JOHN_GOLD, "side": "credits", "reason": "A test"},
    "unfreeze": lambda client: {"walletId": _frozen(client), "reason": "A test"},
    "close": lambda client: {"walletId": _empty(client), "reason": "A test"},
}
"""By type: as a batch, a line or a file has it. The reference is still to be named."""


def request_of(client: FlaskClient, operation: str) -> Request:
    """Return a request that the operation accepts, under a new reference."""
    path, body = REQUESTS[operation](client)
    return path, {**body, "referenceId": new_reference()}


def record_of(client: FlaskClient, kind: str) -> dict[str, Any]:
    """Return a record that is accepted, under a new reference."""
    return {"type": kind, **RECORDS[kind](client), "referenceId": new_reference()}


def test_every_route_that_is_a_command_is_here() -> None:
    assert set(REQUESTS) == {one.operation_id for one in OPERATIONS if is_command(one)}


OF_PEOPLE = {"ADJUSTMENT"}
"""Kinds that have neither a route nor a record, for good: they correct the books, and four eyes need people."""


def test_no_route_and_no_record_does_what_is_for_people() -> None:
    names = {name.upper() for name in (*REQUESTS, *RECORDS)}
    assert not [name for name in names for kind in OF_PEOPLE if kind.startswith(name) or name.startswith("ADJUST")]


def test_every_type_of_record_is_here() -> None:
    assert set(RECORDS) == {get_args(one.model_fields["type"].annotation)[0] for one in get_args(records.AnyRecord)}


def is_command(operation: Any) -> bool:
    """Tell whether the operation is one that a reference stands for."""
    return operation.request is not None and "reference_id" in operation.request.model_fields
