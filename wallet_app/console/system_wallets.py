"""A SYSTEM wallet by day: what came in, what went out, its balance at the end; and the entries of one day."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress

from flask import Response, request
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import charts, exports, pages, words
from wallet_app.console.charts import Series
from wallet_app.console.screens import screen
from wallet_app.fields import read_wallet_id
from wallet_app.service import SystemDays, WalletView

ROWS = 31
ENTRIES = 50
COLUMNS = ("day", "asset", "entries", "opening", "incoming", "outgoing", "closing")

_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def page_of(wallet: WalletView) -> Response:
    """Return the page of a SYSTEM wallet, newest days first."""
    before = _day(request.args.get("before", ""))
    found = service.list_system_days(wallet.wallet_id, before=before, limit=ROWS)
    path = f"/console/wallets/{wallet.wallet_id}"
    return pages.page(
        "system_wallet.html",
        wallet=found.wallet,
        found=found,
        chart=_chart(found) if found.days else None,
        next_url=None if found.following is None else f"{path}?before={found.following}",
        first_url=None if before is None else path,
        csv_url=f"{path}/days.csv",
        json_url=f"{path}/days.json",
    )


@screen("GET", f"/wallets/<int:wallet_id>/days.<{exports.FORMS}:form>", permission="reports:export")
def system_days_file(wallet_id: int, form: str) -> Response:
    """All days of a SYSTEM wallet as a file, newest first."""
    wallet = _system_wallet(wallet_id)
    return exports.export(form, f"days-{wallet_id}", COLUMNS, _rows(wallet))


@screen("GET", "/wallets/<int:wallet_id>/days/<day>", permission="wallets:read")
def system_day(wallet_id: int, day: str) -> Response:
    """Show one day of a SYSTEM wallet: by type, and its entries, newest first."""
    chosen = _day(day)
    if chosen is None:
        raise NotFound
    _system_wallet(wallet_id)
    found = service.list_system_days(wallet_id, since=chosen, before=chosen + dt.timedelta(days=1), limit=1)
    below = None
    with suppress(ValueError):
        below = uuid.UUID(request.args["before"]) if "before" in request.args else None
    page = service.list_day_entries(wallet_id, chosen, below=below, limit=ENTRIES)
    path = f"/console/wallets/{wallet_id}/days/{chosen}"
    return pages.page(
        "system_day.html",
        wallet=found.wallet,
        day=found.days[0] if found.days else None,
        chosen=chosen,
        late_since=found.late_since,
        types=service.list_types_of_day(wallet_id, chosen),
        entries=page.entries,
        next_url=None if page.following is None else f"{path}?before={page.following}",
        first_url=None if below is None else path,
    )


def _system_wallet(wallet_id: int) -> WalletView:
    """Return the wallet; to a user's there is no such page."""
    found = service.get_wallet(read_wallet_id(str(wallet_id)))
    if found.user_type != "SYSTEM":
        raise NotFound
    return found


def _chart(found: SystemDays) -> Markup:
    """Return what came in and went out, oldest first, as a picture."""
    days = found.days[::-1]
    moved = [Series("In", [each.incoming for each in days]), Series("Out", [each.outgoing for each in days])]
    labels = [f"{each.day:%-d %b}" for each in days]
    return charts.bar_chart(
        "In and out by day", labels, moved, scale=found.wallet.asset_scale, unit=found.wallet.asset_code
    )


def _day(value: str) -> dt.date | None:
    """Return the day; None for anything else."""
    with suppress(ValueError):
        # The calendar's last day has none after it.
        return min(dt.date.fromisoformat(value), dt.date(9999, 12, 30)) if _DAY.fullmatch(value) else None
    return None


def _rows(wallet: WalletView) -> Iterator[tuple[object, ...]]:
    before: dt.date | None = None
    while True:
        found = service.list_system_days(wallet.wallet_id, before=before, limit=service.DAYS_MAX)
        for each in found.days:
            amounts = (each.opening, each.incoming, each.outgoing, each.closing)
            told = [words.plain_amount(one, wallet.asset_scale) for one in amounts]
            yield each.day.isoformat(), wallet.asset_code, each.entries, *told
        if found.following is None:
            return
        before = found.following
