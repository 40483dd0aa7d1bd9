"""POST /exchanges."""

from __future__ import annotations

from flask import Response

from wallet_app.api.body import read_reference
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.schemas import ExchangeAnswer, ExchangeRequest
from wallet_app.web import origin


@operation(
    "POST",
    "/exchanges",
    tag="Between wallets",
    scope="wallets:transfer",
    request=ExchangeRequest,
    answer=ExchangeAnswer,
    problems=(400, 404, 409, 413, 415, 422, 429, 503),
)
def exchange() -> Response:
    """Turn credit of one asset into another one of the same user.

    Takes `amount` from `from` and gives `to` what it makes at the rate, rounded down to the smallest unit: the given
    `rate`, or without one the rate that is configured (409 `no_exchange_rate` if there is none). The applied rate is
    answered, by each repetition too, whatever is configured by then. 409 `exchange_too_small` if it would make nothing,
    `insufficient_balance` and `balance_above_bound`; 422 `user_mismatch` for wallets of two users. The reference is
    `from`'s. It may come as the Idempotency-Key header instead, raw or quoted.
    """
    body = read_command_body(ExchangeRequest)
    return perform(body.made(read_reference(body.reference_id), origin()))
