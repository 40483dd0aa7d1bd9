"""Purchases: several movements of one user's wallets as one transaction, decided in the order in which they stand."""

from __future__ import annotations

from collections import Counter

from wallet_app.errors import PayerWithoutLegError, UserMismatchError
from wallet_app.service.books import Books, Plan, WalletState
from wallet_app.service.commands import UNSAID, Bonus, Purchase, Spend
from wallet_app.service.lot_rules import Draft, Nature, bonus_nature, paid_nature
from wallet_app.service.movements import CONTRA, require_funds, require_room


def purchase(books: Books, command: Purchase) -> Plan:
    """Make an entry of each leg; what an earlier one brings, a later one may spend, but for what the wallet owes.

    Raises PayerWithoutLegError, UserMismatchError, InsufficientBalanceError, BalanceAboveBoundError or
    TooManyLotsError; the refusals tell the balance as it stands in the books, and what all legs so far need of it.
    """
    payer = books.wallet(command.wallet_id)
    if payer.wallet_id not in {leg.wallet_id for leg in command.legs}:
        raise PayerWithoutLegError(payer.wallet_id)
    so_far: Counter[int] = Counter()
    brought: Counter[int] = Counter()
    draft = Draft(books)
    entries = []
    for leg in command.legs:
        wallet = books.wallet(leg.wallet_id)
        if wallet.user_id != payer.user_id:
            raise UserMismatchError((payer.wallet_id, wallet.wallet_id))
        if leg.kind == Spend.kind:
            # As when the legs come one by one: what comes in repays first what is owed.
            repays = min(wallet.owed, brought[leg.wallet_id])
            require_funds(wallet, leg.amount - so_far[leg.wallet_id] + repays)
        else:
            require_room(wallet, leg.amount + so_far[leg.wallet_id])
            brought[leg.wallet_id] += leg.amount
        so_far[leg.wallet_id] += -leg.amount if leg.kind == Spend.kind else leg.amount
        if leg.kind == Spend.kind:
            entries.append(draft.debit(leg.wallet_id, leg.kind, leg.amount, CONTRA[leg.kind]))
        else:
            parts = [(_nature(books, wallet, leg.kind), leg.amount)]
            entries.append(draft.credit(leg.wallet_id, leg.kind, CONTRA[leg.kind], parts))
    return Plan(tuple(entries))


def _nature(books: Books, wallet: WalletState, kind: str) -> Nature:
    """Return what a leg brings: as if it came alone, with nothing said of an end."""
    now = books.now(wallet.wallet_id)
    return bonus_nature(wallet.asset, UNSAID, now) if kind == Bonus.kind else paid_nature(wallet.asset, now)
