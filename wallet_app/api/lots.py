"""GET /wallets/{id}/lots and /lots/{id}; POST /lots/{id}/extend and /revoke."""

from __future__ import annotations

import uuid

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, parameters, present_lots
from wallet_app.api.body import read_reference, refuse_unknown_parameters
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.lot_schemas import (
    ExtendAnswer,
    ExtendRequest,
    LotAnswer,
    LotsAnswer,
    RevokeAnswer,
    RevokeRequest,
)
from wallet_app.api.operations import operation
from wallet_app.errors import LotNotFoundError
from wallet_app.web import json_response, origin, permit

_PROBLEMS = (400, 404, 409, 413, 415, 422, 429, 503)


@operation(
    "GET",
    "/wallets/{walletId}/lots",
    tag="Lots",
    scope="wallets:read",
    answer=LotsAnswer,
    parameters=(parameters.WALLET_ID, parameters.LOT_STATE, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_lots(wallet_id: str) -> Response:
    """List a user wallet's lots.

    A lot is what one grant brought, with what became of it; bonus without an end lies in one standing lot. Those that
    have something left, `open`, in the order in which they are spent, or `all`, the newest first. Paid credit has no
    lots, unless the asset lets it expire. While there are more, the answer has `next`: repeat the request with the
    query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("state", "limit", "cursor"))
    wallet, state, limit = parameters.wallet_id(wallet_id), parameters.lot_state(), parameters.limit()
    after = parameters.places(4, "lots", wallet, state)
    found = service.list_lots(wallet, state=state, after=after, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make_at(page[-1].place, "lots", wallet, state)} if len(found) > limit else {}
    return json_response(
        {"ok": True, "walletId": wallet, "lots": [present_lots.listed_lot(view) for view in page], **following}
    )


@operation(
    "GET",
    "/lots/{lotId}",
    tag="Lots",
    scope="wallets:read",
    answer=LotAnswer,
    parameters=(parameters.LOT_ID,),
    problems=(404, 422, 429, 503),
)
def get_lot(lot_id: str) -> Response:
    """Read a lot."""
    refuse_unknown_parameters(())
    view = service.get_lot(parameters.lot_id(lot_id), permit=permit())
    return json_response({"ok": True, **present_lots.listed_lot(view)})


@operation(
    "POST",
    "/lots/{lotId}/extend",
    tag="Lots",
    scope="lots:write",
    request=ExtendRequest,
    answer=ExtendAnswer,
    parameters=(parameters.LOT_ID,),
    problems=_PROBLEMS,
)
def extend_lot(lot_id: str) -> Response:
    """Let a lot live longer.

    `expiresAt` is later than before: an instant, or a day at whose end in the asset's time zone it is over. What has
    expired already stays so: 409 `lot_finished` for a lot of which nothing is left. No entry is made, so the wallet's
    version stays. Safe to repeat: the same referenceId on the same wallet answers with the original transaction, and
    with the lot as it stands now.
    """
    found = parameters.lot_id(lot_id)
    body = read_command_body(ExtendRequest)
    reference = read_reference(body.reference_id)
    return perform(body.made(found, _wallet_of(found), reference, origin()))


@operation(
    "POST",
    "/lots/{lotId}/revoke",
    tag="Lots",
    scope="lots:write",
    request=RevokeRequest,
    answer=RevokeAnswer,
    parameters=(parameters.LOT_ID,),
    problems=_PROBLEMS,
)
def revoke_lot(lot_id: str) -> Response:
    """Take back one grant.

    Other credit of the wallet is not touched: what the grant still has is taken. If a part of it was used already,
    `onShortfall` decides, as for a reversal. "refuse": 409, nothing happens. "partial": what is left of it is taken, at
    least 1. "debt": what is left of it is taken, and the rest is owed. Together with a reversal of the same bonus it
    never takes more than was granted. Safe to repeat: the same referenceId on the same wallet answers with the original
    transaction, and with the lot as it stands now.
    """
    found = parameters.lot_id(lot_id)
    body = read_command_body(RevokeRequest)
    reference = read_reference(body.reference_id)
    return perform(body.made(found, _wallet_of(found), reference, origin()))


def _wallet_of(lot_id: uuid.UUID) -> int:
    """Return the lot's wallet, by a plain read: it never has another one. Raises LotNotFoundError."""
    try:
        return service.find_lot_wallets([lot_id])[lot_id]
    except KeyError:
        raise LotNotFoundError(str(lot_id)) from None
