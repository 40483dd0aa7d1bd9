"""Reversals: a transaction is undone by new entries against the same other sides, as a whole or in part, once at most.

Each entry of it has a bound of its own: what was reversed and what is owed make the entry's amount at most. A debt is
what was not there to be taken back. It is no balance below zero but a memo beside the ledger, and whatever raises the
wallet's balance repays it, in the same unit of work. So who owes something has nothing.

Credit goes back to the lots that it was taken from, what was taken last first, and is taken back from the lots that it
came in, as far as it is there, and then in the order of taking. What of it has expired is not taken a second time.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence

from wallet_app.errors import (
    BroughtExpiredError,
    LotNotOneGrantError,
    LotUsedError,
    MissingScopeError,
    NoDebtBetweenUsersError,
    NotReversibleError,
    OnlyAsAWholeError,
    OverReversalError,
    TooManyDebtsError,
)
from wallet_app.service.adjustments import Adjust
from wallet_app.service.books import Books, Entry, Plan, PlannedEntry, PostedTransaction, ReversedEntry, ReversedPart
from wallet_app.service.commands import SYSTEM_REFERENCE, Origin, RepayDebt, ReverseTransaction, RevokeLot
from wallet_app.service.lot_rules import Draft, days_on, finished
from wallet_app.service.lots import Lot, LotKey, LotMovement
from wallet_app.service.movements import require_funds, require_room

REVERSIBLE = ("TOPUP", "BONUS", "SPEND", "SEED", "CAPTURE", "TRANSFER", "EXCHANGE", "PURCHASE", "ADJUSTMENT")
"""The kinds of transactions that can be reversed. A hold ends by itself, or is released; a reversal is final."""

GRANTS = ("TOPUP", "BONUS", "SEED", "ADJUSTMENT")
"""The types of entries that make one lot each: these can be revoked alone."""

DEBTS_MAX = 100
"""For how many entries a wallet may owe: one credit may repay all of them."""

_ORIGIN = Origin(client="system", actor="debt repayment")


def reverse(books: Books, command: ReverseTransaction) -> Plan:
    """Give back what the transaction took, and take back what it gave; what is given comes first.

    Raises TransactionNotFoundError, NotReversibleError, OnlyAsAWholeError, NoDebtBetweenUsersError, OverReversalError,
    BroughtExpiredError, InsufficientBalanceError, BalanceAboveBoundError, TooManyDebtsError or TooManyLotsError;
    MissingScopeError where a credential wants to undo what operators put right.
    """
    original = books.original(command.wallet_id, command.transaction_id)
    if original.kind == Adjust.kind and command.origin.permit is not None:
        raise MissingScopeError(None)
    entries = reversible_entries(original)
    is_one = original.kind == "TRANSFER" or len(entries) == 1
    _require_possible(original, command, is_one=is_one)
    bounds = [books.reversed_entry(entry, original.transaction_id) for entry in entries]
    amounts = [books.reversible(bound) for bound in bounds]
    # Several movements are reversed at once: of each what is left of it, as a grant may have been revoked by itself.
    left = min(amounts) if is_one else max(amounts)
    if left == 0 or (command.amount or 0) > left:
        raise OverReversalError(transaction_id=str(original.transaction_id), remaining=left, amount=command.amount)
    if not is_one and command.on_shortfall == "refuse":
        _require_not_expired(original, entries, bounds, amounts)
    if is_one:
        amounts = [_amount(books, command, entries, left)] * len(entries)
    wanted = [one for one in zip(entries, bounds, amounts, strict=True) if one[2]]
    return _plan(books, command, wanted)


def revoke(books: Books, command: RevokeLot) -> Plan:
    """Take back a grant that is a lot of its own: what is available of it, or all that a reversal would take.

    It counts as a reversal of the entry that granted it, so both together never take more than that. Raises
    LotNotFoundError, LotNotOneGrantError, LotFinishedError, LotUsedError or TooManyDebtsError; MissingScopeError where
    a credential wants to undo what operators put right.
    """
    lot = books.lot(command.wallet_id, command.lot_id)
    original, entry = _grant_of(books, lot)
    if original.kind == Adjust.kind and command.origin.permit is not None:
        raise MissingScopeError(None)
    bound = books.reversed_entry(entry, original.transaction_id)
    amount = remaining = books.reversible(bound)
    if remaining == 0:
        raise finished(lot)
    if command.on_shortfall == "refuse" and lot.available < remaining:
        raise LotUsedError(lot_id=str(lot.lot_id), available=lot.available, remaining=remaining)
    if command.on_shortfall == "partial":
        amount = min(lot.available, remaining)
        if amount == 0:
            raise LotUsedError(lot_id=str(lot.lot_id), available=0, remaining=remaining)
    return _plan(books, command, [(entry, bound, amount)])


def _grant_of(books: Books, lot: Lot) -> tuple[PostedTransaction, Entry]:
    """Return the transaction and the entry that granted just this lot. Raises LotNotOneGrantError."""
    for original in books.originals.values():
        for entry in original.entries:
            if (entry.wallet_id, entry.seq) == (lot.wallet_id, lot.seq) and entry.entry_type in GRANTS:
                return original, entry
    raise LotNotOneGrantError(str(lot.lot_id))


def repay(books: Books, wallet_ids: Iterable[int]) -> None:
    """Take what the wallets owe from what they have, the oldest debt first, each by a transaction of its own.

    To be called after whatever may have raised a balance: a movement, a hold that gives back, a reversal.
    """
    for wallet_id in wallet_ids:
        state = books.wallets.get(wallet_id)
        if state is None or not (state.owed and state.balance):
            continue
        for debt in books.debts(wallet_id):
            if not (balance := books.wallets[wallet_id].balance):
                break
            _repay(books, debt, min(debt.owed, balance))


def repay_by_due_lots(books: Books, wallet_ids: Iterable[int]) -> None:
    """Take what is owed for a grant from what has come back of it and is about to expire: nobody loses it twice.

    To be called before that is settled.
    """
    for wallet_id in wallet_ids:
        state = books.wallets.get(wallet_id)
        if state is None or not state.owed or wallet_id not in books.lots:
            continue
        for lot in books.due_lots(wallet_id):
            debt = books.reversed.get((wallet_id, lot.seq))
            if debt is not None and debt.owed:
                _repay(books, debt, min(debt.owed, lot.available), [(lot.key, lot.available)])


def _repay(books: Books, debt: ReversedEntry, amount: int, first: Sequence[tuple[LotKey, int]] = ()) -> None:
    """Take the amount for the debt, `first` from these lots, then from what else there is of the grant."""
    part = ReversedPart(debt, -amount, -amount)
    draft = Draft(books)
    own = [*first, *_own_lots(draft, debt.wallet_id, debt.seq)]
    entry = draft.debit(debt.wallet_id, RepayDebt.kind, amount, _contra(books, debt), first=own)
    # Its entry's number makes the reference the wallet's only one.
    reference = f"{SYSTEM_REFERENCE}repay:{debt.transaction_id}:{books.wallets[debt.wallet_id].version + 1}"
    repayment = RepayDebt(
        wallet_id=debt.wallet_id,
        reference=reference,
        origin=_ORIGIN,
        transaction_id=debt.transaction_id,
        seq=debt.seq,
    )
    books.apply(repayment, _undoing(debt.transaction_id, [part], [entry]))


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


def _require_not_expired(
    original: PostedTransaction, entries: Sequence[Entry], bounds: Sequence[ReversedEntry], amounts: Sequence[int]
) -> None:
    """Raise BroughtExpiredError where the other side would be given back for what is not there to be taken any more."""
    for entry, bound, amount in zip(entries, bounds, amounts, strict=True):
        if entry.amount > 0 and amount < bound.remaining:
            raise BroughtExpiredError(
                transaction_id=str(original.transaction_id),
                wallet_id=entry.wallet_id,
                seq=entry.seq,
                expired=bound.remaining - amount,
            )


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
    command: ReverseTransaction | RevokeLot,
    wanted: list[tuple[Entry, ReversedEntry, int]],
) -> Plan:
    # Later entries first, as one goes back; but nothing is missing that the same reversal gives.
    giving = [one for one in reversed(wanted) if one[0].amount < 0]
    taking = [one for one in reversed(wanted) if one[0].amount > 0]
    so_far: Counter[int] = Counter()
    draft = Draft(books)
    parts, entries = [], []
    for entry, bound, amount in [*giving, *taking]:
        wallet = books.wallet(entry.wallet_id)
        if entry.amount < 0:
            require_room(wallet, amount + so_far[wallet.wallet_id])
            moved, owed = amount, 0
            entries.append(_given(draft, command, entry, bound, amount))
        else:
            there = wallet.balance + so_far[wallet.wallet_id]
            if command.on_shortfall != "debt":
                require_funds(wallet, amount - so_far[wallet.wallet_id])
            owed = max(0, amount - there)
            moved = owed - amount
            if moved:
                entries.append(_taken(draft, command, entry, bound, -moved))
        so_far[wallet.wallet_id] += moved
        parts.append(ReversedPart(bound, moved, owed))
    _require_few_debts(books, parts)
    return _undoing(wanted[0][1].transaction_id, parts, entries)


def _given(
    draft: Draft, command: ReverseTransaction | RevokeLot, entry: Entry, bound: ReversedEntry, amount: int
) -> PlannedEntry:
    """Give back of what the entry took, to the lots that it was taken from, what was taken last first."""
    regrants_until = None
    if isinstance(command, ReverseTransaction) and command.on_expired == "regrant":
        now, asset = draft.books.now(entry.wallet_id), draft.books.wallet(entry.wallet_id).asset
        regrants_until = days_on(asset, command.grace_days, now)
    return draft.give_back(
        *(entry.wallet_id, command.kind, amount, _contra(draft.books, bound)),
        kind="restore",
        parts=_from_last(draft.books, entry, bound, amount),
        regrants_until=regrants_until,
    )


def _taken(
    draft: Draft, command: ReverseTransaction | RevokeLot, entry: Entry, bound: ReversedEntry, amount: int
) -> PlannedEntry:
    """Take back of what the entry brought, from the lots that it came in as far as it is there, what came last first.

    So of a transfer both sides give up the same kind of credit, as long as the other one still has it.
    """
    lately, own = _from_last(draft.books, entry, bound, amount), _own_lots(draft, entry.wallet_id, entry.seq)
    contra = _contra(draft.books, bound)
    return draft.debit(entry.wallet_id, command.kind, amount, contra, first=[*lately, *own])


def _own_lots(draft: Draft, wallet_id: int, seq: int) -> list[tuple[LotKey | None, int]]:
    """Return what is available of the lots that the entry made: while there is any of it, nothing else is taken."""
    own = [lot for lot in draft.sheet(wallet_id).lots.values() if lot.seq == seq and lot.available]
    return [(lot.key, lot.available) for lot in own]


def _from_last(books: Books, entry: Entry, bound: ReversedEntry, amount: int) -> list[tuple[LotKey | None, int]]:
    """Return of which lots (None: paid credit) the next units are that go back, behind those that did before."""
    parts: list[tuple[LotKey | None, int]] = [
        ((one.lot_seq, one.lot_part), one.amount) for one in _moved_lots(books, entry)
    ]
    parts.append((None, abs(entry.amount) - sum([part for _, part in parts])))
    skipped, found = bound.reversed + bound.owed, []
    for key, part in reversed(parts):
        behind = max(0, part - skipped)
        skipped -= part - behind
        if behind and amount:
            found.append((key, min(behind, amount)))
            amount -= found[-1][1]
    return found


def _moved_lots(books: Books, entry: Entry) -> Sequence[LotMovement]:
    return books.movements.get((entry.wallet_id, entry.seq), ())


def _undoing(transaction_id: uuid.UUID, parts: Sequence[ReversedPart], entries: Sequence[PlannedEntry]) -> Plan:
    told = [[part.entry.wallet_id, part.entry.seq, part.moved, part.owed] for part in parts]
    return Plan(tuple(entries), reverses=transaction_id, reversed=tuple(parts), result={"parts": told})


def _contra(books: Books, entry: ReversedEntry) -> str:
    """Return who is on the other side of the entry."""
    contra = books.wallet(entry.wallet_id).asset.contra
    return next(name for name, wallet_id in contra.items() if wallet_id == entry.contra_wallet_id)


def _require_few_debts(books: Books, parts: list[ReversedPart]) -> None:
    new = Counter(part.entry.wallet_id for part in parts if part.owed and not part.entry.owed)
    for wallet_id, more in new.items():
        if len(books.debts(wallet_id)) + more > DEBTS_MAX:
            raise TooManyDebtsError(wallet_id=wallet_id, debts_max=DEBTS_MAX)
