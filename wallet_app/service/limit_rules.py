"""What limits refuse, and how a wallet's are raised for a while; pure.

A limit bounds what services and users move by themselves, and what an operator transfers for them. What puts a balance
right (adjustments, reversals), what only ends what was begun (captures, releases), what the system does by itself, and
a wallet's first balance pass.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from wallet_app.errors import (
    EndPassedError,
    LimitExceededError,
    LimitNotRaisedError,
    NothingRaisedError,
    RaiseTooLongError,
)
from wallet_app.service.books import Books, NewLimits, Plan, WalletState
from wallet_app.service.commands import Bonus, Command, Exchange, PlaceHold, Purchase, Requested, Spend, TopUp, Transfer
from wallet_app.service.instants import instant_text
from wallet_app.service.limits import FIGURES, NO_LIMITS, WalletLimits, next_day, used_lately, used_today

LIMITED = frozenset([one.kind for one in (TopUp, Bonus, Spend, PlaceHold, Transfer, Exchange, Purchase)])
"""The kinds of commands that limits bound."""

RAISE_DAYS_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseLimits(Command):
    """Raises the wallet's limits to these figures, until an instant; None leaves a figure as it is set.

    It takes the place of an earlier raise, also of what that raised besides. `reason` stays in the ledger for ever.
    """

    kind = "LIMIT_RAISE"

    figures: WalletLimits
    until: dt.datetime
    reason: str

    def requested(self) -> Requested:
        return {**self.figures._asdict(), "until": instant_text(self.until), "reason": self.reason}


def raise_limits(books: Books, command: RaiseLimits) -> Plan:
    """Raise them. Raises EndPassedError, RaiseTooLongError, or LimitNotRaisedError for what is no higher limit."""
    wallet = books.wallet(command.wallet_id)
    now = books.now(wallet.wallet_id)
    if command.until <= now:
        raise EndPassedError(instant_text(command.until), or_none=False)
    if command.until > now + dt.timedelta(days=RAISE_DAYS_MAX):
        raise RaiseTooLongError(RAISE_DAYS_MAX)
    found = books.limits.get(wallet.wallet_id)
    base = WalletLimits() if found is None else found.base
    were = {}
    for name, limit, figure in zip(FIGURES, base, command.figures, strict=True):
        if figure is not None and (limit is None or figure <= limit):
            raise LimitNotRaisedError(
                wallet_id=wallet.wallet_id, asset_code=wallet.asset.code, limit=name, bound=limit, figure=figure
            )
        if figure is not None:
            were[name] = limit
    return Plan((), result={"were": were}, limits=NewLimits(command.figures, command.until))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRaise(Command):
    """Ends a raise of the wallet's limits before its time. `reason` stays in the ledger for ever."""

    kind = "LIMIT_RAISE_END"

    reason: str

    def requested(self) -> Requested:
        return {"reason": self.reason}


def end_raise(books: Books, command: EndRaise) -> Plan:
    """Let what is set hold again, from now on. Raises NothingRaisedError where nothing is raised.

    It is kept as the same raise with an end that has come: so the last raise tells, as ever, what holds.
    """
    wallet = books.wallet(command.wallet_id)
    found = books.limits.get(wallet.wallet_id)
    if found is None or found.more == NO_LIMITS:
        raise NothingRaisedError(wallet.wallet_id)
    now = books.now(wallet.wallet_id)
    return Plan((), result={**found.more._asdict(), "until": instant_text(now)}, limits=NewLimits(found.more, now))


def require_within(books: Books, command: Command, plan: Plan) -> None:
    """Raise LimitExceededError for the first wallet whose limits do not allow what the plan moves."""
    if command.kind not in LIMITED:
        return
    moved: dict[int, tuple[int, int]] = {}
    for entry in plan.entries:
        if entry.wallet_id in books.limits:
            out, in_ = moved.get(entry.wallet_id, (0, 0))
            moved[entry.wallet_id] = (out + max(0, -entry.amount), in_ + max(0, entry.amount))
    for wallet_id, (out, in_) in moved.items():
        _require(books, books.wallets[wallet_id], out=out, in_=in_)


def _require(books: Books, wallet: WalletState, *, out: int, in_: int) -> None:
    limits = books.limits[wallet.wallet_id].now
    most = max(out, in_)
    if limits.single is not None and most > limits.single:
        raise _exceeded(wallet, "single", bound=limits.single, amount=most)
    # What comes in repays first what is owed, and what is held comes back some day.
    has = wallet.balance + wallet.held
    if limits.balance is not None and in_ > out and has + in_ - out - wallet.owed > limits.balance:
        raise _exceeded(wallet, "balance", bound=limits.balance, used=has, amount=in_ - out)
    if out and wallet.wallet_id in books.spent:
        _require_windows(books, wallet, limits, out)


def _require_windows(books: Books, wallet: WalletState, limits: WalletLimits, out: int) -> None:
    """Raise for the window that has room for it last, so that then there is room in both."""
    hours, now, zone = books.spent[wallet.wallet_id], books.now(wallet.wallet_id), wallet.asset.time_zone
    refusals = []
    if limits.day is not None and (used := used_today(hours, now, zone).used) + out > limits.day:
        at = next_day(now, zone) if out <= limits.day else None
        refusals.append(_exceeded(wallet, "day", bound=limits.day, used=used, amount=out, frees_at=at))
    if limits.rolling is not None and (used := used_lately(hours, now).used) + out > limits.rolling:
        at = used_lately(hours, now, used + out - limits.rolling).frees_at if out <= limits.rolling else None
        refusals.append(_exceeded(wallet, "rolling", bound=limits.rolling, used=used, amount=out, frees_at=at))
    if refusals:
        raise max(refusals, key=lambda one: (one.frees_at is None, one.frees_at or now))


def _exceeded(
    wallet: WalletState,
    limit: str,
    *,
    bound: int,
    amount: int,
    used: int | None = None,
    frees_at: dt.datetime | None = None,
) -> LimitExceededError:
    return LimitExceededError(
        wallet_id=wallet.wallet_id,
        asset_code=wallet.asset.code,
        limit=limit,
        bound=bound,
        used=used,
        amount=amount,
        frees_at=frees_at,
        balance=wallet.balance,
        version=wallet.version,
    )
