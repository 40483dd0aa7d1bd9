"""Top-up, bonus, spend and seed: one wallet up or down against a contra wallet."""

from __future__ import annotations

from wallet_app.errors import BalanceAboveBoundError, InsufficientBalanceError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.books import Books, Plan, PlannedEntry, WalletState
from wallet_app.service.commands import Bonus, Movement, Seed, Spend, TopUp
from wallet_app.service.instants import instant_text
from wallet_app.service.lot_rules import FOR_EVER, Draft, Nature, bonus_nature, paid_nature

CONTRA = {TopUp.kind: "Treasury", Bonus.kind: "Promotions", Seed.kind: "Treasury", Spend.kind: "Revenue"}
"""Who is on the other side of a movement, by its kind."""


def top_up(books: Books, command: TopUp) -> Plan:
    """Credit the wallet from Treasury. Raises BalanceAboveBoundError or TooManyLotsError."""
    wallet = books.wallet(command.wallet_id)
    nature = None if wallet.asset.paid_days is None else paid_nature(wallet.asset, books.now(wallet.wallet_id))
    return _credit(books, wallet, command, nature)


def bonus(books: Books, command: Bonus) -> Plan:
    """Credit the wallet from Promotions, for as long as was said, or as the asset says.

    Raises BalanceAboveBoundError, LotEndPassedError or TooManyLotsError.
    """
    wallet = books.wallet(command.wallet_id)
    return _credit(books, wallet, command, bonus_nature(wallet.asset, command.expires_at, books.now(wallet.wallet_id)))


def seed(books: Books, command: Seed) -> Plan:
    """Credit the wallet's first balance from Treasury: paid, without an end. Raises BalanceAboveBoundError."""
    return _credit(books, books.wallet(command.wallet_id), command, None)


def spend(books: Books, command: Spend) -> Plan:
    """Debit the wallet to Revenue; raise InsufficientBalanceError if it has less."""
    wallet = books.wallet(command.wallet_id)
    require_funds(wallet, command.amount)
    if wallet.has_lots:
        return Plan((Draft(books).debit(wallet.wallet_id, command.kind, command.amount, CONTRA[command.kind]),))
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


def _credit(books: Books, wallet: WalletState, command: Movement, nature: Nature) -> Plan:
    require_room(wallet, command.amount)
    if nature is None:
        return Plan((PlannedEntry(wallet.wallet_id, command.kind, command.amount, CONTRA[command.kind]),))
    entry = Draft(books).credit(wallet.wallet_id, command.kind, CONTRA[command.kind], [(nature, command.amount)])
    # The end is decided here, by the clock and the asset: so the transaction tells it, and its digest covers it.
    result = None if nature == FOR_EVER else {"expiresAt": instant_text(nature.expires_at)}
    return Plan((entry,), result=result)
