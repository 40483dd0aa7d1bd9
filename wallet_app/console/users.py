"""A user: who it is, and all that is theirs."""

from __future__ import annotations

from flask import Response, request

from wallet_app import service
from wallet_app.console import pages
from wallet_app.console.screens import screen
from wallet_app.fields import read_user_id

_WALLETS_MAX = 100


@screen("GET", "/users/<int:user_id>", permission="wallets:read")
def user(user_id: int) -> Response:
    """Show it, with its wallets."""
    found = service.get_user(read_user_id(str(user_id)))
    after = request.args.get("after", "")
    wallets = service.list_wallets(
        user_id=found.user_id,
        asset_code=None,
        after_id=int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None,
        limit=_WALLETS_MAX,
    )
    shown = wallets[:_WALLETS_MAX]
    return pages.page(
        "user.html",
        user=found,
        wallets=shown,
        stopped_by=[each for each in service.list_stops_of(user_id=found.user_id) if each.target == "user"],
        next_url=f"/console/users/{found.user_id}?after={shown[-1].wallet_id}" if len(wallets) > len(shown) else None,
    )
