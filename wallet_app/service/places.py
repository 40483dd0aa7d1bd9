"""Where an operation takes place: its wallets, which never change, and the command that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import (
    HoldNotFoundError,
    LotNotFoundError,
    SystemWalletError,
    TransactionNotFoundError,
    WalletNotFoundError,
)
from wallet_app.service.adjustments import Adjust, ApprovedAdjust, ApprovedReversal, ApprovedRevocation
from wallet_app.service.commands import Command, ExtendLot, Origin, ReleaseHold, ReverseTransaction, RevokeLot, Transfer
from wallet_app.service.hold_views import find_hold_wallets
from wallet_app.service.limit_rules import EndRaise, RaiseLimits
from wallet_app.service.lot_views import find_lot_wallets
from wallet_app.service.operations import (
    AdjustOperation,
    CloseOperation,
    ExtendOperation,
    FreezeOperation,
    LimitRaiseEndOperation,
    LimitRaiseOperation,
    MoneyOperation,
    Operation,
    ReleaseOperation,
    ReverseOperation,
    RevokeOperation,
    StateOperation,
    TransferOperation,
    UnfreezeOperation,
)
from wallet_app.service.reversal_views import find_moved_wallets
from wallet_app.service.states import Close, Freeze, Unfreeze


class Place(NamedTuple):
    """The anchor of an operation, the asset of that, and the other wallets that it concerns."""

    wallet_id: int
    asset_id: int
    asset_scale: int
    other_wallet_ids: tuple[int, ...] = ()

    @property
    def wallet_ids(self) -> tuple[int, ...]:
        """All of them, the anchor first."""
        return (self.wallet_id, *self.other_wallet_ids)


def find_place(operation: Operation) -> Place:
    """Return where the operation takes place.

    Raises WalletNotFoundError, SystemWalletError, HoldNotFoundError, LotNotFoundError or TransactionNotFoundError.
    """
    wallet_id, others = _wallets_of(operation)
    found = _find_wallets((wallet_id, *others))
    for each in (wallet_id, *others):
        if each not in found:
            raise WalletNotFoundError(each)
        if found[each].user_type != "USER":
            raise SystemWalletError(each)
    anchor = found[wallet_id]
    return Place(wallet_id, anchor.asset_id, anchor.asset_scale, others)


def command_of(
    operation: Operation, place: Place, *, reference: str, origin: Origin, is_approved: bool = False
) -> Command:
    """Return the command that the operation is; with `is_approved`, one that passes a freeze if it is a correction."""
    common: dict[str, Any] = {
        "wallet_id": place.wallet_id,
        "reference": reference,
        "origin": origin,
        "note": operation.note,
    }
    return _COMMANDS[type(operation)](operation, place, is_approved, common)


def may_pass_freezes(operation: Operation) -> bool:
    """Tell whether a second person's approval lets it pass a freeze: what puts a balance right, and nothing else."""
    return isinstance(operation, AdjustOperation | ReverseOperation | RevokeOperation)


def _wallets_of(operation: Operation) -> tuple[int, tuple[int, ...]]:
    if isinstance(operation, ReverseOperation):
        moved = find_moved_wallets([operation.transaction_id]).get(operation.transaction_id)
        if moved is None:
            raise TransactionNotFoundError(str(operation.transaction_id))
        return moved
    if isinstance(operation, ReleaseOperation):
        wallet_id = find_hold_wallets([operation.hold_id]).get(operation.hold_id)
        if wallet_id is None:
            raise HoldNotFoundError(str(operation.hold_id))
        return wallet_id, ()
    if isinstance(operation, ExtendOperation | RevokeOperation):
        wallet_id = find_lot_wallets([operation.lot_id]).get(operation.lot_id)
        if wallet_id is None:
            raise LotNotFoundError(str(operation.lot_id))
        return wallet_id, ()
    if isinstance(operation, TransferOperation):
        return operation.wallet_id, (operation.to_wallet_id,)
    if isinstance(operation, AdjustOperation | StateOperation):
        return operation.wallet_id, ()
    raise TypeError(f"no wallet is known of {operation.kind}")


def _adjust(operation: AdjustOperation, _: Place, is_approved: bool, common: dict[str, Any]) -> Command:
    kind = ApprovedAdjust if is_approved else Adjust
    return kind(
        **common,
        direction=operation.direction,
        amount=operation.amount,
        reason_code=operation.reason_code,
        ticket=operation.ticket,
    )


def _reverse(operation: ReverseOperation, place: Place, is_approved: bool, common: dict[str, Any]) -> Command:
    kind = ApprovedReversal if is_approved else ReverseTransaction
    return kind(
        **common,
        transaction_id=operation.transaction_id,
        other_wallet_ids=place.other_wallet_ids,
        reason=_reason(operation),
        amount=operation.amount,
        on_shortfall=operation.on_shortfall,
    )


def _release(operation: ReleaseOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return ReleaseHold(**common, hold_id=operation.hold_id)


def _transfer(operation: TransferOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return Transfer(**common, to_wallet_id=operation.to_wallet_id, amount=operation.amount)


def _extend(operation: ExtendOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return ExtendLot(**common, lot_id=operation.lot_id, expires_at=operation.expires_at, reason=_reason(operation))


def _revoke(operation: RevokeOperation, _: Place, is_approved: bool, common: dict[str, Any]) -> Command:
    kind = ApprovedRevocation if is_approved else RevokeLot
    return kind(**common, lot_id=operation.lot_id, reason=_reason(operation), on_shortfall=operation.on_shortfall)


def _freeze(operation: FreezeOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return Freeze(**common, side=operation.side, reason=operation.reason, until=operation.until)


def _unfreeze(operation: UnfreezeOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return Unfreeze(**common, side=operation.side, reason=operation.reason)


def _close(operation: CloseOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return Close(**common, reason=operation.reason)


def _raise_limits(operation: LimitRaiseOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return RaiseLimits(**common, figures=operation.figures, until=operation.until, reason=operation.reason)


def _end_raise(operation: LimitRaiseEndOperation, _: Place, __: bool, common: dict[str, Any]) -> Command:
    return EndRaise(**common, reason=operation.reason)


def _reason(operation: MoneyOperation) -> str:
    """Return what a reversal keeps for good of why it was done."""
    return operation.reason_code + (f", ticket {operation.ticket}" if operation.ticket else "")


_COMMANDS: dict[type[Operation], Callable[[Any, Place, bool, dict[str, Any]], Command]] = {
    AdjustOperation: _adjust,
    ReverseOperation: _reverse,
    ReleaseOperation: _release,
    TransferOperation: _transfer,
    ExtendOperation: _extend,
    RevokeOperation: _revoke,
    FreezeOperation: _freeze,
    UnfreezeOperation: _unfreeze,
    CloseOperation: _close,
    LimitRaiseOperation: _raise_limits,
    LimitRaiseEndOperation: _end_raise,
}


class _WalletRow(NamedTuple):
    id: int
    user_type: str
    asset_id: int
    asset_scale: int


@reads
def _find_wallets(connection: Connection, wallet_ids: tuple[int, ...]) -> dict[int, _WalletRow]:
    rows = connection.execute(_WALLETS, {"wallet_ids": list(wallet_ids)})
    return {row.id: _WalletRow(*row) for row in rows}


_WALLETS = text("""
SELECT wallets.id, users.user_type, asset_types.id AS asset_id, asset_types.scale AS asset_scale
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE wallets.id = ANY (CAST(:wallet_ids AS bigint[]))
""")
