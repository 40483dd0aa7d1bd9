"""POST /wallets/{id}/freeze, /unfreeze and /close."""

from __future__ import annotations

from flask import Response

from wallet_app.api import parameters
from wallet_app.api.body import read_reference
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.state_schemas import CloseRequest, FreezeRequest, StateAnswer, UnfreezeRequest
from wallet_app.web import origin

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
    `unfreeze`; a side that is frozen already gets the new end, the other one stays as it is. The wallet's version
    stays, too. Safe to repeat: the same referenceId on the same wallet answers with the original transaction,
    and with the wallet as it stands now. The reference may come as the Idempotency-Key header instead, raw or quoted.
    """
    return _perform(FreezeRequest, wallet_id)


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
    `/switches`. Safe to repeat, as all that has a referenceId.
    """
    return _perform(UnfreezeRequest, wallet_id)


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
    of the asset, and gets none. Safe to repeat, as all that has a referenceId.
    """
    return _perform(CloseRequest, wallet_id)


def _perform(model: type[FreezeRequest | UnfreezeRequest | CloseRequest], wallet_id: str) -> Response:
    anchor = parameters.wallet_id(wallet_id)
    body = read_command_body(model)
    return perform(body.made(anchor, read_reference(body.reference_id), origin()))
