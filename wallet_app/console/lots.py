"""Lots: those of a wallet, one with what happened to it, and what ends soon in all wallets."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

from flask import Response, request

from wallet_app import service
from wallet_app.console import exports, navigation, pages, phrases, subjects
from wallet_app.console.asked import Asked, places_text, read_places
from wallet_app.console.browser import session
from wallet_app.console.screens import screen
from wallet_app.console.wallets import head
from wallet_app.fields import read_wallet_id

PAGE = 50
STATES = {"open": "With something left", "all": "All"}
"""The tabs of a wallet's lots, by what stands in the address."""
EXPIRING = "/console/expiring"
COLUMNS = (
    "expires_at",
    "wallet_id",
    "user_id",
    "user_name",
    "asset",
    "scale",
    "kind",
    "available",
    "granted",
    "lot_id",
)


@screen("GET", "/wallets/<int:wallet_id>/lots", permission="wallets:read")
def wallet_lots(wallet_id: int) -> Response:
    """Show the wallet's lots by pages: the next that are taken first, or all, the newest first."""
    found = service.get_wallet(read_wallet_id(str(wallet_id)))
    state = request.args.get("state", "open")
    state = state if state in STATES else "open"
    after = read_places("after", 4)
    lots = service.list_lots(wallet_id, state=state, after=after, limit=PAGE)
    path = f"/console/wallets/{wallet_id}/lots"
    has_more = len(lots) > PAGE
    return pages.page(
        "lots.html",
        **head(found),
        lots=lots[:PAGE],
        state=state,
        tabs=[(name, label, f"{path}?state={name}") for name, label in STATES.items()],
        next_url=f"{path}?state={state}&after={places_text(lots[PAGE - 1].place)}" if has_more else None,
        first_url=f"{path}?state={state}" if after is not None else None,
    )


@screen("GET", "/lots/<uuid:lot_id>", permission="wallets:read")
def lot(lot_id: uuid.UUID) -> Response:
    """Show how a lot stands and what happened to it."""
    subject = subjects.lot(lot_id)
    found = subject.lot.lot
    acts = [("extend", "Extend"), ("revoke", "Revoke")] if found.seq and found.left else []
    urls = [(f"/console/lots/{lot_id}/{verb}", label) for verb, label in acts]
    return pages.page(
        "lot.html",
        **{**head(subject.wallet), "actions": [each for each in urls if navigation.may_open(session(), each[0])]},
        view=subject.lot,
        lot=found,
        ends=phrases.of_lot_end(found.expires_at),
        events=service.list_lot_events(lot_id),
        events_max=service.LOT_EVENTS_MAX,
        names=service.list_actor_names(),
    )


@screen("GET", "/expiring", permission="wallets:read")
def expiring() -> Response:
    """Show how much of each asset ends soon, and the wallets of which most does."""
    asked = Asked("asset", "days")
    assets = service.list_expiring_assets()
    code = asked.choice("asset", [each.code for each in assets]) if assets else None
    days = asked.choice("days", [str(each) for each in service.EXPIRING_DAYS])
    chosen = next((each for each in assets if each.code == code), assets[0] if assets else None)
    within = int(days) if days else service.EXPIRING_DAYS[-1]
    query = urlencode({} if chosen is None else {"asset": chosen.code, "days": within})
    return pages.page(
        "expiring.html",
        assets=assets,
        chosen=chosen,
        days=within,
        days_choices=service.EXPIRING_DAYS,
        wallets=[] if chosen is None else service.list_expiring_wallets(chosen.code, days=within),
        wallets_max=service.EXPIRING_WALLETS_MAX,
        csv_url=f"{EXPIRING}.csv?{query}",
        json_url=f"{EXPIRING}.json?{query}",
    )


@screen("GET", f"/expiring.<{exports.FORMS}:form>", permission="reports:export")
def expiring_file(form: str) -> Response:
    """Send every lot that ends within the days as a file, the soonest end first; without an asset, of all assets."""
    asked = Asked("asset", "days")
    code = asked.choice("asset", sorted(service.asset_scales()))
    days = asked.choice("days", [str(each) for each in service.EXPIRING_DAYS]) or str(service.EXPIRING_DAYS[-1])
    if asked.errors:
        return pages.page("bad_filter.html", 422, asked=asked, back=EXPIRING)
    rows = (lot[: len(COLUMNS)] for lot in service.walk_expiring_lots(code, days=int(days)))
    told = {"days": days} if code is None else {"asset": code, "days": days}
    return exports.export(form, "expiring", COLUMNS, rows, filters=told)
