"""Which rule decides which command; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wallet_app.errors import VersionMismatchError, WalletNotFoundError
from wallet_app.service import (
    adjustments,
    exchanges,
    holds,
    limit_rules,
    lot_rules,
    movements,
    purchases,
    reversals,
    states,
    transfers,
)
from wallet_app.service.books import Books, Plan, Receipt, WalletState
from wallet_app.service.commands import (
    Bonus,
    CaptureHold,
    Command,
    Exchange,
    ExpireHold,
    ExpireLot,
    ExtendLot,
    PlaceHold,
    Purchase,
    ReleaseHold,
    ReverseTransaction,
    RevokeLot,
    Seed,
    Spend,
    TopUp,
    Transfer,
    require_permitted,
)
from wallet_app.service.permits import Permit

RULES: dict[type[Command], Callable[[Books, Any], Plan]] = {
    TopUp: movements.top_up,
    Bonus: movements.bonus,
    Spend: movements.spend,
    Seed: movements.seed,
    PlaceHold: holds.place,
    CaptureHold: holds.capture,
    ReleaseHold: holds.release,
    ExpireHold: holds.expire,
    Transfer: transfers.transfer,
    Exchange: exchanges.exchange,
    Purchase: purchases.purchase,
    ReverseTransaction: reversals.reverse,
    ExtendLot: lot_rules.extend,
    RevokeLot: reversals.revoke,
    ExpireLot: lot_rules.expire,
    adjustments.Adjust: adjustments.adjust,
    adjustments.ApprovedAdjust: adjustments.adjust,
    adjustments.ApprovedReversal: reversals.reverse,
    adjustments.ApprovedRevocation: reversals.revoke,
    states.Freeze: states.freeze,
    states.Unfreeze: states.unfreeze,
    states.Close: states.close,
    limit_rules.RaiseLimits: limit_rules.raise_limits,
    limit_rules.EndRaise: limit_rules.end_raise,
}


def decide(books: Books, command: Command) -> Receipt:
    """Answer the command from the books: replay it, or post what its rule plans.

    Raises a NotFoundError, ForbiddenError, ConditionError, RefusedError or InvalidError if it declines; then the books
    are as before but for due holds and lots of its wallets, which are settled first, and its reference is still free.
    """
    wallet_ids = command.wallet_ids()
    books.begin(wallet_ids)
    # Before the books, whoever has looked already: nothing is told of a wallet to who may not do this to any.
    require_permitted(command)
    permit = command.origin.permit
    if permit is not None and permit.user_id is not None:
        _require_owner(books, command, permit.user_id)
    anchor = books.wallet(command.wallet_id)
    if permit is not None:
        permit.require_asset(anchor.asset.code)
    if command.if_versions is not None:
        _require_version(books, command, anchor)
    if books.holds or books.lots:
        settle(books, command)
    # Of another command under this reference, the other wallets do not matter: they may not even exist.
    replayed = books.replay(command)
    if permit is not None and permit.assets is not None:
        _require_assets(books, command, permit)
    if replayed:
        return replayed
    states.require_open(anchor)
    for wallet_id in wallet_ids[1:]:
        states.require_open(books.wallet(wallet_id))
    plan = RULES[type(command)](books, command)
    if not command.passes_freezes:
        states.require_not_stopped(books, plan)
    if books.limits:
        limit_rules.require_within(books, command, plan)
    if permit is not None and permit.amount_max is not None:
        permit.require_amount(_most(plan))
    receipt = books.apply(command, plan)
    if not books.reversed and (plan.part is None or not books.lots):
        return receipt
    # What came back to a lot that has expired meanwhile goes at once; and then whatever is there repays.
    reversals.repay_by_due_lots(books, wallet_ids)
    lot_rules.settle(books, wallet_ids)
    reversals.repay(books, wallet_ids)
    return books.receipt(receipt.transaction, is_replay=False)


def settle(books: Books, command: Command) -> None:
    """Book what is due of the command's wallets, as is done before anything is decided.

    Holds whose time is over give back; what came back of a grant that is over repays what is owed for it, and the rest
    expires; what is there then repays what is owed for anything else. Raises WalletSettlingError.
    """
    wallet_ids = command.wallet_ids()
    if books.holds:
        holds.settle(books, command)
    if books.lots:
        reversals.repay_by_due_lots(books, wallet_ids)
        lot_rules.settle(books, wallet_ids)
    if books.holds:
        reversals.repay(books, wallet_ids)


def _require_owner(books: Books, command: Command, user_id: int) -> None:
    """Raise WalletNotFoundError for another's wallet, also for one of the system: just as if there were none."""
    for wallet_id in command.wallet_ids():
        wallet = books.wallets.get(wallet_id)
        if wallet is None or wallet.user_id != user_id:
            raise WalletNotFoundError(wallet_id)


def _require_version(books: Books, command: Command, anchor: WalletState) -> None:
    """Raise VersionMismatchError if the anchor moved on since it was read.

    Before what is due is settled, because that is how it was read. A retry is not asked: it changes nothing, and its
    own first attempt is what moved the wallet on.
    """
    if (command.wallet_id, command.reference) in books.transactions:
        return
    if command.if_versions is not None and anchor.version not in command.if_versions:
        raise VersionMismatchError(
            wallet_id=anchor.wallet_id,
            asset_code=anchor.asset.code,
            balance=anchor.balance,
            version=anchor.version,
        )


def _most(plan: Plan) -> int:
    """Return the most that the plan takes from a wallet, or gives it; what comes back from a hold was the wallet's.

    What it makes the wallet owe counts as taken.
    """
    sums: dict[tuple[int, bool], int] = {}
    for wallet_id, _, amount, contra, _ in plan.entries:
        side = wallet_id, amount > 0
        if side[1] and contra == "Holds":
            continue
        sums[side] = sums.get(side, 0) + abs(amount)
    for part in plan.reversed:
        side = part.entry.wallet_id, False
        sums[side] = sums.get(side, 0) + part.owed
    return max(sums.values(), default=0)


def _require_assets(books: Books, command: Command, permit: Permit) -> None:
    for wallet_id in command.wallet_ids():
        permit.require_asset(books.wallet(wallet_id).asset.code)
