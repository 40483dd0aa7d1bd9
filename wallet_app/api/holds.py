"""POST /holds, /holds/{id}/capture and /release; GET /holds/{id} and the holds of a wallet."""

from __future__ import annotations

import uuid

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, parameters, present
from wallet_app.api.body import read_reference, refuse_unknown_parameters
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.schemas import (
    CaptureRequest,
    HoldMovementAnswer,
    HoldReadAnswer,
    HoldRequest,
    HoldsAnswer,
    ReleaseRequest,
)
from wallet_app.config import current_settings
from wallet_app.errors import HoldNotFoundError
from wallet_app.fields import is_final
from wallet_app.web import json_response, origin, permit

_PROBLEMS = (400, 404, 409, 413, 415, 422, 429, 503)


@operation(
    "POST",
    "/holds",
    tag="Holds",
    scope="holds:write",
    request=HoldRequest,
    answer=HoldMovementAnswer,
    creates=True,
    problems=_PROBLEMS,
)
def place_hold() -> Response:
    """Hold an amount of a wallet.

    It leaves the balance at once, and comes back when it is released, or when its time is over, to the microsecond: a
    hold that was not captured by then has expired. 409 `insufficient_balance` if the wallet has less, 409
    `too_many_holds` if it has 200 open holds. Safe to repeat: the same referenceId on the same wallet answers with the
    same hold, as it stands now. The reference may come as the Idempotency-Key header instead, raw or quoted.
    """
    body = read_command_body(HoldRequest)
    return perform(
        service.PlaceHold(
            wallet_id=body.wallet_id,
            reference=read_reference(body.reference_id),
            origin=origin(),
            amount=body.amount,
            expires_in=body.expires_in,
            seconds_max=current_settings().hold_seconds_max,
            **body.details(),
        )
    )


@operation(
    "POST",
    "/holds/{holdId}/capture",
    tag="Holds",
    scope="holds:write",
    request=CaptureRequest,
    answer=HoldMovementAnswer,
    parameters=(parameters.HOLD_ID,),
    problems=_PROBLEMS,
)
def capture_hold(hold_id: str) -> Response:
    """Spend what is held, or a part of it.

    Without an amount it is all that is held, and the end. With one, the rest stays held for further captures, 100 in
    all, unless this one is `final`: then the rest is given back. 409 `over_capture` for more than is held; 409
    `hold_finished`, with the hold's `state`, once nothing is held any more. Safe to repeat, also then: the same
    referenceId on the same wallet answers with the original transaction, and with the hold as it stands now.
    """
    found = parameters.hold_id(hold_id)
    body = read_command_body(CaptureRequest)
    final = is_final(body.amount, body.final)
    reference = read_reference(body.reference_id)
    return perform(
        service.CaptureHold(
            wallet_id=_wallet_of(found),
            hold_id=found,
            reference=reference,
            origin=origin(),
            amount=body.amount,
            is_final=final,
            **body.details(),
        )
    )


@operation(
    "POST",
    "/holds/{holdId}/release",
    tag="Holds",
    scope="holds:write",
    request=ReleaseRequest,
    answer=HoldMovementAnswer,
    parameters=(parameters.HOLD_ID,),
    problems=_PROBLEMS,
)
def release_hold(hold_id: str) -> Response:
    """Give back what is held.

    409 `hold_finished`, with the hold's `state`, once nothing is held any more. Safe to repeat, also then: the same
    referenceId on the same wallet answers with the original transaction, and with the hold as it stands now.
    """
    found = parameters.hold_id(hold_id)
    body = read_command_body(ReleaseRequest)
    reference = read_reference(body.reference_id)
    return perform(
        service.ReleaseHold(
            wallet_id=_wallet_of(found), hold_id=found, reference=reference, origin=origin(), **body.details()
        )
    )


@operation(
    "GET",
    "/holds/{holdId}",
    tag="Holds",
    scope="wallets:read",
    answer=HoldReadAnswer,
    parameters=(parameters.HOLD_ID,),
    problems=(404, 422, 429, 503),
)
def get_hold(hold_id: str) -> Response:
    """Read a hold."""
    refuse_unknown_parameters(())
    view = service.get_hold(parameters.hold_id(hold_id), permit=permit())
    return json_response({"ok": True, **present.listed_hold(view)})


@operation(
    "GET",
    "/wallets/{walletId}/holds",
    tag="Holds",
    scope="wallets:read",
    answer=HoldsAnswer,
    parameters=(parameters.WALLET_ID, parameters.IN_STATE, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_holds(wallet_id: str) -> Response:
    """List a user wallet's holds, newest first.

    All of them, or those in one state. While there are more, the answer has `next`: repeat the request with the query
    parameter `cursor` set to it. New holds do not shift the pages.
    """
    refuse_unknown_parameters(("state", "limit", "cursor"))
    wallet, state, limit = parameters.wallet_id(wallet_id), parameters.in_state(), parameters.limit()
    before = parameters.cursor("holds", wallet, state)
    found = service.list_holds(wallet, state=state, before_seq=before, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make(page[-1].hold.seq, "holds", wallet, state)} if len(found) > limit else {}
    return json_response(
        {"ok": True, "walletId": wallet, "holds": [present.listed_hold(view) for view in page], **following}
    )


def _wallet_of(hold_id: uuid.UUID) -> int:
    """Return the hold's wallet, by a plain read: it never has another one. Raises HoldNotFoundError."""
    try:
        return service.find_hold_wallets([hold_id])[hold_id]
    except KeyError:
        raise HoldNotFoundError(str(hold_id)) from None
