"""Limits as the administration sets them: for an asset, for a type of users of it, for one wallet.

Each posting reads them with its wallets, under their locks: so a limit that is set bounds, in every process, all that
is locked after it was committed. Nothing that was set is changed: something else is set after it, and the last holds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, text

from wallet_app.db import reads
from wallet_app.errors import AssetNotFoundError, LimitsInvalidError, SystemWalletError, WalletNotFoundError
from wallet_app.models_limits import Limit
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import audit, locks, sessions
from wallet_app.service.audit import Act, By
from wallet_app.service.limits import FIGURES, NO_LIMITS, WalletLimits
from wallet_app.service.queries import PAGE_MAX
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session

USER_TYPES = ("USER",)
"""The types of users that can have limits: what is the system's own has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTarget:
    """For what limits are set: all wallets of an asset, those of a type of users, or one wallet of it."""

    asset_code: str
    user_type: str | None = None
    wallet_id: int | None = None

    @property
    def level(self) -> str:
        """The word for how wide it is: asset, user_type or wallet."""
        if self.wallet_id is not None:
            return "wallet"
        return "asset" if self.user_type is None else "user_type"


class LimitSetting(NamedTuple):
    """What is set for a target, by whom, and since when; all figures None where nothing is any more."""

    level: str
    user_type: str | None
    wallet_id: int | None
    figures: WalletLimits
    set_by: str
    set_at: dt.datetime


def set_limits(target: LimitTarget, figures: WalletLimits, *, by: By, session: Session | None = None) -> bool:
    """Let these limits hold for the target from now on, all of them; tell whether they are other than before.

    `session` is the operator's who does it, if one does. Locks them, then the asset. Raises LimitsInvalidError,
    AssetNotFoundError, WalletNotFoundError, also for a wallet of another asset, SystemWalletError, NotSignedInError,
    OutcomeUnknownError.
    """
    _require_figures(figures)
    if target.wallet_id is not None and target.user_type is not None:
        raise LimitsInvalidError("Choose a wallet or a type of users.", about="user_type")
    if target.user_type is not None and target.user_type not in USER_TYPES:
        raise LimitsInvalidError(f"The types of users are {', '.join(USER_TYPES)}.", about="user_type")
    return repeatable(partial(_set, target=target, figures=figures, by=by, session=session))


@reads
def list_limit_settings(
    connection: Connection, asset_code: str, *, after_wallet_id: int | None = None, limit: int = PAGE_MAX
) -> Sequence[LimitSetting]:
    """Return what holds for the asset and its user types, then for up to `limit` + 1 wallets above `after_wallet_id`.

    The one too many tells that there is a next page. What does not hold any more is left out.
    """
    values = {"code": asset_code, "after": after_wallet_id or 0, "limit": min(limit, PAGE_MAX) + 1}
    found = [_setting(row) for row in connection.execute(_OF_ASSET, values)] if after_wallet_id is None else []
    found += [_setting(row) for row in connection.execute(_OF_WALLETS, values)]
    return found


@reads
def get_limit_setting(connection: Connection, target: LimitTarget) -> LimitSetting | None:
    """Return what holds for the target, None for nothing. Raises as `set_limits` for a target that is not there."""
    asset_id = connection.scalar(text("SELECT id FROM asset_types WHERE code = :code"), {"code": target.asset_code})
    if asset_id is None:
        raise AssetNotFoundError(target.asset_code)
    _require_wallet(connection, target, asset_id)
    found = _last(connection, target, asset_id)
    return None if found is None or found.figures == NO_LIMITS else found


def _set(
    connection: Connection, *, target: LimitTarget, figures: WalletLimits, by: By, session: Session | None
) -> bool:
    if session is not None:
        sessions.require_current(connection, session)
    # So of two who set the same, the later one replaces what the earlier one set, and says so.
    locked = locks.lock_asset(connection, target.asset_code)
    if locked is None:
        raise AssetNotFoundError(target.asset_code)
    asset_id = locked[0]
    _require_wallet(connection, target, asset_id)
    last = _last(connection, target, asset_id)
    before = NO_LIMITS if last is None else last.figures
    if before == figures:
        return False
    columns = dict(zip(("single_max", "balance_max", "day_max", "rolling_max"), figures, strict=True))
    connection.execute(
        insert(Limit).values(
            level=target.level,
            asset_type_id=asset_id,
            user_type=target.user_type,
            wallet_id=target.wallet_id,
            set_by=by.actor,
            **columns,
        )
    )
    whose = {} if target.user_type is None else {"userType": target.user_type}
    subject = f"asset:{target.asset_code}" if target.wallet_id is None else f"wallet:{target.wallet_id}"
    act = Act(
        by=by,
        action="limits:set",
        subject=subject,
        before={**whose, **before._asdict()},
        after={**whose, **figures._asdict()},
    )
    audit.record(connection, act)
    return True


def _require_figures(figures: WalletLimits) -> None:
    for name, figure in zip(FIGURES, figures, strict=True):
        if figure is not None and not (type(figure) is int and 0 <= figure <= AMOUNT_MAX):
            raise LimitsInvalidError(f"A limit must be a whole number from 0 to {AMOUNT_MAX}, or none.", about=name)


def _require_wallet(connection: Connection, target: LimitTarget, asset_id: int) -> None:
    if target.wallet_id is None:
        return
    found = connection.execute(_WALLET, {"wallet_id": target.wallet_id, "asset_id": asset_id}).first()
    if found is None:
        raise WalletNotFoundError(target.wallet_id)
    if found.user_type != "USER":
        raise SystemWalletError(target.wallet_id)


def _last(connection: Connection, target: LimitTarget, asset_id: int) -> LimitSetting | None:
    values = {
        "level": target.level,
        "asset_id": asset_id,
        "user_type": target.user_type,
        "wallet_id": target.wallet_id,
    }
    row = connection.execute(_LAST, values).first()
    return None if row is None else _setting(row)


def _setting(row: Any) -> LimitSetting:
    figures = WalletLimits(row.single_max, row.balance_max, row.day_max, row.rolling_max)
    return LimitSetting(row.level, row.user_type, row.wallet_id, figures, row.set_by, row.set_at)


_WALLET = text("""
SELECT users.user_type
  FROM wallets JOIN users ON users.id = wallets.user_id
 WHERE wallets.id = :wallet_id AND wallets.asset_type_id = :asset_id
""")

_LAST = text("""
SELECT * FROM limits
 WHERE level = :level AND asset_type_id = :asset_id AND user_type IS NOT DISTINCT FROM CAST(:user_type AS text)
   AND wallet_id IS NOT DISTINCT FROM CAST(:wallet_id AS bigint)
 ORDER BY id DESC LIMIT 1
""")

_OF_ASSET = text("""
SELECT * FROM (
       SELECT DISTINCT ON (level, user_type) limits.*
         FROM limits JOIN asset_types ON asset_types.id = limits.asset_type_id
        WHERE asset_types.code = :code AND wallet_id IS NULL
        ORDER BY level, user_type, limits.id DESC
       ) AS last
 WHERE num_nonnulls(single_max, balance_max, day_max, rolling_max) > 0
""")

_OF_WALLETS = text("""
SELECT * FROM (
       SELECT DISTINCT ON (wallet_id) limits.*
         FROM limits JOIN asset_types ON asset_types.id = limits.asset_type_id
        WHERE asset_types.code = :code AND level = 'wallet' AND wallet_id > :after
        ORDER BY wallet_id, limits.id DESC
       ) AS last
 WHERE num_nonnulls(single_max, balance_max, day_max, rolling_max) > 0
 ORDER BY wallet_id LIMIT :limit
""")
