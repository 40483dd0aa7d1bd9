"""POST /wallets/{id}/freeze, /unfreeze and /close."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import parameters, present
from wallet_app.api.body import read_body, read_reference
from wallet_app.api.operations import operation
from wallet_app.api.schemas_states import CloseRequest, FreezeRequest, StateAnswer, UnfreezeRequest
from wallet_app.web import json_response, origin

_PROBLEMS = (400, 404, 409, 413, 415, 422, 429, 503)


@operation(
    "POST",
    "/wallets/{walletId}/freeze",
    tag="Stop switches",
    scope="wallets:freeze",
    request=FreezeRequest,
    answer=StateAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def freeze_wallet(wallet_id: str) -> Response:
    """Freeze a wallet.

    Nothing leaves it any more (`debits`), or comes into it (`credits`), or neither (`both`): 409 `wallet_not_active`
    names the side. What comes back from its holds is its own, and is not stopped. It ends with `until`, or by an
    `unfreeze`; a side that is frozen already gets the new end, the other one stays as it is. The reason is the
    transaction's `note`. Safe to repeat: the same referenceId on the same wallet answers with the original transaction,
    and with the wallet as it stands now. The reference may come as the Idempotency-Key header instead, raw or quoted.
    """
    anchor = parameters.wallet_id(wallet_id)
    body = read_body(FreezeRequest)
    return _answer(
        service.Freeze(
            wallet_id=anchor,
            reference=read_reference(body.reference_id),
            origin=origin(),
            side=body.side,
            until=body.until,
            note=body.reason,
        )
    )


@operation(
    "POST",
    "/wallets/{walletId}/unfreeze",
    tag="Stop switches",
    scope="wallets:freeze",
    request=UnfreezeRequest,
    answer=StateAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def unfreeze_wallet(wallet_id: str) -> Response:
    """Unfreeze a wallet.

    Both sides, or the one that is named. 409 `wallet_not_frozen` if that is not frozen now; a switch is lifted at
    `/switches`. The reason is the transaction's `note`. Safe to repeat, as all that has a referenceId.
    """
    anchor = parameters.wallet_id(wallet_id)
    body = read_body(UnfreezeRequest)
    reference = read_reference(body.reference_id)
    return _answer(
        service.Unfreeze(wallet_id=anchor, reference=reference, origin=origin(), side=body.side, note=body.reason)
    )


@operation(
    "POST",
    "/wallets/{walletId}/close",
    tag="Stop switches",
    scope="wallets:close",
    request=CloseRequest,
    answer=StateAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def close_wallet(wallet_id: str) -> Response:
    """Close a wallet, for good.

    Only an empty one: 409 `wallet_not_empty` while it has or holds anything. A closed wallet takes no new command, 409
    `wallet_closed`; what was accepted before is still answered, and all of it can be read. Its user has no other wallet
    of the asset, and gets none. The reason is the transaction's `note`. Safe to repeat, as all that has a referenceId.
    """
    anchor = parameters.wallet_id(wallet_id)
    body = read_body(CloseRequest)
    reference = read_reference(body.reference_id)
    return _answer(service.Close(wallet_id=anchor, reference=reference, origin=origin(), note=body.reason))


def _answer(command: service.Command) -> Response:
    receipt = service.execute(command)
    return json_response(present.receipt(receipt), headers=present.replay_headers(receipt))
