"""A wallet: how it stands, what happened to it, and that as a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Response
from markupsafe import Markup

from wallet_app import service
from wallet_app.console import charts, exports, limits, navigation, pages, requests, system_wallets, words
from wallet_app.console.asked import Asked, places_text, read_places
from wallet_app.console.browser import session
from wallet_app.console.charts import Series
from wallet_app.console.screens import screen
from wallet_app.fields import read_wallet_id
from wallet_app.service import Filters, Happening, Point, RequestView, WalletView

PAGE = 50
SHOWN = 10
"""How many lots, open holds and debts the wallet's page shows; each has a page with all of them."""
TIMELINE = "#timeline"
"""Where the timeline begins: who goes on in it is not led back to the top of the page."""
NAMES = ("kind", "from", "to", "least", "most", "reference")
COLUMNS = (
    "created_at",
    "kind",
    "entry_type",
    "asset",
    "scale",
    "amount",
    "balance_after",
    "seq",
    "transaction_id",
    "reference",
    "client",
    "actor",
    "reason",
    "note",
    "occurred_at",
)

_ACTIONS = (
    ("adjust", "Adjust"),
    ("transfer", "Transfer"),
    ("freeze", "Freeze"),
    ("unfreeze", "Unfreeze"),
    ("close", "Close"),
)


@screen("GET", "/wallets/<int:wallet_id>", permission="wallets:read")
def wallet(wallet_id: int) -> Response:
    """Show how it stands, and its timeline as far as the filters go.

    Who narrows the timeline, or goes on in it, looks for something there: what else the wallet has is left out.
    """
    found = service.get_wallet(read_wallet_id(str(wallet_id)))
    if found.user_type == "SYSTEM":
        return system_wallets.page_of(found)
    asked = Asked(*NAMES)
    filters = read_filters(asked, found)
    before = read_places("before", 2)
    page = None
    if not asked.errors:
        page = service.list_timeline(wallet_id, filters, before=before, limit=PAGE)
    following = None if page is None else page.following
    path = f"/console/wallets/{wallet_id}"
    is_whole = before is None and not asked.has_any
    return pages.page(
        "wallet.html",
        422 if asked.errors else 200,
        **head(found),
        stopped_by=service.list_stops_of(user_id=found.user_id, asset_code=found.asset_code),
        pending=_pending(wallet_id),
        is_whole=is_whole,
        **(_what_else(found) if is_whole else {}),
        names=service.list_actor_names(),
        asked=asked,
        kinds=[(kind, words.kind(kind)) for kind in service.kinds()],
        happenings=() if page is None else page.items,
        next_url=None if following is None else asked.url(path, before=places_text(following)) + TIMELINE,
        first_url=asked.url(path) + TIMELINE if before is not None else None,
        csv_url=asked.url(f"{path}.csv"),
        json_url=asked.url(f"{path}.json"),
    )


def _what_else(found: WalletView) -> dict[str, Any]:
    holds, holds_in_all = service.newest_open_holds(found.wallet_id, limit=SHOWN) if found.held else ((), 0)
    debts = service.list_debts(found.wallet_id).debts if found.owed else ()
    # Only where something ends: what else is in lots, the balance's own line tells.
    ends = _has_ends(found)
    lots = service.list_lots(found.wallet_id, state="open", after=None, limit=SHOWN)[:SHOWN] if ends else ()
    return {
        **limits.shown(found.wallet_id),
        "chart": balance_chart(found, service.list_points(found)) if found.version else None,
        "holds": holds,
        "holds_in_all": holds_in_all,
        "can_release": may_release(),
        "lots": lots,
        "debts": debts[:SHOWN],
        "debts_in_all": len(debts),
    }


@screen("GET", f"/wallets/<int:wallet_id>.<{exports.FORMS}:form>", permission="reports:export")
def wallet_file(wallet_id: int, form: str) -> Response:
    """The timeline, as far as the filters go, as a file."""
    found = service.get_wallet(read_wallet_id(str(wallet_id)))
    asked = Asked(*NAMES)
    filters = read_filters(asked, found)
    if asked.errors:
        return pages.page("bad_filter.html", 422, asked=asked, back=asked.url(f"/console/wallets/{wallet_id}"))
    rows = _rows(found, service.walk_timeline(wallet_id, filters))
    told = {name: value for name, value in asked.values.items() if value}
    return exports.export(form, f"wallet-{wallet_id}", COLUMNS, rows, filters=told)


def may_release() -> bool:
    """Whether the operator may release holds."""
    return navigation.may_open(session(), f"/console/holds/{uuid.UUID(int=0)}/release")


def _has_ends(found: WalletView) -> bool:
    return found.expiring.next_at is not None or found.expiring.over + found.expiring.over_back > 0


def _pending(wallet_id: int) -> Sequence[tuple[RequestView, str]]:
    """Return the requests that wait about the wallet, each with what it asks for; none for who may not see them."""
    if not session().may("approvals:read"):
        return ()
    return [(one, requests.in_words(one)) for one in service.pending_of_wallet(wallet_id)]


def head(found: WalletView) -> dict[str, Any]:
    """Return what every page of a wallet shows at its top: the wallet, and what the operator may do with it."""
    path = f"/console/wallets/{found.wallet_id}"
    actions = [(f"{path}/{verb}", label) for verb, label in _ACTIONS if _is_possible(found, verb)]
    return {
        "wallet": found,
        "actions": [(url, label) for url, label in actions if navigation.may_open(session(), url)],
        # What is due comes back first, and repays what is owed.
        "available": found.available,
    }


def _is_possible(found: WalletView, verb: str) -> bool:
    if found.user_type == "SYSTEM" or found.status == "CLOSED":
        return False
    return verb != "unfreeze" or found.status == "FROZEN"


def read_filters(asked: Asked, found: WalletView) -> Filters:
    """Return the filters of the wallet's timeline; what is wrong stands in `asked`."""
    since, until = asked.period()
    least, most = asked.amounts(found.asset_scale)
    return Filters(
        kind=asked.choice("kind", service.kinds()),
        created_from=since,
        created_to=until,
        amount_min=least,
        amount_max=most,
        reference=asked.line("reference", low=3),
    )


def balance_chart(found: WalletView, points: Sequence[Point]) -> Markup:
    """Return the wallet's balance over time, up to now or its last entry."""
    first, last = points[0].instant, max(points[-1].instant, found.updated_at)
    span = (last - first).total_seconds() or 1
    form = "%-d %b %Y" if span > 2 * 86_400 else "%-d %b, %H:%M UTC"
    return charts.line_chart(
        "Balance over time",
        [words.absolute(point.instant) for point in points],
        [Series("Balance", [point.balance for point in points])],
        scale=found.asset_scale,
        unit=found.asset_code,
        below=[f"{first:{form}}", f"{last:{form}}"],
        places=[(point.instant - first).total_seconds() / span for point in points],
        is_step=True,
    )


def _rows(found: WalletView, happenings: Iterator[Happening]) -> Iterator[tuple[object, ...]]:
    for view, entry in ((one.view, one.entry) for one in happenings):
        transaction = view.transaction
        yield (
            transaction.created_at,
            transaction.kind,
            entry.entry_type if entry else None,
            found.asset_code,
            found.asset_scale,
            entry.amount if entry else None,
            entry.balance_after if entry else None,
            entry.seq if entry else None,
            str(transaction.transaction_id),
            transaction.reference,
            transaction.client,
            transaction.actor,
            view.reason,
            view.note,
            transaction.occurred_at,
        )
