"""Reversals: a transaction is undone by new entries against the same other sides, as a whole or in part, once at most.

Each entry of it has a bound of its own: what was reversed and what is owed make the entry's amount at most. A debt is
what was not there to be taken back. It is no balance below zero but a memo beside the ledger, and whatever raises the
wallet's balance repays it, in the same unit of work. So who owes something has nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wallet_app.errors import (
    MissingScopeError,
    NoDebtBetweenUsersError,
    NotReversibleError,
    OnlyAsAWholeError,
    OverReversalError,
    TooManyDebtsError,
)
from wallet_app.service.adjustments import Adjust
from wallet_app.service.books import Books, Entry, Plan, PlannedEntry, PostedTransaction, ReversedEntry, ReversedPart
from wallet_app.service.commands import SYSTEM_REFERENCE, Origin, RepayDebt, ReverseTransaction
from wallet_app.service.movements import require_funds, require_room

REVERSIBLE = ("TOPUP", "BONUS", "SPEND", "SEED", "CAPTURE", "TRANSFER", "EXCHANGE", "PURCHASE", "ADJUSTMENT")
"""The kinds of transactions that can be reversed. A hold ends by itself, or is released; a reversal is final."""

DEBTS_MAX = 100
"""For how many entries a wallet may owe: one credit may repay all of them."""

_ORIGIN = Origin(client="system", actor="debt repayment")


def reverse(books: Books, command: ReverseTransaction) -> Plan:
    """Give back what the transaction took, and take back what it gave; what is given comes first.

    Raises TransactionNotFoundError, NotReversibleError, OnlyAsAWholeError, NoDebtBetweenUsersError, OverReversalError,
    InsufficientBalanceError, BalanceAboveBoundError or TooManyDebtsError; MissingScopeError where a credential wants to
    undo what operators put right.
    """
    original = books.original(command.wallet_id, command.transaction_id)
    if original.kind == Adjust.kind and command.origin.permit is not None:
        raise MissingScopeError(None)
    entries = reversible_entries(original)
    is_one = original.kind == "TRANSFER" or len(entries) == 1
    _require_possible(original, command, is_one=is_one)
    bounds = [books.reversed_entry(entry, original.transaction_id) for entry in entries]
    # Several movements are reversed at once, so of each all is left, or nothing.
    left = min(bound.remaining for bound in bounds)
    if left == 0 or (command.amount or 0) > left:
        raise OverReversalError(transaction_id=str(original.transaction_id), remaining=left, amount=command.amount)
    amounts = [bound.remaining for bound in bounds]
    if is_one:
        amounts = [_amount(books, command, entries, left)] * len(entries)
    return _plan(books, command, list(zip(entries, bounds, amounts, strict=True)))


def repay(books: Books, wallet_ids: Iterable[int]) -> None:
    """Take what the wallets owe from what they have, the oldest debt first, each by a transaction of its own.

    To be called after whatever may have raised a balance: a movement, a hold that gives back, a reversal.
    """
    for wallet_id in wallet_ids:
        state = books.wallets.get(wallet_id)
        if state is None or not (state.owed and state.balance):
            continue
        for debt in books.debts(wallet_id):
            wallet = books.wallets[wallet_id]
            if not wallet.balance:
                break
            part = ReversedPart(debt, -min(debt.owed, wallet.balance), -min(debt.owed, wallet.balance))
            # Its entry's number makes the reference the wallet's only one.
            reference = f"{SYSTEM_REFERENCE}repay:{debt.transaction_id}:{wallet.version + 1}"
            repayment = RepayDebt(
                wallet_id=wallet_id,
                reference=reference,
                origin=_ORIGIN,
                transaction_id=debt.transaction_id,
                seq=debt.seq,
            )
            books.apply(repayment, _undoing(books, repayment, [part]))


def reversible_entries(transaction: PostedTransaction) -> list[Entry]:
    """Return what of the transaction can be reversed; of a capture what it spent, because its hold is no more."""
    if transaction.kind not in REVERSIBLE:
        return []
    return [entry for entry in transaction.entries if transaction.kind != "CAPTURE" or entry.entry_type == "SPEND"]


def _require_possible(original: PostedTransaction, command: ReverseTransaction, *, is_one: bool) -> None:
    transaction_id = str(original.transaction_id)
    if original.kind not in REVERSIBLE:
        raise NotReversibleError(transaction_id=transaction_id, kind=original.kind)
    if not is_one and (command.amount is not None or command.on_shortfall == "partial"):
        raise OnlyAsAWholeError(transaction_id=transaction_id, kind=original.kind)
    if original.kind == "TRANSFER" and command.on_shortfall == "debt":
        raise NoDebtBetweenUsersError(transaction_id)


def _amount(books: Books, command: ReverseTransaction, entries: list[Entry], left: int) -> int:
    """Return how much of a single movement is reversed; of a transfer, both sides move by it."""
    amount = left if command.amount is None else command.amount
    taking = [books.wallet(entry.wallet_id) for entry in entries if entry.amount > 0]
    if taking and command.on_shortfall == "partial":
        require_funds(taking[0], 1)
        return min(amount, taking[0].balance)
    return amount


def _plan(
    books: Books,
    command: ReverseTransaction,
    wanted: list[tuple[Entry, ReversedEntry, int]],
) -> Plan:
    # Later entries first, as one goes back; but nothing is missing that the same reversal gives.
    giving = [one for one in reversed(wanted) if one[0].amount < 0]
    taking = [one for one in reversed(wanted) if one[0].amount > 0]
    so_far: Counter[int] = Counter()
    parts = []
    for entry, bound, amount in [*giving, *taking]:
        wallet = books.wallet(entry.wallet_id)
        if entry.amount < 0:
            require_room(wallet, amount + so_far[wallet.wallet_id])
            moved, owed = amount, 0
        else:
            there = wallet.balance + so_far[wallet.wallet_id]
            if command.on_shortfall != "debt":
                require_funds(wallet, amount - so_far[wallet.wallet_id])
            owed = max(0, amount - there)
            moved = owed - amount
        so_far[wallet.wallet_id] += moved
        parts.append(ReversedPart(bound, moved, owed))
    _require_few_debts(books, parts)
    return _undoing(books, command, parts)


def _undoing(books: Books, command: RepayDebt | ReverseTransaction, parts: list[ReversedPart]) -> Plan:
    entries = tuple(
        PlannedEntry(part.entry.wallet_id, command.kind, part.moved, _contra(books, part.entry))
        for part in parts
        if part.moved
    )
    told = [[part.entry.wallet_id, part.entry.seq, part.moved, part.owed] for part in parts]
    return Plan(entries, reverses=command.transaction_id, reversed=tuple(parts), result={"parts": told})


def _contra(books: Books, entry: ReversedEntry) -> str:
    """Return who is on the other side of the entry."""
    contra = books.wallet(entry.wallet_id).asset.contra
    return next(name for name, wallet_id in contra.items() if wallet_id == entry.contra_wallet_id)


def _require_few_debts(books: Books, parts: list[ReversedPart]) -> None:
    new = Counter(part.entry.wallet_id for part in parts if part.owed and not part.entry.owed)
    for wallet_id, more in new.items():
        if len(books.debts(wallet_id)) + more > DEBTS_MAX:
            raise TooManyDebtsError(wallet_id=wallet_id, debts_max=DEBTS_MAX)
