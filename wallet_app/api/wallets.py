"""GET /wallets/{id}, its balance and its entries."""

from __future__ import annotations

from flask import Response, request

from wallet_app import service
from wallet_app.api import cursor, parameters, present
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.schemas import BalanceAnswer, EntriesAnswer, WalletAnswer
from wallet_app.web import json_response, permit

_PROBLEMS = (404, 422, 429, 503)


@operation(
    "GET",
    "/wallets/{walletId}",
    tag="Wallets",
    scope="wallets:read",
    answer=WalletAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def get_wallet(wallet_id: str) -> Response:
    """Read a wallet."""
    refuse_unknown_parameters(())
    return json_response(present.wallet(service.get_wallet(parameters.wallet_id(wallet_id), permit=permit())))


@operation(
    "GET",
    "/wallets/{walletId}/balance",
    tag="Wallets",
    scope="wallets:read",
    answer=BalanceAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def get_balance(wallet_id: str) -> Response:
    """Read a wallet's balance."""
    refuse_unknown_parameters(())
    return json_response(present.balance(service.get_wallet(parameters.wallet_id(wallet_id), permit=permit())))


@operation(
    "GET",
    "/wallets/{walletId}/entries",
    tag="Wallets",
    scope="wallets:read",
    answer=EntriesAnswer,
    parameters=(parameters.WALLET_ID, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_entries(wallet_id: str) -> Response:
    """List a user wallet's entries, newest first.

    While there are more, the answer has `next`: repeat the request with the query parameter `cursor` set to it. New
    entries do not shift the pages.
    """
    refuse_unknown_parameters(("limit", "cursor"))
    wallet, limit = parameters.wallet_id(wallet_id), parameters.limit()
    given = request.args.get("cursor")
    before = None if given is None else cursor.read(given, "entries", wallet)
    found = service.list_entries(wallet, before_seq=before, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make(page[-1].entry.seq, "entries", wallet)} if len(found) > limit else {}
    return json_response(
        {"ok": True, "walletId": wallet, "entries": [present.listed_entry(view) for view in page], **following}
    )
