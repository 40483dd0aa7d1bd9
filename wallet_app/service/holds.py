"""Holds: funds of a wallet that are set aside, then captured, released, or given back when their time is over.

Held funds leave the balance, so nothing here decides twice about the same coin. A capture is two entries under one
reference: the held amount comes back, and is spent.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping

from wallet_app.errors import (
    HoldFinishedError,
    HoldNotDueError,
    HoldTooLongError,
    OverCaptureError,
    TooManyCapturesError,
    TooManyHoldsError,
)
from wallet_app.service.books import Books, Hold, HoldPart, Plan, PlannedEntry
from wallet_app.service.commands import (
    SYSTEM_REFERENCE,
    CaptureHold,
    Command,
    ExpireHold,
    OnHold,
    Origin,
    PlaceHold,
    ReleaseHold,
)
from wallet_app.service.lot_rules import Draft
from wallet_app.service.lots import LotKey, LotMove
from wallet_app.service.movements import require_funds

HOLDS_MAX = 200
"""How many open holds a wallet may have: all that are due are settled in front of its next command."""

CAPTURES_MAX = 100
"""How often a hold may be captured; the last one is final."""

_ORIGIN = Origin(client="system", actor="hold expiry")


def place(books: Books, command: PlaceHold) -> Plan:
    """Set the amount aside. Raises HoldTooLongError, InsufficientBalanceError or TooManyHoldsError."""
    if command.expires_in > command.seconds_max:
        raise HoldTooLongError(seconds=command.expires_in, seconds_max=command.seconds_max)
    wallet = books.wallet(command.wallet_id)
    require_funds(wallet, command.amount)
    if books.open_holds[wallet.wallet_id] >= HOLDS_MAX:
        raise TooManyHoldsError(wallet_id=wallet.wallet_id, holds_max=HOLDS_MAX)
    entry = Draft(books).debit(wallet.wallet_id, "HOLD", command.amount, "Holds", kind="hold")
    return Plan((entry,), holds_for=dt.timedelta(seconds=command.expires_in))


def capture(books: Books, command: CaptureHold) -> Plan:
    """Spend a part of what is held, or all of it, what ends soonest first; if that is final, give back the rest.

    Raises HoldNotFoundError, HoldFinishedError, OverCaptureError or TooManyCapturesError.
    """
    hold = _open_hold(books, command)
    amount = hold.remaining if command.amount is None else command.amount
    if amount > hold.remaining:
        raise OverCaptureError(hold_id=str(hold.hold_id), remaining=hold.remaining, amount=amount)
    back = hold.remaining if command.is_final else amount
    if back < hold.remaining and len(hold.changes) >= CAPTURES_MAX - 1:
        raise TooManyCapturesError(hold_id=str(hold.hold_id), captures_max=CAPTURES_MAX)
    spent = _soonest(books, hold, amount)
    released = _back(books, hold, back, passing=spent, stays=command.is_final)
    moves = tuple([LotMove("consume", key, part) for key, part in spent.items()])
    entries = (released, PlannedEntry(hold.wallet_id, "SPEND", -amount, "Revenue", moves))
    return Plan(entries, part=HoldPart(hold, captured=amount, released=back - amount))


def _soonest(books: Books, hold: Hold, amount: int) -> dict[LotKey, int]:
    """Return what of the amount is of which lots of the hold, those that end soonest first; the rest is paid."""
    lots = books.lots.get(hold.wallet_id, {})
    taken: dict[LotKey, int] = {}
    for key, held in sorted(hold.lots, key=lambda one: lots[one[0]].order):
        if not amount:
            break
        taken[key] = min(held, amount)
        amount -= taken[key]
    return taken


def release(books: Books, command: ReleaseHold) -> Plan:
    """Give back what is still held. Raises HoldNotFoundError or HoldFinishedError."""
    hold = _open_hold(books, command)
    return Plan((_back(books, hold, hold.remaining),), part=HoldPart(hold, released=hold.remaining))


def expire(books: Books, command: ExpireHold) -> Plan:
    """Refuse: what is due was settled before this was asked. Raises HoldFinishedError or HoldNotDueError."""
    hold = _open_hold(books, command)
    raise HoldNotDueError(str(hold.hold_id))


def settle(books: Books, command: Command) -> None:
    """Give back what is held of each due hold of the command's wallets, each by a transaction of its own.

    So expiry is exact whoever comes first, the worker or a command; and it stays whatever becomes of the command.
    """
    for wallet_id in command.wallet_ids():
        for hold in books.due_holds(wallet_id):
            command = expiry_of(wallet_id, hold.hold_id, hold.expires_at)
            back = _back(books, hold, hold.remaining)
            books.apply(command, Plan((back,), part=HoldPart(hold, expired=hold.remaining)))


def expiry_of(wallet_id: int, hold_id: uuid.UUID, expires_at: dt.datetime) -> ExpireHold:
    """Return the command that expires the hold."""
    return ExpireHold(
        wallet_id=wallet_id,
        reference=f"{SYSTEM_REFERENCE}expire:{hold_id}",
        origin=_ORIGIN,
        hold_id=hold_id,
        occurred_at=expires_at,
    )


def _back(
    books: Books, hold: Hold, amount: int, *, passing: Mapping[LotKey, int] | None = None, stays: bool = True
) -> PlannedEntry:
    """Give back of the hold: what is `passing`, to be spent at once; and, if it `stays`, what else is held of lots."""
    passing = passing or {}
    left = [(key, held - passing.get(key, 0)) for key, held in hold.lots if stays]
    parts = [(key, part) for key, part in left if part]
    return Draft(books).give_back(
        *(hold.wallet_id, "RELEASE", amount, "Holds"), kind="release", parts=parts, passing=passing.items()
    )


def _open_hold(books: Books, command: OnHold) -> Hold:
    hold = books.hold(command.wallet_id, command.hold_id)
    if not hold.is_open:
        raise HoldFinishedError(hold_id=str(hold.hold_id), state=hold.state)
    return hold
