"""Row locks: the only SELECT ... FOR UPDATE of the service, and the order in which it is taken.

In a database transaction only the first locking statement may wait, and it takes its rows in sorted order; so no two
transactions can each hold what the other waits for. The order among kinds of rows is: request row, wallets, slots.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, cast

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import Connection, Select, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import BigInteger

from wallet_app.db import direct
from wallet_app.models import Client, WalletBalance

SLOTS = 16
"""How many postings can add to the same SYSTEM wallet at once."""

LockedBalance = tuple[int, int, int, int, bytes, dt.datetime]
"""wallet_id, balance, held, version, chain, updated_at of a locked wallet."""

_SLOT_LOCKS = 7_402_001
"""The advisory locks' first key; the slot's number is the second."""

_AUDIT_CHAIN_LOCK = 7_402_004

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

_TRY_SLOT = f"""
SELECT slot FROM generate_series(0, {SLOTS - 1}) AS slots (slot)
 WHERE pg_try_advisory_xact_lock({_SLOT_LOCKS}, slot) LIMIT 1
"""  # noqa: S608 - constants
_WAIT_FOR_SLOT = f"SELECT pg_advisory_xact_lock({_SLOT_LOCKS}, %(slot)s)"


def lock_wallets(
    connection: Connection, wallet_ids: Collection[int], *, waits_for: Collection[int] | None = None
) -> Sequence[LockedBalance]:
    """Lock the wallets' balance rows until the end of the unit of work and return them.

    Must be the unit of work's first locking statement. It waits (up to `lock_timeout`) for all rows; or, given
    `waits_for`, only for the rows of these wallets, and then takes of the others those that are free. A wallet that is
    busy, without a balance row, or does not exist is not among the rows returned.
    """
    first = wallet_ids if waits_for is None else waits_for
    others = set(wallet_ids).difference(first)
    # In one round trip with what begins the transaction.
    with direct(connection) as driver, driver.pipeline():
        cursors = [_lock(driver, _WAIT, first)] if first else []
        cursors += [_lock(driver, _SKIP, others)] if others else []
    return [row for cursor in cursors for row in cast(list[LockedBalance], cursor.fetchall())]


def _lock(
    driver: psycopg.Connection[TupleRow], statement: Select[*tuple[Any, ...]], wallet_ids: Collection[int]
) -> psycopg.Cursor[TupleRow]:
    return driver.execute(_sql(statement), {"wallet_ids": sorted(set(wallet_ids))})


def ask_for_slot(driver: psycopg.Connection[TupleRow]) -> psycopg.Cursor[TupleRow]:
    """Ask for a slot of the SYSTEM balances; what comes back is for `take_slot`. All wallet locks must be held."""
    return driver.execute(_TRY_SLOT)


def take_slot(driver: psycopg.Connection[TupleRow], asked: psycopg.Cursor[TupleRow]) -> int:
    """Return a slot of the SYSTEM balances that is this unit of work's alone until its end.

    Whoever holds a slot has all its wallet locks and waits for nothing any more, so waiting for one here ends.
    """
    found = asked.fetchone()
    if found is not None:
        return int(found[0])
    slot = random.randrange(SLOTS)  # noqa: S311
    driver.execute(_WAIT_FOR_SLOT, {"slot": slot})
    return slot


def lock_client(connection: Connection, client_id: int) -> dt.datetime | None:
    """Lock a client's row, so that its keys are counted and changed by one at a time; return since when it is revoked.

    Must be its unit of work's first locking statement.
    """
    statement = select(Client.revoked_at).where(Client.id == client_id).with_for_update()
    revoked_at: dt.datetime | None = connection.execute(statement).scalar_one()
    return revoked_at


def lock_audit_chain(connection: Connection) -> None:
    """Wait until the audit log's chain is this unit of work's alone to extend, until its end. Locks nothing else."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _AUDIT_CHAIN_LOCK})


@cache
def _sql(statement: Select[*tuple[Any, ...]]) -> str:
    """Return the statement as it goes to the driver."""
    return str(statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]
