"""What a wallet's page shows the first of: all its open holds, and all that it owes. Both are bounded."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.console import pages
from wallet_app.console.asked import places_text, read_places
from wallet_app.console.screens import screen
from wallet_app.console.wallets import head, may_release
from wallet_app.errors import SystemEntriesError
from wallet_app.fields import read_wallet_id
from wallet_app.service import WalletView

PAGE = 50


@screen("GET", "/wallets/<int:wallet_id>/holds", permission="wallets:read")
def wallet_holds(wallet_id: int) -> Response:
    """Show all holds that are open on the wallet, newest first."""
    found = _user_wallet(wallet_id)
    below = read_places("before", 1)
    holds = [each for each in service.list_open_holds(wallet_id) if below is None or each.hold.seq < below[0]]
    path = f"/console/wallets/{wallet_id}/holds"
    return pages.page(
        "holds.html",
        **head(found),
        holds=holds[:PAGE],
        can_release=may_release(),
        next_url=f"{path}?before={places_text([holds[PAGE - 1].hold.seq])}" if len(holds) > PAGE else None,
        first_url=path if below is not None else None,
    )


@screen("GET", "/wallets/<int:wallet_id>/debts", permission="wallets:read")
def wallet_debts(wallet_id: int) -> Response:
    """Show for which entries the wallet owes, in the order in which its next credits repay them."""
    found = _user_wallet(wallet_id)
    after = read_places("after", 1)
    debts = list(service.list_debts(wallet_id).debts)
    # Where that debt is repaid meanwhile, from the first one on again.
    begin = next((place for place, each in enumerate(debts, 1) if after is not None and each.entry.seq == after[0]), 0)
    path = f"/console/wallets/{wallet_id}/debts"
    page = debts[begin : begin + PAGE]
    return pages.page(
        "debts.html",
        **head(found),
        debts=page,
        next_url=f"{path}?after={places_text([page[-1].entry.seq])}" if len(debts) > begin + PAGE else None,
        first_url=path if begin else None,
    )


def _user_wallet(wallet_id: int) -> WalletView:
    """Return a user's wallet; the system's own have neither. Raises WalletNotFoundError, SystemEntriesError."""
    found = service.get_wallet(read_wallet_id(str(wallet_id)))
    if found.user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return found
