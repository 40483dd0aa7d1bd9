"""POST /transfers."""

from __future__ import annotations

from flask import Response

from wallet_app.api.body import read_reference
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.schemas import TransferAnswer, TransferRequest
from wallet_app.web import origin


@operation(
    "POST",
    "/transfers",
    tag="Between wallets",
    scope="wallets:transfer",
    request=TransferRequest,
    answer=TransferAnswer,
    problems=(400, 404, 409, 413, 415, 422, 429, 503),
)
def transfer() -> Response:
    """Move credit from one wallet to another of the same asset.

    Both sides happen, or neither does. With `{"upTo": amount}` as `amount`, what there is moves, but at least 1; the
    answer tells how much, and so does each repetition. 409 `insufficient_balance` if `from` has less, and
    `balance_above_bound` if `to` would have too much; 422 `asset_mismatch` for wallets of two assets and `same_wallet`
    for one wallet. The reference is `from`'s: the same referenceId on the same `from` answers with the original
    transaction and changes nothing. It may come as the Idempotency-Key header instead, raw or quoted.
    """
    body = read_command_body(TransferRequest)
    return perform(body.made(read_reference(body.reference_id), origin()))
