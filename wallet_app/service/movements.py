"""Top-up, bonus, spend and seed: one wallet up or down against a contra wallet."""

from __future__ import annotations

from wallet_app.errors import BalanceAboveBoundError, InsufficientBalanceError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.books import Books, Plan, PlannedEntry, WalletState
from wallet_app.service.commands import Bonus, Movement, Seed, Spend, TopUp

CONTRA = {TopUp.kind: "Treasury", Bonus.kind: "Promotions", Seed.kind: "Treasury", Spend.kind: "Revenue"}
"""Who is on the other side of a movement, by its kind."""


def top_up(books: Books, command: TopUp) -> Plan:
    """Credit the wallet from Treasury."""
    return _credit(books, command)


def bonus(books: Books, command: Bonus) -> Plan:
    """Credit the wallet from Promotions."""
    return _credit(books, command)


def seed(books: Books, command: Seed) -> Plan:
    """Credit the wallet's first balance from Treasury."""
    return _credit(books, command)


def spend(books: Books, command: Spend) -> Plan:
    """Debit the wallet to Revenue; raise InsufficientBalanceError if it has less."""
    wallet = books.wallet(command.wallet_id)
    require_funds(wallet, command.amount)
    return Plan((PlannedEntry(wallet.wallet_id, command.kind, -command.amount, CONTRA[command.kind]),))


def require_funds(wallet: WalletState, amount: int) -> None:
    """Raise InsufficientBalanceError, with the balance and version that were seen, if the wallet has less."""
    if wallet.balance < amount:
        raise InsufficientBalanceError(
            wallet_id=wallet.wallet_id,
            asset_code=wallet.asset.code,
            balance=wallet.balance,
            required=amount,
            version=wallet.version,
        )


def require_room(wallet: WalletState, amount: int) -> None:
    """Raise BalanceAboveBoundError if the wallet, with what it holds, would exceed the largest balance.

    Held funds count: a release must always find room.
    """
    if wallet.balance + wallet.held + amount > AMOUNT_MAX:
        raise BalanceAboveBoundError(
            wallet_id=wallet.wallet_id,
            asset_code=wallet.asset.code,
            balance=wallet.balance,
            amount=amount,
            bound=AMOUNT_MAX,
            version=wallet.version,
        )


def _credit(books: Books, command: Movement) -> Plan:
    wallet = books.wallet(command.wallet_id)
    require_room(wallet, command.amount)
    return Plan((PlannedEntry(wallet.wallet_id, command.kind, command.amount, CONTRA[command.kind]),))
