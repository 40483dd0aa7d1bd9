"""What the console's acts are done to: a wallet, a transaction, a hold, a lot; each with its anchor, a wallet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console.acts import Subject
from wallet_app.errors import SystemWalletError
from wallet_app.fields import ID_MAX
from wallet_app.service import HoldView, LotView, TransactionView, WalletView


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTransaction(Subject):
    """A transaction."""

    transaction: TransactionView


@dataclass(frozen=True, slots=True, kw_only=True)
class OfHold(Subject):
    """A hold."""

    hold: HoldView


@dataclass(frozen=True, slots=True, kw_only=True)
class OfLot(Subject):
    """A lot."""

    lot: LotView


def wallet(wallet_id: int) -> Subject:
    """Return a user's wallet; raise WalletNotFoundError, or SystemWalletError for the system's own."""
    return Subject(wallet=_wallet(wallet_id), about=f"wallet:{wallet_id}", back=f"/console/wallets/{wallet_id}")


def transaction(transaction_id: uuid.UUID) -> OfTransaction:
    """Return a transaction; raise TransactionNotFoundError."""
    found = service.get_transaction(transaction_id)
    return OfTransaction(
        wallet=_wallet(found.transaction.wallet_id),
        about=f"transaction:{transaction_id}",
        back=f"/console/transactions/{transaction_id}",
        transaction=found,
    )


def hold(hold_id: uuid.UUID) -> OfHold:
    """Return a hold; raise HoldNotFoundError."""
    found = service.get_hold(hold_id)
    wallet_id = found.hold.wallet_id
    return OfHold(wallet=_wallet(wallet_id), about=f"hold:{hold_id}", back=f"/console/wallets/{wallet_id}", hold=found)


def lot(lot_id: uuid.UUID) -> OfLot:
    """Return a lot; raise LotNotFoundError."""
    found = service.get_lot(lot_id)
    wallet = _wallet(found.lot.wallet_id)
    return OfLot(wallet=wallet, about=f"lot:{lot_id}", back=f"/console/lots/{lot_id}", lot=found)


def _wallet(wallet_id: int) -> WalletView:
    if wallet_id > ID_MAX:
        raise NotFound
    found = service.get_wallet(wallet_id)
    if found.user_type == "SYSTEM":
        raise SystemWalletError(wallet_id)
    return found
