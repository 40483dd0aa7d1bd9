"""Row locks: the only SELECT ... FOR UPDATE of the service, and the order in which it is taken.

In a database transaction only the first locking statement may wait, and it takes its rows in sorted order; so no two
transactions can each hold what the other waits for. The order among kinds of rows is: request row, wallets, slots.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Integer, Row, Select, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from wallet_app.models import WalletBalance

SLOTS = 16
"""How many postings can add to the same SYSTEM wallet at once."""

LockedBalance = Row[int, int, int, int, bytes, dt.datetime]
"""wallet_id, balance, held, version, chain, updated_at of a locked wallet."""

_SLOT_LOCKS = 7_402_001
"""The advisory locks' first key; the slot's number is the second."""

_WALLETS = (
    select(
        WalletBalance.wallet_id,
        WalletBalance.balance,
        WalletBalance.held,
        WalletBalance.version,
        WalletBalance.chain,
        WalletBalance.updated_at,
    )
    # No join: a joined row would be stale after a wait, only the locked one is read again.
    .where(WalletBalance.wallet_id == func.any(bindparam("wallet_ids", type_=ARRAY(BigInteger))))
    .order_by(WalletBalance.wallet_id)
)
_WAIT = _WALLETS.with_for_update()
_SKIP = _WALLETS.with_for_update(skip_locked=True)

_slot = func.generate_series(0, SLOTS - 1).table_valued(column("slot", Integer), name="slots").render_derived()
_TRY_SLOT = select(_slot.c.slot).where(func.pg_try_advisory_xact_lock(_SLOT_LOCKS, _slot.c.slot)).limit(1)
_WAIT_FOR_SLOT = select(func.pg_advisory_xact_lock(_SLOT_LOCKS, bindparam("slot", type_=Integer)))


def lock_wallets(
    connection: Connection, wallet_ids: Collection[int], *, waits_for: Collection[int] | None = None
) -> Sequence[LockedBalance]:
    """Lock the wallets' balance rows until the end of the unit of work and return them.

    Must be the unit of work's first locking statement. It waits (up to `lock_timeout`) for all rows; or, given
    `waits_for`, only for the rows of these wallets, and then takes of the others those that are free. A wallet that is
    busy, without a balance row, or does not exist is not among the rows returned.
    """
    if waits_for is None:
        return _lock(connection, _WAIT, wallet_ids)
    waited = _lock(connection, _WAIT, waits_for) if waits_for else []
    return [*waited, *_lock(connection, _SKIP, set(wallet_ids).difference(waits_for))]


def _lock(
    connection: Connection, statement: Select[int, int, int, int, bytes, dt.datetime], wallet_ids: Collection[int]
) -> Sequence[LockedBalance]:
    return connection.execute(statement, {"wallet_ids": sorted(set(wallet_ids))}).all() if wallet_ids else []


def take_slot(connection: Connection) -> int:
    """Return a slot of the SYSTEM balances that is this unit of work's alone until its end.

    All wallet locks must be held already: whoever holds a slot waits for nothing any more, so waiting for it here ends.
    """
    slot = connection.execute(_TRY_SLOT).scalar()
    if slot is None:
        slot = random.randrange(SLOTS)  # noqa: S311
        connection.execute(_WAIT_FOR_SLOT, {"slot": slot})
    return int(slot)
