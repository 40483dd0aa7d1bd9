"""POST /wallets/{id}/topup, /bonus and /spend."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import parameters
from wallet_app.api.body import read_reference
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.lot_schemas import BonusRequest
from wallet_app.api.operations import operation
from wallet_app.api.schemas import MovementAnswer, MovementRequest
from wallet_app.web import origin

_PROBLEMS = (400, 404, 409, 413, 415, 422, 429, 503)


@operation(
    "POST",
    "/wallets/{walletId}/topup",
    tag="Movements",
    scope="wallets:topup",
    request=MovementRequest,
    answer=MovementAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def top_up(wallet_id: str) -> Response:
    """Top up a wallet with paid credit.

    Safe to repeat: the same referenceId on the same wallet answers with the original transaction and changes nothing.
    The reference may come as the Idempotency-Key header instead, raw or quoted.
    """
    return _move(service.TopUp, wallet_id)


@operation(
    "POST",
    "/wallets/{walletId}/bonus",
    tag="Movements",
    scope="wallets:bonus",
    request=BonusRequest,
    answer=MovementAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def grant_bonus(wallet_id: str) -> Response:
    """Grant a wallet a bonus.

    `expiresAt` says until when it can be spent: an instant, or a day at whose end in the asset's time zone it is over.
    Null: for ever; without it, as the asset's `bonusDays` say. 409 `lot_end_passed` for what would be over by now, 409
    `too_many_lots` if the wallet has 10,000 grants with something left. What expires first is spent first.

    Safe to repeat: the same referenceId on the same wallet answers with the original transaction and changes nothing.
    The reference may come as the Idempotency-Key header instead, raw or quoted.
    """
    anchor = parameters.wallet_id(wallet_id)
    body = read_command_body(BonusRequest)
    reference = read_reference(body.reference_id)
    return perform(
        service.Bonus(
            wallet_id=anchor,
            reference=reference,
            origin=origin(),
            amount=body.amount,
            **body.end(),
            **body.details(),
        )
    )


@operation(
    "POST",
    "/wallets/{walletId}/spend",
    tag="Movements",
    scope="wallets:spend",
    request=MovementRequest,
    answer=MovementAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def spend(wallet_id: str) -> Response:
    """Spend from a wallet.

    409 `insufficient_balance` if the wallet has less; the reference is then still free. Safe to repeat: the same
    referenceId on the same wallet answers with the original transaction and changes nothing. The reference may come as
    the Idempotency-Key header instead, raw or quoted.
    """
    return _move(service.Spend, wallet_id)


def _move(command: type[service.Movement], wallet_id: str) -> Response:
    anchor = parameters.wallet_id(wallet_id)
    body = read_command_body(MovementRequest)
    reference = read_reference(body.reference_id)
    return perform(
        command(wallet_id=anchor, reference=reference, origin=origin(), amount=body.amount, **body.details())
    )
