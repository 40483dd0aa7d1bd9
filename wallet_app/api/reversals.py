"""POST /transactions/{id}/reversal and GET /wallets/{id}/debts."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import parameters, present
from wallet_app.api.body import read_reference, refuse_unknown_parameters
from wallet_app.api.commands import perform, read_command_body
from wallet_app.api.operations import operation
from wallet_app.api.reversal_schemas import DebtsAnswer, ReversalAnswer, ReversalRequest
from wallet_app.web import json_response, origin, permit


@operation(
    "POST",
    "/transactions/{transactionId}/reversal",
    tag="Transactions",
    scope="transactions:reverse",
    request=ReversalRequest,
    answer=ReversalAnswer,
    parameters=(parameters.TRANSACTION_ID,),
    problems=(400, 404, 409, 413, 415, 422, 429, 503),
)
def reverse_transaction(transaction_id: str) -> Response:
    """Reverse a transaction, or a part of it.

    New entries against the same other sides give back what it took and take back what it gave. Of one with a single
    movement, transfers included, `amount` names a part, as often as there is something left; one with several is
    reversed as a whole (422 `only_as_a_whole`). 409 `over_reversal`, with what `remaining` there is, for more than is
    left; 409 `not_reversible` for holds, releases and reversals. Of a capture, what it spent comes back to the balance.

    If a wallet has less than is to be taken back, `onShortfall` decides. "refuse": 409 `insufficient_balance`;
    and of several movements, if something that it brought has expired, 409 `brought_expired`, because nothing can be
    taken back for what would be given. With "debt" that is left out: what has expired is not owed.
    "partial": what is there is taken, at least 1, and the rest can still be reversed. "debt": what is there is taken,
    and the rest is owed; whatever raises the wallet's balance repays it at once, by reversals of their own. Between
    users there is no debt (422 `no_debt_between_users`).

    The reference counts under the reversed transaction's `walletId`. Safe to repeat, also when nothing is left: the
    same referenceId answers with the original reversal, and with what is left now. The reference may come as the
    Idempotency-Key header instead, raw or quoted.
    """
    found = parameters.transaction_id(transaction_id)
    body = read_command_body(ReversalRequest)
    reference = read_reference(body.reference_id)
    moved = service.find_moved_wallets([found]).get(found)
    return perform(body.made(found, moved, reference, origin()))


@operation(
    "GET",
    "/wallets/{walletId}/debts",
    tag="Wallets",
    scope="wallets:read",
    answer=DebtsAnswer,
    parameters=(parameters.WALLET_ID,),
    problems=(404, 409, 422, 429, 503),
)
def list_debts(wallet_id: str) -> Response:
    """List what a user wallet owes, the oldest debt first.

    Each is of an entry that was reversed when less was there than was to be taken back. The next credits repay them in
    this order.
    """
    refuse_unknown_parameters(())
    return json_response(present.debts(service.list_debts(parameters.wallet_id(wallet_id), permit=permit())))
