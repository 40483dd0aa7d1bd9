"""GET /wallets/{id}/limits: what bounds a wallet, and how much of it is used."""

from __future__ import annotations

from typing import Any

from flask import Response

from wallet_app import service
from wallet_app.api import parameters
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.limit_schemas import LimitsAnswer
from wallet_app.api.operations import operation
from wallet_app.api.present import instant
from wallet_app.money import json_integer
from wallet_app.service import LIMIT_FIGURES, LimitsView
from wallet_app.web import json_response, permit

_LEVELS = {"asset": "asset", "user_type": "userType", "wallet": "wallet", "raise": "raise"}


@operation(
    "GET",
    "/wallets/{walletId}/limits",
    tag="Wallets",
    scope="wallets:read",
    answer=LimitsAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=(404, 409, 422, 429, 503),
)
def get_limits(wallet_id: str) -> Response:
    """Read a wallet's limits.

    What one command may move at once (`single`), what the wallet may have (`balance`), and what it may spend on a
    calendar day of its asset (`day`) and within 24 hours (`rolling`), each with what is used of it; null where nothing
    is limited. Spends, transfers and exchanges out of the wallet count, and what is held, from when it is placed: its
    capture counts no more. What is released, expires or is reversed is given back to the hour in which it was spent.
    Spending is counted by the hour: of the 24 hours the oldest counts as a whole until it is over. A command above a
    limit is refused with 409 `limit_exceeded`, which names the limit, what is used, and when there is room for it.
    """
    refuse_unknown_parameters(())
    return json_response(
        {"ok": True, **_presented(service.get_limits(parameters.wallet_id(wallet_id), permit=permit()))}
    )


def _presented(view: LimitsView) -> dict[str, Any]:
    return {
        "walletId": view.wallet_id,
        "userId": view.user_id,
        "asset": {"code": view.asset_code, "name": view.asset_name},
        "version": view.version,
        "timeZone": view.time_zone,
        "asOf": instant(view.as_of),
        "limits": {name: _limit(view, name, bound) for name, bound in zip(LIMIT_FIGURES, view.limits.now, strict=True)},
        "raisedUntil": None if view.raised is None else instant(view.raised.until),
    }


def _limit(view: LimitsView, name: str, bound: int | None) -> dict[str, Any] | None:
    if bound is None:
        return None
    limit: dict[str, Any] = {"max": bound, "setFor": _LEVELS[view.set_for[name]]}
    if name == "single":
        return limit
    if name == "balance":
        return limit | {"used": view.total, "left": max(0, bound - view.total)}
    window = view.day if name == "day" else view.rolling
    return limit | {
        "used": json_integer(window.used),
        "left": max(0, bound - window.used),
        "frees": json_integer(window.frees),
        "freesAt": None if window.frees_at is None else instant(window.frees_at),
    }
