"""POST /wallets, GET /wallets; GET /wallets/{id}, its balance and its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, filters, parameters, present
from wallet_app.api.body import read_body, refuse_unknown_parameters
from wallet_app.api.operations import created, operation
from wallet_app.api.schemas import (
    BalanceAnswer,
    EntriesAnswer,
    MadeWalletAnswer,
    WalletAnswer,
    WalletRequest,
    WalletsAnswer,
)
from wallet_app.web import json_response, permit

_PROBLEMS = (404, 422, 429, 503)


@operation(
    "POST",
    "/wallets",
    scope="wallets:write",
    tag="Wallets",
    request=WalletRequest,
    answer=MadeWalletAnswer,
    creates=True,
    dry_run=True,
    problems=(400, 404, 413, 415, 422, 429, 503),
)
def create_wallet() -> Response:
    """Make a user's wallet of an asset.

    It begins empty. Safe to repeat: a user has one wallet of an asset, and where there is one it is answered with 200.
    """
    body = read_body(WalletRequest, parameters=("dryRun",))
    dry_run = parameters.dry_run()
    make = service.preview_wallet if dry_run else service.create_wallet
    view, is_new = make(user_id=body.user_id, asset_code=body.asset, permit=permit())
    return created(f"/wallets/{view.wallet_id}", present.wallet(view), is_new=is_new, dry_run=dry_run)


@operation(
    "GET",
    "/wallets",
    scope="wallets:read",
    tag="Wallets",
    answer=WalletsAnswer,
    parameters=(parameters.OF_USER, parameters.OF_ASSET, parameters.LIMIT),
    problems=(400, 404, 422, 429, 503),
)
def list_wallets() -> Response:
    """List the wallets of users, in the order in which they were made.

    Those of one user, of one asset, or all. While there are more, the answer has `next`: repeat the request with the
    query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("userId", "asset", "limit", "cursor"))
    user, asset, limit = parameters.of_user(), parameters.of_asset(), parameters.limit()
    after = parameters.cursor("wallets", user, asset)
    found = service.list_wallets(user_id=user, asset_code=asset, after_id=after, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make(page[-1].wallet_id, "wallets", user, asset)} if len(found) > limit else {}
    return json_response({"ok": True, "wallets": [present.wallet(view) for view in page], **following})


@operation(
    "GET",
    "/wallets/{walletId}",
    tag="Wallets",
    scope="wallets:read",
    answer=WalletAnswer,
    tells_version=True,
    parameters=(parameters.WALLET_ID,),
    problems=_PROBLEMS,
)
def get_wallet(wallet_id: str) -> Response:
    """Read a wallet."""
    refuse_unknown_parameters(())
    view = service.get_wallet(parameters.wallet_id(wallet_id), permit=permit())
    return json_response({"ok": True, **present.wallet(view)}, headers=_tagged(view))


@operation(
    "GET",
    "/wallets/{walletId}/balance",
    tag="Wallets",
    scope="wallets:read",
    answer=BalanceAnswer,
    tells_version=True,
    parameters=(parameters.WALLET_ID, filters.AT),
    problems=(404, 409, 422, 429, 503),
)
def get_balance(wallet_id: str) -> Response:
    """Read a wallet's balance, as it is or as it was.

    With `at` it is what this would have answered at that instant: by the entries' `createdAt`, exact to the
    microsecond, also for what holds kept then. Before its first entry a wallet had 0, at version 0. 422 `instant_ahead`
    for the future, 409 for a wallet of the system.
    """
    refuse_unknown_parameters(("at",))
    wallet, instant = parameters.wallet_id(wallet_id), filters.at()
    if instant is None:
        view = service.get_wallet(wallet, permit=permit())
        return json_response({"ok": True, **present.balance(view)}, headers=_tagged(view))
    view = service.get_wallet_at(wallet, instant, permit=permit())
    return json_response({"ok": True, **present.balance_at(view, instant)}, headers=_tagged(view))


@operation(
    "GET",
    "/wallets/{walletId}/entries",
    tag="Wallets",
    scope="wallets:read",
    answer=EntriesAnswer,
    parameters=(parameters.WALLET_ID, filters.TYPE, *filters.COMMON, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_entries(wallet_id: str) -> Response:
    """List a user wallet's entries, newest first.

    All of them, or those that all the filters hold for. While there are more, the answer has `next`: repeat the request
    with the query parameter `cursor` set to it. New entries do not shift the pages. Each page looks at 2,000 entries at
    most: with a rare filter it may have few items or none while `next` says that there may be more.
    """
    refuse_unknown_parameters(("type", *filters.COMMON_NAMES, "limit", "cursor"))
    wallet, asked, limit = parameters.wallet_id(wallet_id), filters.filters_of_entries(), parameters.limit()
    if not asked.has_any:
        return _all_entries(wallet, limit)
    before = parameters.places(2, "entries", wallet, asked)
    page = service.find_entries(wallet, asked, before=before, limit=limit, permit=permit())
    following = {} if page.following is None else {"next": cursor.make_at(page.following, "entries", wallet, asked)}
    return _entries(wallet, page.items, following)


def _all_entries(wallet: int, limit: int) -> Response:
    before = parameters.cursor("entries", wallet)
    found = service.list_entries(wallet, before_seq=before, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make(page[-1].entry.seq, "entries", wallet)} if len(found) > limit else {}
    return _entries(wallet, page, following)


def _entries(wallet: int, page: Sequence[service.EntryView], following: Mapping[str, str]) -> Response:
    return json_response(
        {"ok": True, "walletId": wallet, "entries": [present.listed_entry(view) for view in page], **following}
    )


def _tagged(view: service.WalletView) -> dict[str, str]:
    """Return the version as the header that If-Match takes; a SYSTEM wallet has none."""
    return {"ETag": present.tag(view.version)} if view.user_type == "USER" else {}
