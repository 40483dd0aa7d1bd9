"""Exchanges: one asset of a user becomes another one, at a rate, through the Exchange wallets of both."""

from __future__ import annotations

from fractions import Fraction

from wallet_app.errors import ExchangeTooSmallError, NoExchangeRateError, SameWalletError, UserMismatchError
from wallet_app.money import converted, format_rate
from wallet_app.service.books import Books, Plan, WalletState
from wallet_app.service.commands import Exchange
from wallet_app.service.lot_rules import Draft, converted_natures
from wallet_app.service.movements import require_funds, require_room


def exchange(books: Books, command: Exchange) -> Plan:
    """Take the amount, and give what it makes at the rate, rounded down; the rate is kept with the transaction.

    It stays bonus or paid, and keeps its ends. Raises SameWalletError, UserMismatchError, NoExchangeRateError,
    InsufficientBalanceError, ExchangeTooSmallError, BalanceAboveBoundError or TooManyLotsError.
    """
    source, target = books.wallet(command.wallet_id), books.wallet(command.to_wallet_id)
    if source.wallet_id == target.wallet_id:
        raise SameWalletError(source.wallet_id)
    # A user has one wallet of an asset, so two wallets of one user are of two assets.
    if source.user_id != target.user_id:
        raise UserMismatchError((source.wallet_id, target.wallet_id))
    rate = command.rate or _configured(books, source, target)
    require_funds(source, command.amount)
    received = converted(command.amount, rate)
    if received == 0:
        raise ExchangeTooSmallError(
            amount=command.amount, assets=(source.asset.code, target.asset.code), rate=format_rate(rate)
        )
    require_room(target, received)
    draft = Draft(books)
    taken = draft.debit(source.wallet_id, command.kind, command.amount, "Exchange")
    parts = converted_natures(draft.natures(taken), rate)
    given = draft.credit(target.wallet_id, command.kind, "Exchange", parts)
    return Plan((taken, given), result={"rate": [rate.numerator, rate.denominator]})


def _configured(books: Books, source: WalletState, target: WalletState) -> Fraction:
    try:
        return books.rates[source.asset.id, target.asset.id]
    except KeyError:
        raise NoExchangeRateError(source.asset.code, target.asset.code) from None
