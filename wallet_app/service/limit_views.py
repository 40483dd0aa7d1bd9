"""Reads: a wallet's limits, where each comes from, and what is used of it; by the books that the rules would see."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import snapshot
from wallet_app.errors import SystemWalletError
from wallet_app.service import rules
from wallet_app.service.books import Books
from wallet_app.service.commands import Command, Origin
from wallet_app.service.limits import (
    FIGURES,
    NO_LIMITS,
    NOTHING_USED,
    LimitsOf,
    WalletLimits,
    Window,
    used_lately,
    used_today,
)
from wallet_app.service.permits import Permit
from wallet_app.service.preview import look_at
from wallet_app.service.queries import get_wallet
from wallet_app.service.spending import LIMITS_OF_WALLET

_ORIGIN = Origin(client="system", actor="look")


class RaiseView(NamedTuple):
    """To what a wallet's limits are raised, until when, and by which transaction."""

    figures: WalletLimits
    until: dt.datetime
    transaction_id: uuid.UUID
    set_by: str
    set_at: dt.datetime


class LimitsView(NamedTuple):
    """A wallet's limits as of an instant, and what is used of them, in the asset's smallest unit.

    `set_for` tells of each figure that is limited for what that is set: asset, user_type or wallet; or raise.
    """

    wallet_id: int
    user_id: int
    asset_code: str
    asset_name: str
    asset_scale: int
    time_zone: str
    version: int
    as_of: dt.datetime
    limits: LimitsOf
    set_for: Mapping[str, str]
    raised: RaiseView | None
    total: int
    """What it has, with what is held: what the limit of the balance looks at."""
    day: Window
    rolling: Window


def get_limits(wallet_id: int, *, permit: Permit | None = None) -> LimitsView:
    """Return the wallet's limits and what is used of them, as a command would find it that came now.

    Raises WalletNotFoundError, AssetNotAllowedError, and SystemWalletError: what is the system's has no limits.
    """
    if get_wallet(wallet_id, permit=permit).user_type == "SYSTEM":
        raise SystemWalletError(wallet_id)
    with snapshot() as connection:
        return _get(connection, wallet_id)


def find_limits(wallet_id: int) -> LimitsView | None:
    """Return a user wallet's limits as `get_limits` does; None, after one look-up, where nothing is limited."""
    with snapshot() as connection:
        is_limited = connection.scalar(_IS_LIMITED, {"wallet_id": wallet_id})
        return _get(connection, wallet_id) if is_limited else None


def _get(connection: Connection, wallet_id: int) -> LimitsView:
    books = look_at(connection, [wallet_id])
    # What is due is no more held, and so not spent.
    rules.settle(books, Command(wallet_id=wallet_id, reference="", origin=_ORIGIN))
    wallet, now = books.wallets[wallet_id], books.now(wallet_id)
    limits = books.limits.get(wallet_id) or LimitsOf(NO_LIMITS, NO_LIMITS)
    set_for, raised = _set_for(connection, limits, wallet_id, now) if limits.base != NO_LIMITS else ({}, None)
    day, rolling = _windows(books, wallet_id, now)
    return LimitsView(
        wallet_id=wallet_id,
        user_id=wallet.user_id,
        asset_code=wallet.asset.code,
        asset_name=wallet.asset.name,
        asset_scale=wallet.asset.scale,
        time_zone=wallet.asset.time_zone,
        version=wallet.version,
        as_of=now,
        limits=limits,
        set_for=set_for,
        raised=raised,
        total=wallet.balance + wallet.held,
        day=day,
        rolling=rolling,
    )


def _windows(books: Books, wallet_id: int, now: dt.datetime) -> tuple[Window, Window]:
    hours = books.spent.get(wallet_id)
    if hours is None:
        return NOTHING_USED, NOTHING_USED
    return used_today(hours, now, books.wallets[wallet_id].asset.time_zone), used_lately(hours, now)


def _set_for(
    connection: Connection, limits: LimitsOf, wallet_id: int, now: dt.datetime
) -> tuple[dict[str, str], RaiseView | None]:
    rows = {row.level: row for row in connection.execute(_LEVELS, {"wallet_id": wallet_id})}
    of = {
        level: WalletLimits(row.single_max, row.balance_max, row.day_max, row.rolling_max)
        for level, row in rows.items()
    }
    raised = None
    if (row := rows.get("raise")) is not None and row.until > now:
        raised = RaiseView(of["raise"], row.until, row.transaction_id, row.set_by, row.set_at)
    set_for = {}
    for index, name in enumerate(FIGURES):
        if limits.now[index] is None:
            continue
        if limits.now[index] != limits.base[index]:
            set_for[name] = "raise"
            continue
        levels = ("wallet", "user_type", "asset")
        set_for[name] = next(level for level in levels if level in of and of[level][index] is not None)
    return set_for, raised


def _figures(row: Any) -> WalletLimits:
    return WalletLimits(row.single_max, row.balance_max, row.day_max, row.rolling_max)


_IS_LIMITED = text(f"""
SELECT ({LIMITS_OF_WALLET}) IS NOT NULL FROM wallets JOIN users ON users.id = wallets.user_id
 WHERE wallets.id = :wallet_id
""")  # noqa: S608 - constants

_LEVELS = text("""
SELECT DISTINCT ON (limits.level) limits.*
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN limits ON limits.wallet_id = wallets.id
              OR (limits.wallet_id IS NULL AND limits.asset_type_id = wallets.asset_type_id
                  AND coalesce(limits.user_type, users.user_type) = users.user_type)
 WHERE wallets.id = :wallet_id
 ORDER BY limits.level, limits.id DESC
""")
