"""POST /purchases."""

from __future__ import annotations

from flask import Response

from wallet_app import access
from wallet_app.api.body import read_reference
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.schemas import PurchaseAnswer, PurchaseRequest
from wallet_app.web import origin


@operation(
    "POST",
    "/purchases",
    tag="Between wallets",
    scope=access.EACH_LEG,
    request=PurchaseRequest,
    answer=PurchaseAnswer,
    problems=(400, 404, 409, 413, 415, 422, 429, 503),
)
def purchase() -> Response:
    """Take a price and give what it buys: several movements of one user's wallets, all of them or none.

    `walletId` is the payer; the reference is the payer's, who has a leg too. Legs are decided in their order: what an
    earlier one brings, a later one may spend. Each needs the scope that its type needs alone; a key's largest amount
    holds for all that goes into a wallet, or out of it, together. 409 `insufficient_balance` or `balance_above_bound`
    names the wallet; 422 `user_mismatch` for wallets of two users, and `payer_without_leg`. The reference may come as
    the Idempotency-Key header instead, raw or quoted.
    """
    body = read_command_body(PurchaseRequest)
    return perform(body.made(read_reference(body.reference_id), origin()))
