"""All transactions, narrowed by what is known of them, and that as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flask import Response

from wallet_app import service
from wallet_app.console import exports, pages, words
from wallet_app.console.asked import Asked, places_text, read_places
from wallet_app.console.screens import screen
from wallet_app.errors import BadFilterError, NotFoundError, SystemEntriesError, WalletServiceError
from wallet_app.fields import read_wallet_id
from wallet_app.service import Filters, TransactionView, WalletView

PATH = "/console/transactions"
PAGE = 50
NAMES = ("kind", "from", "to", "least", "most", "reference", "actor", "key", "value", "wallet")
COLUMNS = (
    "created_at",
    "transaction_id",
    "kind",
    "wallet_id",
    "reference",
    "client",
    "actor",
    "request_id",
    "entry_wallet_id",
    "entry_type",
    "asset",
    "scale",
    "amount",
    "balance_after",
    "seq",
    "reason",
    "note",
    "metadata",
    "occurred_at",
)
_NO_FILTERS = Filters()


@screen("GET", "/transactions", permission="wallets:read")
def transactions() -> Response:
    """Show those that pass the filters, newest first."""
    asked = Asked(*NAMES)
    wallet = _read_wallet(asked)
    filters = _read_filters(asked, wallet)
    wallet_id = None if wallet is None else wallet.wallet_id
    before = read_places("before", service.places_of(wallet_id))
    page = None
    try:
        if not asked.errors:
            page = service.list_transactions(filters, wallet_id=wallet_id, before=before, limit=PAGE)
    except (BadFilterError, SystemEntriesError) as error:
        asked.errors[_place_of(error)] = error.detail
    following = None if page is None else page.following
    return pages.page(
        "transactions.html",
        422 if asked.errors else 200,
        asked=asked,
        wallet=wallet,
        kinds=[(kind, words.kind(kind)) for kind in service.kinds()],
        found=() if page is None else page.items,
        scales=service.asset_scales(),
        next_url=None if following is None else asked.url(PATH, before=places_text(following)),
        first_url=asked.url(PATH) if before is not None else None,
        csv_url=asked.url(f"{PATH}.csv"),
        json_url=asked.url(f"{PATH}.json"),
    )


@screen("GET", f"/transactions.<{exports.FORMS}:form>", permission="reports:export")
def transactions_file(form: str) -> Response:
    """All that pass the filters as a file, a row for each entry, and one for a transaction that has none."""
    asked = Asked(*NAMES)
    wallet = _read_wallet(asked)
    filters = _read_filters(asked, wallet)
    wallet_id = None if wallet is None else wallet.wallet_id
    told = {name: value for name, value in asked.values.items() if value}
    try:
        if not asked.errors:
            rows = _rows(service.walk_transactions(filters, wallet_id=wallet_id), service.asset_scales())
            return exports.export(form, "transactions", COLUMNS, rows, filters=told)
    except (BadFilterError, SystemEntriesError) as error:
        asked.errors[_place_of(error)] = error.detail
    return pages.page("bad_filter.html", 422, asked=asked, back=asked.url(PATH))


def _read_wallet(asked: Asked) -> WalletView | None:
    """Return the wallet that is asked for; what is wrong stands in `asked`."""
    if not asked.values["wallet"]:
        return None
    try:
        return service.get_wallet(read_wallet_id(asked.values["wallet"]))
    except (ValueError, NotFoundError):
        asked.errors["wallet"] = "There is no such wallet: enter its number."
        return None


def _read_filters(asked: Asked, wallet: WalletView | None) -> Filters:
    """Return the filters; what is wrong stands in `asked`."""
    since, until = asked.period()
    least, most = asked.amounts(0 if wallet is None else wallet.asset_scale)
    try:
        return Filters(
            kind=asked.choice("kind", service.kinds()),
            created_from=since,
            created_to=until,
            amount_min=least,
            amount_max=most,
            reference=asked.line("reference", low=3),
            actor=asked.line("actor"),
            metadata_key=asked.line("key", high=64),
            metadata_value=asked.line("value", high=500),
        )
    except BadFilterError as error:
        asked.errors["key"] = error.detail
        return _NO_FILTERS


def _place_of(error: WalletServiceError) -> str:
    return "wallet" if isinstance(error, SystemEntriesError) else "from"


def _rows(found: Iterator[TransactionView], scales: Mapping[str, int]) -> Iterator[tuple[object, ...]]:
    for view in found:
        posted = view.transaction
        head = (
            posted.created_at,
            str(posted.transaction_id),
            posted.kind,
            posted.wallet_id,
            posted.reference,
            posted.client,
            posted.actor,
            posted.request_id,
        )
        tail = (view.reason, view.note, view.metadata, posted.occurred_at)
        for entry in posted.entries:
            code = view.asset_codes[entry.wallet_id]
            amounts = entry.amount, entry.balance_after
            yield (*head, entry.wallet_id, entry.entry_type, code, scales.get(code), *amounts, entry.seq, *tail)
        if not posted.entries:
            yield (*head, *(None,) * 7, *tail)
