"""GET /transactions, and GET /transactions/{id}."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, filters, parameters, present
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.reading_schemas import TransactionsAnswer
from wallet_app.api.schemas import TransactionAnswer
from wallet_app.web import json_response, permit


@operation(
    "GET",
    "/transactions",
    tag="Transactions",
    scope="transactions:read",
    answer=TransactionsAnswer,
    parameters=(filters.OF_WALLET, filters.KIND, *filters.COMMON, parameters.LIMIT),
    problems=(400, 404, 409, 422, 429, 503),
)
def list_transactions() -> Response:
    """List transactions, newest first.

    Of one wallet, with those that wrote it no entry, or of all; those that all the filters hold for. While there are
    more, the answer has `next`: repeat the request with the query parameter `cursor` set to it. New transactions do not
    shift the pages. Each page looks at 2,000 transactions at most: with a rare filter it may have few items or none
    while `next` says that there may be more. Over all wallets, `actor` and `metadataKey` without `reference` are looked
    for in at most 31 days (422 `bad_filter`), and what is posted at the moment may still come in behind the newest. A
    `reference` is found among all transactions by an index; while the service's worker is far behind with it, it needs
    a range of 31 days as well. A user token lists the transactions of one wallet at a time.
    """
    refuse_unknown_parameters(("walletId", "kind", *filters.COMMON_NAMES, "limit", "cursor"))
    wallet, asked, limit = parameters.of_wallet(), filters.filters_of_transactions(), parameters.limit()
    before = parameters.places(service.places_of(wallet), "transactions", wallet, asked)
    page = service.list_transactions(asked, wallet_id=wallet, before=before, limit=limit, permit=permit())
    bound = ("transactions", wallet, asked)
    following = {} if page.following is None else {"next": cursor.make_at(page.following, *bound)}
    found = [present.listed_transaction(view) for view in page.items]
    return json_response({"ok": True, "transactions": found, **following})


@operation(
    "GET",
    "/transactions/{transactionId}",
    tag="Transactions",
    scope="transactions:read",
    answer=TransactionAnswer,
    parameters=(parameters.TRANSACTION_ID,),
    problems=(404, 422, 429, 503),
)
def get_transaction(transaction_id: str) -> Response:
    """Read a transaction with its entries and legs."""
    refuse_unknown_parameters(())
    found = service.get_transaction(parameters.transaction_id(transaction_id), permit=permit())
    return json_response(present.transaction(found))
