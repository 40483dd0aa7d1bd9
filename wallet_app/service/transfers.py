"""Transfers: from one user wallet to another of the same asset, through Clearing, which stays at zero."""

from __future__ import annotations

from wallet_app.errors import AssetMismatchError, SameWalletError
from wallet_app.service.books import Books, Plan, PlannedEntry
from wallet_app.service.commands import Transfer
from wallet_app.service.lot_rules import Draft
from wallet_app.service.movements import require_funds, require_room


def transfer(books: Books, command: Transfer) -> Plan:
    """Move the amount, or of it what there is, at least 1.

    It stays what it was: what was taken from a lot arrives as a lot of the same kind and end. Raises SameWalletError,
    AssetMismatchError, InsufficientBalanceError, BalanceAboveBoundError or TooManyLotsError.
    """
    source, target = books.wallet(command.wallet_id), books.wallet(command.to_wallet_id)
    if source.wallet_id == target.wallet_id:
        raise SameWalletError(source.wallet_id)
    if source.asset.id != target.asset.id:
        raise AssetMismatchError(
            wallet_ids=(source.wallet_id, target.wallet_id), assets=(source.asset.code, target.asset.code)
        )
    amount = command.amount
    if command.is_up_to:
        require_funds(source, 1)
        amount = min(amount, source.balance)
    require_funds(source, amount)
    require_room(target, amount)
    if source.has_lots:
        draft = Draft(books)
        taken = draft.debit(source.wallet_id, command.kind, amount, "Clearing")
        return Plan((taken, draft.credit(target.wallet_id, command.kind, "Clearing", draft.natures(taken))))
    return Plan(
        (
            PlannedEntry(source.wallet_id, command.kind, -amount, "Clearing"),
            PlannedEntry(target.wallet_id, command.kind, amount, "Clearing"),
        )
    )
