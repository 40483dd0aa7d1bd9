"""Explain this balance, and statements: the sums that make a balance up, to be pasted, printed or taken along."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from flask import Response

from wallet_app import service
from wallet_app.console import exports, pages, words
from wallet_app.console.asked import Asked
from wallet_app.console.screens import screen
from wallet_app.console.wallets import head
from wallet_app.fields import read_wallet_id
from wallet_app.service import EntryView, Explanation, SumOfType

STATEMENT_ROWS_MAX = 1_000
"""How many entries a statement shows as a page; as a file it has all."""

COLUMNS = ("created_at", "entry_type", "amount", "balance", "asset", "reference", "note", "transaction_id")


@screen("GET", "/wallets/<int:wallet_id>/explain", permission="wallets:read")
def explain(wallet_id: int) -> Response:
    """Show what makes up the balance, from the first entry or an instant to now."""
    asked = Asked("from")
    since = asked.begin("from")
    found = service.explain_balance(read_wallet_id(str(wallet_id)), since=since)
    now = dt.datetime.now(dt.UTC)
    return pages.page(
        "explain.html",
        422 if asked.errors else 200,
        **head(found.wallet),
        asked=asked,
        explained=found,
        since=since,
        sentence=sentence(found, since, now),
        entries_max=service.EXPLAINED_MAX,
    )


@screen("GET", "/wallets/<int:wallet_id>/statement", permission="wallets:read")
def statement(wallet_id: int) -> Response:
    """Show a period: the balance before, the entries, the balance after."""
    asked = Asked("from", "to")
    since, until = _period(asked)
    found = _explained(wallet_id, asked, since, until)
    is_long = found.reach.high - found.reach.low >= STATEMENT_ROWS_MAX
    path = f"/console/wallets/{wallet_id}/statement"
    return pages.page(
        "statement.html",
        422 if asked.errors else 200,
        **head(found.wallet),
        asked=asked,
        # Without a choice, the form shows the days that were taken.
        period={"from": asked.values["from"] or f"{since:%Y-%m-%d}", "to": asked.values["to"] or f"{until:%Y-%m-%d}"},
        since=since,
        until=until,
        made_at=dt.datetime.now(dt.UTC),
        explained=found,
        entries=() if is_long or asked.errors else list(service.walk_statement(wallet_id, found.reach)),
        is_long=is_long,
        rows_max=STATEMENT_ROWS_MAX,
        csv_url=asked.url(f"{path}.csv"),
        json_url=asked.url(f"{path}.json"),
    )


@screen("GET", f"/wallets/<int:wallet_id>/statement.<{exports.FORMS}:form>", permission="reports:export")
def statement_file(wallet_id: int, form: str) -> Response:
    """The statement as a file, with a line for the balance before and one for the balance after."""
    asked = Asked("from", "to")
    since, until = _period(asked)
    found = _explained(wallet_id, asked, since, until)
    if asked.errors:
        return pages.page("bad_filter.html", 422, asked=asked, back=f"/console/wallets/{wallet_id}/statement")
    entries = service.walk_statement(wallet_id, found.reach)
    told = {"from": service.instant_text(since), "to": service.instant_text(until)}
    rows = _rows(found, entries, since, until)
    return exports.export(form, f"statement-{wallet_id}", COLUMNS, rows, filters=told)


def _explained(wallet_id: int, asked: Asked, since: dt.datetime, until: dt.datetime) -> Explanation:
    """Return what a period's entries make; where they are too many to be added up, that stands in `asked`."""
    found = service.explain_balance(read_wallet_id(str(wallet_id)), since=since, until=until)
    if found.is_cut:
        asked.errors["from"] = "This period has more entries than can be added up: choose a later day to begin with."
    return found


def sentence(found: Explanation, since: dt.datetime | None, now: dt.datetime) -> str:
    """Return the explanation as text for a ticket."""
    wallet, scale = found.wallet, found.wallet.asset_scale
    begun = (
        f"Wallet {wallet.wallet_id} ({wallet.asset_code} of {words.isolated(wallet.user_name)}, user {wallet.user_id})"
    )
    end = f"{words.amount(found.closing, scale)} {wallet.asset_code} on {words.absolute(now)}, version {wallet.version}"
    if not found.entries:
        return f"{begun} has {end}; nothing was moved{f' since {words.absolute(since)}' if since else ' ever'}."
    if since is None and not found.is_cut:
        began = f"0 before its first entry{_on(found.opened_at)}"
    else:
        began = f"{words.amount(found.opening, scale)} before{_on(found.opened_at if found.is_cut else since)[3:]}"
    parts = [began, *[_part(one, scale) for one in found.sums]]
    more = [
        f"{words.amount(amount, scale)} {what}"
        for amount, what in ((wallet.held, "held"), (wallet.owed, "owed"))
        if amount
    ]
    beside = f" Beside the balance: {', '.join(more)}." if more else ""
    return f"{begun} has {end}: {', '.join(parts)}.{beside}"


def _on(instant: dt.datetime | None) -> str:
    return "" if instant is None else f" on {words.absolute(instant)}"


def _part(one: SumOfType, scale: int) -> str:
    count = f"{one.entries:,} {'entry' if one.entries == 1 else 'entries'}"
    return f"{words.amount(one.amount, scale, signed=True)} by {words.kind(one.entry_type).lower()} ({count})"


def _period(asked: Asked) -> tuple[dt.datetime, dt.datetime]:
    """Return from when until when; without a choice, this month so far."""
    now = dt.datetime.now(dt.UTC)
    since, until = asked.period()
    until = until or now
    if since is None:
        since = (min(until, now) - dt.timedelta(microseconds=1)).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
    if since > until and not asked.errors:
        asked.errors["to"] = "Enter a day that is not before the first one."
    return since, until


def _rows(
    found: Explanation, entries: Iterator[EntryView], since: dt.datetime, until: dt.datetime
) -> Iterator[tuple[object, ...]]:
    wallet = found.wallet
    scale, code = wallet.asset_scale, wallet.asset_code

    def edge(instant: dt.datetime, what: str, balance: int) -> tuple[object, ...]:
        return instant, what, None, words.plain_amount(balance, scale), code, None, None, None

    yield edge(since, "OPENING_BALANCE", found.opening)
    for view in entries:
        entry = view.entry
        moved, after = words.plain_amount(entry.amount, scale), words.plain_amount(entry.balance_after, scale)
        told = (code, view.reference, view.note, str(view.transaction_id))
        yield (entry.created_at, entry.entry_type, moved, after, *told)
    yield edge(until, "CLOSING_BALANCE", found.closing)
