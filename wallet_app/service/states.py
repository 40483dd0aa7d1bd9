"""How a wallet stands: frozen, unfrozen, closed; and what a freeze or a switch stops.

A debit is what leaves a wallet, a credit what comes into it: so says each entry's sign, whatever the command is. What
comes back from a hold was the wallet's own and is no credit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from wallet_app.errors import (
    EndPassedError,
    StoppedError,
    WalletClosedError,
    WalletNotActiveError,
    WalletNotEmptyError,
    WalletNotFrozenError,
)
from wallet_app.service.books import NOT_FROZEN, Books, Frozen, NewState, Plan, PlannedEntry, WalletState
from wallet_app.service.commands import Command, Requested
from wallet_app.service.instants import NO_END, instant_text

Side = Literal["debits", "credits", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(Command):
    """Stops debits, credits or both of the wallet, until an instant or (None) until they are unfrozen.

    A side that is frozen already gets the new end. `reason` says why, and stays in the ledger for ever.
    """

    kind = "FREEZE"
    scope = "wallets:freeze"

    side: Side
    reason: str
    until: dt.datetime | None = None

    def requested(self) -> Requested:
        until = None if self.until is None else instant_text(self.until)
        return {"side": self.side, "until": until, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfreeze(Command):
    """Lets the wallet's debits, credits or both go again."""

    kind = "UNFREEZE"
    scope = "wallets:freeze"

    reason: str
    side: Side = "both"

    def requested(self) -> Requested:
        return {"side": self.side, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Command):
    """Ends the wallet, for good: it takes no command any more."""

    kind = "CLOSE"
    scope: ClassVar[str | None] = "wallets:close"

    reason: str

    def requested(self) -> Requested:
        return {"reason": self.reason}


def freeze(books: Books, command: Freeze) -> Plan:
    """Freeze the sides that are named. Raises EndPassedError for an end that is not ahead."""
    wallet = books.wallet(command.wallet_id)
    if command.until is not None and command.until <= books.now(wallet.wallet_id):
        raise EndPassedError(instant_text(command.until))
    return _plan(wallet, "ACTIVE", _with_sides(wallet.frozen, command.side, command.until or NO_END))


def unfreeze(books: Books, command: Unfreeze) -> Plan:
    """Unfreeze the sides that are named. Raises WalletNotFrozenError if none of them is frozen now."""
    wallet = books.wallet(command.wallet_id)
    now = wallet.frozen.at(books.now(wallet.wallet_id))
    after = _with_sides(now, command.side, None)
    if after == now:
        raise WalletNotFrozenError(wallet_id=wallet.wallet_id, side=command.side)
    return _plan(wallet, "ACTIVE", _with_sides(wallet.frozen, command.side, None))


def close(books: Books, command: Close) -> Plan:
    """Close the wallet. Raises WalletNotEmptyError while anything is left."""
    wallet = books.wallet(command.wallet_id)
    _require_empty(wallet)
    return _plan(wallet, "CLOSED", wallet.frozen)


def require_open(wallet: WalletState) -> None:
    """Raise WalletClosedError for a wallet that is closed: it takes no new command, whoever asks."""
    if wallet.status == "CLOSED":
        raise WalletClosedError(wallet.wallet_id)


def require_not_stopped(books: Books, plan: Plan) -> None:
    """Raise WalletNotActiveError, or StoppedError, for an entry on a side that its wallet, or a switch, stops now.

    It is the first that is in the way; its `others` are the rest, for who can pass it and has to see them all.
    """
    frozen = [books.wallets[entry.wallet_id].frozen for entry in plan.entries]
    if not books.stops and frozen.count(NOT_FROZEN) == len(frozen):
        return  # As usual.
    if found := list(_stops(books, plan)):
        found[0].others = tuple(found[1:])
        raise found[0]


def _stops(books: Books, plan: Plan) -> Iterator[WalletNotActiveError | StoppedError]:
    for entry in plan.entries:
        side = _side_of(entry)
        if side is None:
            continue
        frozen = books.wallets[entry.wallet_id].frozen
        until = frozen.debits if side == "debits" else frozen.credits
        if until is not None and (until == NO_END or until > books.now(entry.wallet_id)):
            yield WalletNotActiveError(wallet_id=entry.wallet_id, side=side)
        for stop in books.stops.get(entry.wallet_id, ()):
            if stop.covers(side):
                yield StoppedError(wallet_id=entry.wallet_id, side=side, target=stop.target)


def _side_of(entry: PlannedEntry) -> str | None:
    if entry.amount < 0:
        return "debits"
    return None if entry.contra == "Holds" else "credits"


def _require_empty(wallet: WalletState) -> None:
    """Raise WalletNotEmptyError for what it has, holds or owes: whatever may be left of a wallet is asked for here."""
    if wallet.balance or wallet.held or wallet.owed:
        raise WalletNotEmptyError(
            wallet_id=wallet.wallet_id,
            asset_code=wallet.asset.code,
            balance=wallet.balance,
            held=wallet.held,
            owed=wallet.owed,
            version=wallet.version,
        )


def _with_sides(frozen: Frozen, side: Side, until: dt.datetime | None) -> Frozen:
    return Frozen(
        debits=frozen.debits if side == "credits" else until, credits=frozen.credits if side == "debits" else until
    )


def _plan(wallet: WalletState, status: str, frozen: Frozen) -> Plan:
    """Return the plan; its result says how the wallet stands then, and after which transaction: so none can go."""
    before = wallet.state_transaction_id
    result = {
        "status": status,
        "debitsUntil": None if frozen.debits is None else instant_text(frozen.debits),
        "creditsUntil": None if frozen.credits is None else instant_text(frozen.credits),
        "previous": None if before is None else str(before),
    }
    return Plan((), result=result, state=NewState(status, frozen))
